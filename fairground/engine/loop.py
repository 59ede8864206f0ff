"""The generation loop: one thread, one model, every running request a row of the same forward pass."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from fairground.engine.blocks import BlockPool, blocks_for
from fairground.engine.compute import compute
from fairground.engine.sampler import Sampler
from fairground.errors import FairgroundError
from fairground.models.decoder import Decoder
from fairground.models.packed import Packed
from fairground.models.tokenizer import Tokenizer
from fairground.types import Completion, FinishReason, Message, Request, Timing, TokenEvent

MOST_RUNNING = 64  # requests that decode together
PREFILL_TOKENS = 2048  # prompt tokens of one forward pass
CONTEXT = 8  # prompt tokens that decide how the first written one is spelt


def is_chat(request: Request) -> bool:
    """Whether the answer is a turn of its own, rather than the rest of a text."""
    return not isinstance(request.prompt, str) and isinstance(request.prompt[0], Message)


class LocalStream:
    """A running request; see fairground.types.Stream."""

    def __init__(self, request: Request, prompt: Sequence[int]) -> None:
        self.request, self.prompt = request, prompt
        self.accepted = time.perf_counter()
        self.cancelled = threading.Event()
        self._events: queue.SimpleQueue[TokenEvent | Completion | BaseException] = queue.SimpleQueue()
        self._seen: list[TokenEvent] = []
        self._end: Completion | BaseException | None = None

    def put(self, event: TokenEvent | Completion | BaseException) -> None:
        """The engine's side: the next token, the end, or what went wrong."""
        self._events.put(event)

    def __iter__(self) -> Iterator[TokenEvent]:
        """Token events as they come; raises what the engine raised."""
        while self._end is None:
            event = self._events.get()
            if isinstance(event, TokenEvent):
                yield event
            else:
                self._end = event
        if isinstance(self._end, BaseException):
            raise self._end

    def completion(self) -> Completion:
        """Waits for the end."""
        for _ in self:
            pass
        assert isinstance(self._end, Completion)
        return self._end

    def cancel(self) -> None:
        """Asks the engine to end the request before its next token."""
        self.cancelled.set()


@dataclass(slots=True)
class _Running:
    """A request with its place in the cache. `tokens` are those it wrote."""

    stream: LocalStream
    sampler: Sampler
    text: TextOut
    table: list[int]
    limit: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens whose keys and values are cached once the newest one is run."""
        return len(self.stream.prompt) + len(self.tokens)


class TextOut:
    """Text as tokens give it, held back while it might be the beginning of a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], before: Sequence[int] = ()) -> None:
        """`before`: the tokens that the text goes on from, which decide whether it begins with a space."""
        self._decoder, self._stop, self._held, self.text, self.stopped = tokenizer.stream(), stop, "", "", False
        for token in before:
            self._decoder.push(token)

    def push(self, token: int) -> str:
        """The text that is certain after this token; sets `stopped` at a stop string, which is left out."""
        return self._release(self._decoder.push(token), final=False)

    def finish(self) -> str:
        """What was still held back."""
        return "" if self.stopped else self._release(self._decoder.finish(), final=True)

    def _release(self, new: str, *, final: bool) -> str:
        self._held += new
        places = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if places:
            out, self._held, self.stopped = self._held[: min(places)], "", True
        else:
            keep = 0 if final else max((_overlap(self._held, stop) for stop in self._stop), default=0)
            cut = len(self._held) - keep
            out, self._held = self._held[:cut], self._held[cut:]
        self.text += out
        return out


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


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
                    self._running.remove(running)
                    compute(self._pool.release, running.table)
                    running.stream.put(error)

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
            new.append(self._begin(stream))
            tokens += len(stream.prompt)
        if new:
            self._running += new
            self._guarded(self._prefill, new)
        return True

    def _begin(self, stream: LocalStream) -> _Running:
        sampling = stream.request.sampling
        known = min(self._tokenizer.vocab_size, self._decoder.config.vocab_size)
        banned = self._tokenizer.eos_ids if sampling.ignore_eos else ()
        room = self._decoder.config.context_length - len(stream.prompt)
        return _Running(
            stream,
            Sampler(sampling, known, stream.prompt, banned),
            TextOut(self._tokenizer, sampling.stop, () if is_chat(stream.request) else stream.prompt[-CONTEXT:]),
            [],
            min(sampling.max_tokens, room),
        )

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
        tokens = torch.tensor([running.tokens[-1] for running in batch])
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
            token, logprob, alternatives = running.sampler.choose(row)
            now = time.perf_counter()
            ended = token in self._tokenizer.eos_ids and not running.stream.request.sampling.ignore_eos
            running.tokens.append(token)
            running.times.append(now)
            if logprob is not None:
                running.logprobs.append(logprob)
            text = "" if ended else running.text.push(token)
            running.stream.put(TokenEvent(token, text, now, logprob, alternatives))
            if ended or running.text.stopped:
                self._finish(running, "stop")
            elif len(running.tokens) >= running.limit:
                self._finish(running, "length")

    def _finish(self, running: _Running, reason: FinishReason) -> None:
        self._running.remove(running)
        self._pool.release(running.table)
        rest = running.text.finish()
        stream = running.stream
        if rest and running.times:
            stream.put(TokenEvent(running.tokens[-1], rest, running.times[-1]))
        timing = Timing(stream.accepted, tuple(running.times))
        stream.put(
            Completion(
                running.text.text, tuple(running.tokens), reason, len(stream.prompt), timing, tuple(running.logprobs)
            )
        )
