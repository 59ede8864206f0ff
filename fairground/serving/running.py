"""Requests on their way: taken in up to a bound, followed from a coroutine, and ended where nobody waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from fairground.serving.logprobs import scored, token_level
from fairground.serving.metrics import Metrics
from fairground.serving.refusals import Refusal
from fairground.types import Completion, Generator, Request, Sampling, Stream, TokenEvent, TokenScore

RETRY_AFTER = 1  # seconds that a client is asked to wait where the server is full

Event = TokenEvent | Completion


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask, and what the server bears.

    `body_bytes` of a request; `choices` of a request, prompts times n; `stops` strings; `max_tokens` of a model whose
    context has no end; `running` choices at a time, of all clients: those that are computed and those that wait.
    """

    body_bytes: int = 4_000_000
    choices: int = 128
    stops: int = 16
    max_tokens: int = 32_768
    running: int = 512


class Running:
    """The requests of all clients. Belongs to one event loop."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self.count = 0
        self.draining = False
        self._ended = asyncio.Event()

    def drain(self) -> None:
        """Takes nothing more in."""
        self.draining = True

    def end(self) -> None:
        """Ends what still runs: its clients are told."""
        self.draining = True
        self._ended.set()

    @contextmanager
    def place(self, count: int) -> Iterator[None]:
        """Room for `count` answers while the block runs. Raises Refusal where the server is full or about to stop."""
        if count > self.limits.choices:
            most = f"but the most is {self.limits.choices}; ask in several requests."
            raise Refusal(400, f"This asks for {count:,} answers at once, {most}", param="n")
        if self.draining:
            raise Refusal(503, "The server is stopping and takes nothing more; try another one.")
        if self.count + count > self.limits.running:
            full = f"The server is full: {self.count} answers are being written or wait; try again soon."
            raise Refusal(429, full, code="rate_limit_exceeded", retry_after=RETRY_AFTER)
        self.count += count
        try:
            yield
        finally:
            self.count -= count

    def _check(self, model: Generator, sampling: Sampling) -> None:
        limits = self.limits
        if len(sampling.stop) > limits.stops:
            most = f"but the most is {limits.stops}; leave some out."
            raise Refusal(400, f"stop has {len(sampling.stop):,} strings, {most}", param="stop")
        if model.info.can.context_length is None and sampling.max_tokens > limits.max_tokens:
            most = f"but the most is {limits.max_tokens:,}; ask for fewer."
            raise Refusal(400, f"max_tokens is {sampling.max_tokens:,}, {most}", param="max_tokens")
        if sampling.logprobs is not None:
            token_level(model)

    async def follow(self, model: Generator, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Event]]:
        """The events of all requests as they come, each with the request's number; a Completion ends each.

        Where the caller goes away, every stream is cancelled. Raises Refusal for what is not taken in and where the
        server stops in the meantime, and what a stream raised.
        """
        self._check(model, requests[0].sampling)
        events: asyncio.Queue[tuple[int, Event | BaseException]] = asyncio.Queue()
        streams: list[Stream] = []
        with self.place(len(requests)):
            stopping = asyncio.ensure_future(self._ended.wait())
            try:
                for number, request in enumerate(requests):
                    streams.append(await run_in_threadpool(model.submit, request))
                    _pump(number, streams[-1], events, asyncio.get_running_loop())
                left = len(requests)
                while left:
                    waiting = asyncio.ensure_future(events.get())
                    await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    if not waiting.done():
                        waiting.cancel()
                        raise Refusal(503, "The server stopped before this answer was whole; ask another one.")
                    number, event = waiting.result()
                    if isinstance(event, BaseException):
                        raise event
                    if isinstance(event, Completion):
                        left -= 1
                        self.metrics.finished(model.info.name, event)
                    yield number, event
            finally:
                stopping.cancel()
                for stream in streams:
                    stream.cancel()


def _pump(
    number: int,
    stream: Stream,
    events: asyncio.Queue[tuple[int, Event | BaseException]],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Hands a stream's events, which block, over to a coroutine's queue from a thread of its own."""

    def tell(event: Event | BaseException) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(events.put_nowait, (number, event))

    def work() -> None:
        try:
            for event in stream:
                tell(event)
            tell(stream.completion())
        except Exception as error:
            tell(error)

    threading.Thread(target=work, name="fairground-stream", daemon=True).start()


@dataclass(frozen=True, slots=True)
class Written:
    """A finished answer, and what each of its tokens says of itself, where that was asked for."""

    completion: Completion
    scores: Sequence[TokenScore]


async def whole(events: AsyncIterator[tuple[int, Event]], count: int) -> list[Written]:
    """All answers, in the requests' order."""
    scores: list[list[TokenScore]] = [[] for _ in range(count)]
    found: dict[int, Written] = {}
    async for number, event in events:
        if isinstance(event, Completion):
            found[number] = Written(event, scores[number])
        elif (score := scored(event)) is not None:
            scores[number].append(score)
    return [found[number] for number in range(count)]
