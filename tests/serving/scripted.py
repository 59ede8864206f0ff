"""What the tests serve: a tiny model, and one whose every token waits for the test."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI
from openai import OpenAI

from fairground.engine.local import LocalGenerator
from fairground.serving.running import Limits
from fairground.serving.server import Server, listen
from fairground.types import (
    Capabilities,
    Completion,
    ModelInfo,
    Request,
    Score,
    ScoreRequest,
    Timing,
    TokenEvent,
)

LIMITS = Limits(body_bytes=100_000, choices=8, stops=4, max_tokens=1000, running=8)


@dataclass
class Scripted:
    """Writes "word " once for every permit that the test gives, and remembers what was cancelled."""

    permits: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    streams: list[ScriptedStream] = field(default_factory=list)
    fails: BaseException | None = None
    info: ModelInfo = field(default_factory=lambda: ModelInfo("scripted", "test", 0, "none", 0, can=Capabilities()))

    def submit(self, request: Request) -> ScriptedStream:
        self.streams.append(ScriptedStream(self, request.sampling.max_tokens))
        return self.streams[-1]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        raise AssertionError("nothing is scored here")

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        pass


class ScriptedStream:
    def __init__(self, owner: Scripted, count: int) -> None:
        self.owner, self.count, self.written = owner, count, 0
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[TokenEvent]:
        while self.written < self.count and not self.cancelled.is_set():
            if self.owner.permits.acquire(timeout=0.01):
                if self.owner.fails:
                    raise self.owner.fails
                self.written += 1
                yield TokenEvent(self.written, "word ", time.perf_counter())

    def completion(self) -> Completion:
        for _ in self:
            pass
        reason = "cancelled" if self.cancelled.is_set() else "length"
        times = tuple(float(n) for n in range(self.written))
        return Completion("word " * self.written, tuple(range(self.written)), reason, 3, Timing(math.nan, times))

    def cancel(self) -> None:
        self.cancelled.set()


@dataclass
class Served:
    """A running server, and what it serves."""

    url: str
    app: FastAPI
    local: LocalGenerator
    local_folder: Path
    scripted: Scripted

    def client(self, **settings: object) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", **{"max_retries": 0, **settings})  # type: ignore[arg-type]


def until(true: object, seconds: float = 5.0) -> None:
    """Waits for a function to give something true, and fails where it does not."""
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The app behind a free port of the loopback, which is its address."""
    with listen("127.0.0.1", 0) as bound:
        server = Server(app, shutdown_timeout=5)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        until(lambda: server.started, 30)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=10)
    assert not thread.is_alive()
