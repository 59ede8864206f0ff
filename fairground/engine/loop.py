"""The generation loop: schedule, run, choose; one thread, one model, all of its requests in the same passes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fairground.engine.answer import Answer, LocalStream
from fairground.engine.compute import compute
from fairground.engine.runner import Runner
from fairground.engine.scheduler import Scheduler, Text
from fairground.errors import EngineError, FairgroundError
from fairground.models.tokenizer import Tokenizer


@dataclass(slots=True, eq=False, kw_only=True)
class _Job(Text):
    """A text, and the answer that is being written on it."""

    answer: Answer


class Loop:
    """Runs requests until closed; every pass is a job of the compute thread.

    A pass that raises breaks the loop: every request ends with an EngineError, and so does every later one.
    """

    def __init__(self, runner: Runner, scheduler: Scheduler, tokenizer: Tokenizer) -> None:
        self._runner, self._scheduler, self._tokenizer = runner, scheduler, tokenizer
        self._new: queue.SimpleQueue[LocalStream | None] = queue.SimpleQueue()
        self._jobs: list[_Job] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._starting = threading.Lock()
        self.broken: EngineError | None = None

    def submit(self, stream: LocalStream) -> None:
        """Queues a request; the thread starts with the first. Raises EngineError where the loop is broken."""
        with self._starting:
            if self.broken:
                raise self.broken
            if self._closed:
                raise FairgroundError("The model was closed; load it again to use it.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fairground-engine", daemon=True)
                self._thread.start()
            self._new.put(stream)

    def close(self) -> None:
        """Cancels what runs and ends the thread."""
        with self._starting:
            self._closed = True
            self._new.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        error: FairgroundError = FairgroundError("The model was closed before the request was run.")
        try:
            while self._admit():
                compute(self._step)
        except Exception as raised:
            error = EngineError(
                f"The engine stopped at an error of its own ({type(raised).__name__}: {raised}); load the model again."
            )
            error.__cause__ = raised
            with self._starting:
                self.broken = error
        for job in list(self._jobs):
            compute(self._drop, job)
            if self.broken:
                job.answer.stream.put(error)
            else:
                job.answer.end("cancelled")
        with self._starting:
            while not self._new.empty():
                late = self._new.get()
                if late is not None:
                    late.put(error)

    def _admit(self) -> bool:
        """Takes new requests in, blocking where nothing else is to do. False: closed."""
        while True:
            try:
                stream = self._new.get(block=not self._jobs)
            except queue.Empty:
                return True
            if stream is None:
                return False
            config = self._runner.decoder.config
            room = config.context_length - len(stream.prompt)
            job = _Job(
                list(stream.prompt),
                client=stream.request.client,
                exact=stream.request.exact,
                answer=Answer(stream, self._tokenizer, config.vocab_size, room),
            )
            self._jobs.append(job)
            self._scheduler.add(job)

    def _step(self) -> None:
        for job in [job for job in self._jobs if job.answer.stream.cancelled.is_set()]:
            self._drop(job)
            job.answer.end("cancelled")
        chunks = self._scheduler.schedule()
        if chunks:
            logits = self._runner.run(chunks)
            whole = [chunk.text for chunk in chunks if chunk.whole]
            self._scheduler.ran(chunks)
            self._advance(whole, logits)

    def _advance(self, texts: Sequence[Text], logits: Tensor) -> None:
        """Chooses each text's next token, tells its stream, and ends those that are done."""
        best = logits[:, : min(self._tokenizer.vocab_size, logits.shape[1])].argmax(-1).tolist()
        for job, row, likeliest in zip(texts, logits, best, strict=True):
            assert isinstance(job, _Job)
            try:
                job.answer.cached_tokens = job.reused or 0
                reason = job.answer.add(row, likeliest)
            except Exception as error:
                self._drop(job)
                job.answer.stream.put(error)
                continue
            job.tokens.append(job.answer.tokens[-1])
            if reason:
                self._drop(job)
                job.answer.end(reason)

    def _drop(self, job: _Job) -> None:
        self._jobs.remove(job)
        self._scheduler.remove(job)
