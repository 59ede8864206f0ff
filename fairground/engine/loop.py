"""The generation loop: one thread, one model, every running request a row of the same forward pass."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from fairground.engine.answer import Answer, LocalStream
from fairground.engine.blocks import BlockPool, blocks_for
from fairground.engine.compute import compute
from fairground.errors import FairgroundError
from fairground.models.decoder import Decoder
from fairground.models.packed import Packed
from fairground.models.tokenizer import Tokenizer
from fairground.types import FinishReason

MOST_RUNNING = 64  # requests that decode together
PREFILL_TOKENS = 2048  # prompt tokens of one forward pass


@dataclass(slots=True)
class _Running:
    """An answer with its place in the cache."""

    answer: Answer
    table: list[int] = field(default_factory=list)

    @property
    def stream(self) -> LocalStream:
        return self.answer.stream

    @property
    def length(self) -> int:
        """Tokens whose keys and values are cached once the newest one is run."""
        return len(self.stream.prompt) + len(self.answer.tokens)


class Loop:
    """Runs requests until closed; every pass is a job of the compute thread."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, pool: BlockPool, *, exact: bool) -> None:
        self._decoder, self._tokenizer, self._pool, self._exact = decoder, tokenizer, pool, exact
        self._waiting: queue.SimpleQueue[LocalStream | None] = queue.SimpleQueue()
        self._running: list[_Running] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._starting = threading.Lock()

    def submit(self, stream: LocalStream) -> None:
        """Queues a request; the thread starts with the first."""
        with self._starting:
            if self._closed:
                raise FairgroundError("The model was closed; load it again to use it.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fairground-engine", daemon=True)
                self._thread.start()
            self._waiting.put(stream)

    def close(self) -> None:
        """Cancels what runs and ends the thread."""
        with self._starting:
            self._closed = True
            self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        open_ = True
        while open_ or self._running:
            open_ = self._admit() and open_
            self._guarded(self._step, list(self._running))
        while not self._waiting.empty():
            late = self._waiting.get()
            if late is not None:
                late.put(FairgroundError("The model was closed before the request was run."))

    def _guarded(self, job: Callable[[list[_Running]], None], batch: list[_Running]) -> None:
        """Runs a job; if it raises, its requests end with that error, and the loop goes on."""
        try:
            compute(job, batch)
        except Exception as error:
            for running in batch:
                if running in self._running:
                    compute(self._fail, running, error)

    def _admit(self) -> bool:
        """Takes waiting requests in, blocking where nothing else is to do, and runs their prompts. False: closed."""
        new: list[_Running] = []
        tokens = 0
        while len(self._running) + len(new) < MOST_RUNNING and tokens < PREFILL_TOKENS:
            try:
                stream = self._waiting.get(block=not self._running and not new)
            except queue.Empty:
                break
            if stream is None:
                for running in (*self._running, *new):
                    running.stream.cancel()
                self._running += new
                return False
            begun = self._begin(stream)
            if stream.cancelled.is_set():
                begun.answer.end("cancelled")
                continue
            new.append(begun)
            tokens += len(stream.prompt)
        if new:
            self._running += new
            self._guarded(self._prefill, new)
        return True

    def _begin(self, stream: LocalStream) -> _Running:
        config = self._decoder.config
        return _Running(Answer(stream, self._tokenizer, config.vocab_size, config.context_length - len(stream.prompt)))

    def _prefill(self, new: list[_Running]) -> None:
        for running in new:
            running.table = self._pool.take(blocks_for(len(running.stream.prompt)))
        packed = Packed.of([len(running.stream.prompt) for running in new])
        tokens = torch.tensor([token for running in new for token in running.stream.prompt])
        hidden = self._forward(tokens, packed, new)
        self._advance(new, self._logits(hidden[[stop - 1 for stop in packed.starts[1:]]]))

    def _step(self, batch: list[_Running]) -> None:
        for running in batch:
            if running.stream.cancelled.is_set():
                self._finish(running, "cancelled")
        batch = list(self._running)
        if not batch:
            return
        for running in batch:
            if blocks_for(running.length) > len(running.table):
                running.table += self._pool.take(1)
        packed = Packed.of([1] * len(batch), [running.length - 1 for running in batch])
        tokens = torch.tensor([running.answer.tokens[-1] for running in batch])
        self._advance(batch, self._logits(self._forward(tokens, packed, batch)))

    def _forward(self, tokens: torch.Tensor, packed: Packed, batch: Sequence[_Running]) -> torch.Tensor:
        pages = self._pool.view([running.table for running in batch])
        hidden: torch.Tensor = self._decoder(tokens.to(self._decoder.device), packed, pages, exact=self._exact)
        return hidden

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._decoder.logits(hidden, exact=self._exact)

    def _advance(self, batch: Sequence[_Running], logits: torch.Tensor) -> None:
        """Chooses each request's next token, tells its stream, and ends those that are done."""
        for running, row in zip(batch, logits, strict=True):
            try:
                reason = running.answer.add(row)
            except Exception as error:
                self._fail(running, error)
                continue
            if reason:
                self._finish(running, reason)

    def _fail(self, running: _Running, error: Exception) -> None:
        self._running.remove(running)
        self._pool.release(running.table)
        running.stream.put(error)

    def _finish(self, running: _Running, reason: FinishReason) -> None:
        self._running.remove(running)
        self._pool.release(running.table)
        running.answer.end(reason)
