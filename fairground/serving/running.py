"""Requests on their way: taken in up to a bound, followed from a coroutine, and ended where nobody waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fairground.serving.logprobs import scored, token_level
from fairground.serving.metrics import Metrics
from fairground.serving.refusals import Refusal
from fairground.types import (
    Completion,
    Generator,
    Listened,
    Request,
    Sampling,
    Stream,
    StreamEvent,
    TokenEvent,
    TokenScore,
)

RETRY_AFTER = 1  # seconds that a client is asked to wait where the server is full

Event = TokenEvent | Completion
Tell = Callable[[StreamEvent], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask, and what the server bears.

    `body_bytes` of a request; `choices` of a request, prompts times n; `stops` strings; `max_tokens` of a model whose
    context has no end; `scored_tokens` of all prompts of a request that are scored; `running` choices at a time, of all
    clients: those that are computed and those that wait; `share` of these may be one client's, so that there is room
    for another. `unread` tokens of a request that its client has not taken yet. `per_minute` requests of a client: of a
    key, or of an address where there are no keys.
    """

    body_bytes: int = 4_000_000
    choices: int = 128
    stops: int = 16
    max_tokens: int = 32_768
    scored_tokens: int = 262_144
    running: int = 512
    share: float = 0.75
    unread: int = 16_384
    per_minute: int | None = None


class Running:
    """The requests of all clients. Belongs to one event loop."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self.count = 0
        self.draining = False
        self._by_client: Counter[str] = Counter()
        self._queues: set[asyncio.Queue[tuple[int, Event | BaseException]]] = set()
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._woken = False

    def drain(self) -> None:
        """Takes nothing more in."""
        self.draining = True

    def end(self) -> None:
        """Ends what still runs: its clients are told."""
        self.draining = True
        for queue in self._queues:
            queue.put_nowait((0, Refusal(503, "The server stopped before this answer was whole; ask another one.")))

    def check(self, model: Generator, sampling: Sampling, choices: int) -> None:
        """Raises Refusal for more than one client may ask, CapabilityError for what the model does not tell."""
        limits = self.limits
        if choices > limits.choices:
            most = f"but the most is {limits.choices}; ask in several requests."
            raise Refusal(400, f"This asks for {choices:,} answers at once, {most}", param="n")
        if len(sampling.stop) > limits.stops:
            most = f"but the most is {limits.stops}; leave some out."
            raise Refusal(400, f"stop has {len(sampling.stop):,} strings, {most}", param="stop")
        if model.info.can.context_length is None and sampling.max_tokens > limits.max_tokens:
            most = f"but the most is {limits.max_tokens:,}; ask for fewer."
            raise Refusal(400, f"max_tokens is {sampling.max_tokens:,}, {most}", param="max_tokens")
        if sampling.logprobs is not None or sampling.logit_bias:
            token_level(model)

    def take(self, client: str, count: int) -> None:
        """Room for `count` answers of a client, until `give_back`.

        Raises Refusal where the server is full, or full of this client's, or about to stop.
        """
        if self.draining:
            raise Refusal(503, "The server is stopping and takes nothing more; try another one.")
        own, limits, full = self._by_client[client], self.limits, None
        if self.count + count > limits.running:
            full = f"The server is full: {self.count} answers are being written or wait; try again soon."
        elif own and own + count > limits.share * limits.running:
            full = f"{own} answers of yours are being written or wait, and others want room too; try again soon."
        if full:
            raise Refusal(429, full, code="rate_limit_exceeded", retry_after=RETRY_AFTER)
        self.count += count
        self._by_client[client] += count

    def give_back(self, client: str, count: int = 1) -> None:
        """Frees what `take` took."""
        self.count -= count
        self._by_client[client] -= count
        if not self._by_client[client]:
            del self._by_client[client]

    async def follow(self, model: Generator, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Event]]:
        """The events of all requests as they come, each with the request's number; a Completion ends each.

        All are of one client. Where the caller goes away, every stream is cancelled; its room is free once it has
        really ended. Raises Refusal for what is not taken in, for a client that leaves too much unread, and where the
        server stops in the meantime; and what a stream raised.
        """
        client = requests[0].client
        self.check(model, requests[0].sampling, len(requests))
        self.take(client, len(requests))
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[tuple[int, Event | BaseException]] = asyncio.Queue()
        self._queues.add(events)

        call = partial(self._call, loop)

        def put(number: int, event: Event | BaseException) -> None:
            if events.qsize() == self.limits.unread:  # its client is told if it ever reads so far
                events.put_nowait((number, Refusal(503, "What was written was not read, so no more is; ask again.")))
            if events.qsize() > self.limits.unread:
                for one in writing:
                    one.cancel()
            else:
                events.put_nowait((number, event))

        def tell(number: int) -> Tell:
            return lambda event: call(put, number, event)

        writing = [
            _Writing(model, request, tell(number), lambda: call(self.give_back, client))
            for number, request in enumerate(requests)
        ]
        left = len(requests)
        try:
            while left:
                number, event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, Completion):
                    left -= 1
                    self.metrics.finished(model.info.name, event)
                yield number, event
        finally:
            self._queues.discard(events)
            for one in writing:
                one.cancel()

    def _call(self, loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
        """Calls the function in the event loop, from any thread; what comes together wakes the loop once."""
        self._calls.append((function, arguments))
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False  # before the calls are taken, so that one that comes later wakes the loop again
        while self._calls:
            function, arguments = self._calls.popleft()
            function(*arguments)


class _Writing:
    """One stream. To submit it blocks, and so does waiting for its tokens where it cannot be listened to: a thread."""

    def __init__(self, model: Generator, request: Request, tell: Tell, ended: Callable[[], None]) -> None:
        self._model, self._request, self._tell, self._ended = model, request, tell, ended
        self._gone = threading.Event()
        self._stream: Stream | None = None
        threading.Thread(target=self._work, name="fairground-stream", daemon=True).start()

    def cancel(self) -> None:
        """Ends the stream within a token, or before its first one."""
        self._gone.set()
        if self._stream is not None:
            self._stream.cancel()

    def _work(self) -> None:
        try:
            stream = self._stream = self._model.submit(self._request)
            if self._gone.is_set():  # while it was submitted, when there was nothing to cancel yet
                stream.cancel()
            if isinstance(stream, Listened):
                stream.listen(self._heard)
                return
            for event in stream:
                self._tell(event)
            self._tell(stream.completion())
        except Exception as error:
            self._tell(error)
        self._ended()

    def _heard(self, event: StreamEvent) -> None:
        self._tell(event)
        if not isinstance(event, TokenEvent):
            self._ended()


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
