"""Models that are no models: each writes what it is told to, as fast or as slowly as the test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fairground.errors import RequestError
from fairground.evaluation.energy import meter
from fairground.types import Capabilities, Completion, ModelInfo, Request, Score, ScoreRequest, Timing, TokenEvent
from fairground.web.models import Offer


@dataclass
class Writer:
    """Writes `text`, a word a token. `dies_after` so many it breaks down; with `gate`, each waits for a permit."""

    name: str
    text: str = "The **sky** is blue."
    dies_after: int | None = None
    gate: threading.Semaphore | None = None
    pause: float = 0.0
    longest: int = 1_000_000  # characters of a prompt
    seen: list[Request] = field(default_factory=list)
    broken: str | None = None
    closed: bool = False

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(self.name, "Tree", 1_500_000_000, "float32", 0, "Apache-2.0", Capabilities())

    def submit(self, request: Request) -> Written:
        self.seen.append(request)
        if len(str(request.prompt)) > self.longest:
            raise RequestError(f"{self.name} sees {self.longest} characters; shorten the prompt.")
        return Written(self, request.sampling.max_tokens)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        raise AssertionError("nothing is scored here")

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        self.closed = True


class Written:
    def __init__(self, writer: Writer, most: int) -> None:
        words = writer.text.split(" ")
        self._pieces = [word if not at else f" {word}" for at, word in enumerate(words)]
        self._cut = len(self._pieces) > most
        self._pieces, self._writer = self._pieces[:most], writer
        self._accepted = time.perf_counter()
        self._came: list[tuple[str, float]] = []
        self._cancelled = threading.Event()

    def __iter__(self) -> Iterator[TokenEvent]:
        for number, piece in enumerate(self._pieces[len(self._came) :]):
            if number == self._writer.dies_after:
                raise RuntimeError(f"{self._writer.name} broke down")
            while self._writer.gate and not self._writer.gate.acquire(timeout=0.01) and not self._cancelled.is_set():
                pass
            if self._cancelled.wait(self._writer.pause):
                return
            self._came.append((piece, time.perf_counter()))
            yield TokenEvent(number, piece, self._came[-1][1])

    def completion(self) -> Completion:
        for _ in self:
            pass
        text, times = "".join(piece for piece, _ in self._came), tuple(at for _, at in self._came)
        reason = "cancelled" if self._cancelled.is_set() else "length" if self._cut else "stop"
        return Completion(text, tuple(range(len(times))), reason, 3, Timing(self._accepted, times))

    def cancel(self) -> None:
        self._cancelled.set()


def offers(*writers: Writer) -> list[Offer]:
    return [Offer(writer.name, lambda writer=writer: writer, meter("cpu"), "Forest Lab") for writer in writers]
