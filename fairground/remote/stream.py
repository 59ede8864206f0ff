"""One running request: chunks in, token events out."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2

from fairground.errors import BrokenAnswer, RemoteError
from fairground.remote.chunks import DONE, Chunk, parse, server_sent
from fairground.remote.transport import RefusedError, Server, StoppedError
from fairground.types import Completion, FinishReason, Request, Timing, TokenEvent

UNKNOWN = -1  # the id of every token: servers send text
_LENGTH = {"length", "max_tokens", "model_length"}
_BROKEN = {"error", "abort", "network_error"}


class RemoteStream:
    """A running request; see fairground.types.Stream. Every token's id is -1, since servers send text.

    Each chunk of the server becomes one event, and where a chunk says that it holds several tokens (it has several
    log-probabilities), as many events, the text in the last. The completion has as many tokens and times as the
    server's usage counts, which is what speed is measured by; where that differs from the number of chunks, the chunks'
    times are spread evenly over the tokens, the first and the last kept. Without usage every event counts as one token.

    The timing begins with the attempt that was answered: neither queueing here nor a retry's wait is the model's.
    """

    def __init__(self, request: Request, prompt_estimate: int) -> None:
        """`prompt_estimate`: what `prompt_tokens` is if the server does not say."""
        self.request = request
        self.stop = threading.Event()
        self._accepted = time.perf_counter()
        self._events: queue.SimpleQueue[TokenEvent | None] = queue.SimpleQueue()
        self._end: Completion | BaseException | None = None
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._texts: list[str] = []
        self._times: list[float] = []
        self._logprobs: list[float] = []
        self._finish: str | None = None
        self._prompt_tokens = prompt_estimate
        self._output_tokens: int | None = None
        self._hidden = 0
        self._reasoned = False

    def __iter__(self) -> Iterator[TokenEvent]:
        """Token events as they come. Raises RemoteError, or RequestError where the server refuses the request."""
        while (event := self._events.get()) is not None:
            yield event
        self._events.put(None)  # for whoever iterates next
        if isinstance(self._end, BaseException):
            raise self._end

    def completion(self) -> Completion:
        """Waits for the end. Raises as iterating does."""
        for _ in self:
            pass
        assert isinstance(self._end, Completion)
        return self._end

    def cancel(self) -> None:
        """Ends the stream at once and closes the connection.

        While the server has not begun to answer there is nothing to close: then the connection is given up as soon as
        it does.
        """
        self.stop.set()
        with self._lock:
            self._finish_with(self._completion("cancelled"))
            if self._socket is not None:
                # Closing a socket does not wake the thread that reads it; shutting it down does. The base class's
                # method leaves the TLS object alone, which that thread is using.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                self._socket = None

    def run(self, server: Server, path: str, body: dict[str, Any]) -> None:
        """The worker's side: asks, reads to the end, and tells the reader's side what went wrong."""
        try:
            self.ask(server, path, body)
        except StoppedError:
            pass
        except RefusedError as refused:
            self._fail(refused.error)
        except BaseException as error:
            self._fail(error)

    def ask(self, server: Server, path: str, body: dict[str, Any]) -> None:
        """As `run`, but raises what went wrong: RefusedError, StoppedError or RemoteError."""
        url = f"{server.address.base}/{path}"
        server.retrying(lambda: self._attempt(server, url, body), stop=self.stop, begun=lambda: bool(self._times))

    def _attempt(self, server: Server, url: str, body: dict[str, Any]) -> None:
        self._accepted = time.perf_counter()
        with server.open("POST", url, body) as response:
            if not self._attach(response):
                raise StoppedError
            try:
                self._read(response.iter_raw(), server)
            finally:
                with self._lock:
                    self._socket = None

    def _attach(self, response: httpx2.Response) -> bool:
        """Keeps the connection where `cancel` finds it; False if that was called already."""
        network = response.extensions.get("network_stream")
        with self._lock:
            self._socket = None if network is None else network.get_extra_info("socket")
        return not self.stop.is_set()

    def _read(self, received: Iterable[bytes], server: Server) -> None:
        most = 4096 + 64 * self.request.sampling.max_tokens
        for data in server_sent(received, server):
            if self._end is not None:
                continue  # read to the end, so that the connection can be used again
            if data == DONE:
                self._done(server)
                continue
            chunk = parse(data, server)
            self._take(chunk, time.perf_counter())
            if len(self._times) > most:
                raise RemoteError(f"{server.address.host} wrote on without an end, so the answer was given up.")
        if self._end is None and self._finish is None:
            if self.stop.is_set():
                raise StoppedError
            raise BrokenAnswer(f"{server.address.host} ended its answer in the middle; try again.")
        self._done(server)

    def _take(self, chunk: Chunk, now: float) -> None:
        with self._lock:
            self._finish = chunk.finish or self._finish
            self._reasoned |= chunk.reasoning
            if chunk.prompt_tokens is not None:
                self._prompt_tokens = chunk.prompt_tokens
            if chunk.output_tokens is not None:
                self._output_tokens, self._hidden = chunk.output_tokens, chunk.hidden_tokens
            self._texts.append(chunk.text)
            wanted = self.request.sampling.logprobs
            events = [
                TokenEvent(UNKNOWN, "", now, logprob, tuple((UNKNOWN, each) for each in alternatives[:wanted]))
                for logprob, alternatives in chunk.logprobs
            ]
            self._logprobs += [logprob for logprob, _ in chunk.logprobs]
            if events:
                last = events.pop()
                events.append(TokenEvent(UNKNOWN, chunk.text, now, last.logprob, last.alternatives))
            elif chunk.text or chunk.reasoning:
                events = [TokenEvent(UNKNOWN, chunk.text, now)]
            self._times += [now] * len(events)
            if self._end is None:
                for event in events:
                    self._events.put(event)

    def _done(self, server: Server) -> None:
        if self._finish in _BROKEN:
            raise BrokenAnswer(f"{server.address.host} ended its answer with an error; try again.")
        # Whatever else ended it (a filter, a tool call, a stop token by another name), the model did not run out of
        # tokens. A server that says nothing gets the same benefit: [DONE] alone is an ordered end.
        reason: FinishReason = "length" if self._finish in _LENGTH else "stop"
        with self._lock:
            self._finish_with(self._completion(reason))

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._finish_with(error)

    def _finish_with(self, end: Completion | BaseException) -> None:
        """The first end counts. Called with the lock held."""
        if self._end is None:
            self._end = end
            if not self.stop.is_set():
                self._socket = None  # another request may have it next, so nobody shuts it down now
            self._events.put(None)

    def _completion(self, reason: FinishReason) -> Completion:
        count = len(self._times)
        if self._output_tokens:
            # Reasoning that was not shown took its time before the first token, and is no part of the pace after it.
            count = max(self._output_tokens - (0 if self._reasoned else self._hidden), 0) or count
        return Completion(
            text="".join(self._texts),
            tokens=(UNKNOWN,) * count,
            finish_reason=reason,
            prompt_tokens=self._prompt_tokens,
            timing=Timing(self._accepted, spread(self._times, count)),
            logprobs=tuple(self._logprobs),
        )


def spread(times: list[float], count: int) -> tuple[float, ...]:
    """`count` times, the first and the last of `times` among them and the others evenly from between."""
    if not times or count <= 1:
        return tuple(times[:count])
    return tuple(times[round(i * (len(times) - 1) / (count - 1))] for i in range(count))
