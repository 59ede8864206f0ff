"""HTTP to one server: who sees the key, retries, time-outs, and refusals put into sentences."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2

from fairground import __version__
from fairground.errors import BrokenAnswer, FairgroundError, RemoteError, RequestError, UnknownModel
from fairground.remote.address import FORM, Address, find_key

ATTEMPTS = 4
FIRST_WAIT_S = 0.5  # doubled after each failure
LONGEST_WAIT_S = 60.0  # a server that asks for more is not waited for
MOST_BYTES = 64 << 20  # of a whole answer, and of one line of a streamed one
_MOST_QUOTED = 200  # characters of a server's own words
T = TypeVar("T")


class RefusedError(Exception):
    """The server understood and said no; asking again would not help. `error` is what the user is told."""

    def __init__(self, status: int, said: str, error: FairgroundError) -> None:
        super().__init__(str(error))
        self.status, self.said, self.error = status, said, error


class GaveUpError(RemoteError):
    """A failure that did not pass; `status` is what the server last answered, None where it could not be reached."""

    def __init__(self, sentence: str, status: int | None) -> None:
        super().__init__(sentence)
        self.status = status


class StoppedError(Exception):
    """Nobody wants the answer any more."""


class TransientError(Exception):
    """A failure that may pass."""

    def __init__(self, reason: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status, self.retry_after = status, retry_after


class Server:
    """Connections to one server. Methods may be called from several threads at once.

    The key goes to the address alone: no redirect is followed, no .netrc is read, and for plain http to the loopback no
    proxy of the environment is used. Raises UnknownModel for an address that HTTP cannot use and RemoteError for an
    impossible key.
    """

    def __init__(self, address: Address, *, timeout_s: float, connections: int) -> None:
        """`timeout_s`: how long the server may say nothing, in seconds."""
        self.address, self._timeout_s = address, timeout_s
        self._key_variable, self._key = find_key(address)
        try:
            httpx2.URL(address.base)
        except httpx2.InvalidURL:
            raise UnknownModel(f"The address of {address.model} cannot be used; write {FORM}.") from None
        headers = {
            "User-Agent": f"fairground/{__version__}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # compressing would delay tokens
        }
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(timeout_s, connect=min(10.0, timeout_s)),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers=headers,
            # A proxy would not reach this machine; with https, certificates named in the environment still count.
            trust_env=not (address.loopback and address.base.lower().startswith("http:")),
        )

    def __repr__(self) -> str:
        return f"Server({self.address.base!r})"

    def close(self) -> None:
        self._client.close()

    def ask(self, method: str, url: str, body: dict[str, Any] | None, stop: threading.Event) -> Any:
        """The JSON that the server answers. Raises RefusedError, StoppedError, or RemoteError."""

        def attempt() -> Any:
            with self.open(method, url, body) as response:
                content = self._read(response)
            try:
                return json.loads(content)
            except (ValueError, RecursionError):
                raise self.nonsense() from None

        return self.retrying(attempt, stop=stop)

    def nonsense(self) -> RemoteError:
        """The answer is not what the protocol says."""
        return RemoteError(
            f"{self.address.host} did not answer as an OpenAI-compatible server does; check that the address ends as "
            "its documentation says (usually /v1)."
        )

    @contextmanager
    def open(self, method: str, url: str, body: dict[str, Any] | None) -> Iterator[httpx2.Response]:
        """An open answer with status 200; failures while it is read are put into sentences too."""
        content = None if body is None else json.dumps(body).encode("ascii")
        try:
            with self._client.stream(method, url, content=content, auth=_as_it_is) as response:
                if response.status_code != 200:
                    self._refuse(response)
                yield response
        except httpx2.ReadTimeout:
            # Not asked again here: the server may still be working on it.
            raise BrokenAnswer(
                f"{self.address.host} sent nothing for {self._timeout_s:g} s, so the request was given up; ask for "
                "fewer tokens, or try again when it is less busy."
            ) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise TransientError(f"no connection: {self.quote(str(error)) or 'it took too long'}") from None
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError) as error:
            raise TransientError(f"the connection broke, {type(error).__name__}") from None

    def retrying(
        self, attempt: Callable[[], T], *, stop: threading.Event, begun: Callable[[], bool] = lambda: False
    ) -> T:
        """Calls `attempt` until it returns, waiting between failures that may pass.

        `begun` says whether something of the answer has been passed on already; then there is no second attempt.
        """
        host = self.address.host
        for failures in range(1, ATTEMPTS + 1):
            if stop.is_set():
                raise StoppedError
            try:
                return attempt()
            except TransientError as error:
                if stop.is_set():
                    raise StoppedError from None
                if begun():
                    raise BrokenAnswer(f"{host} broke off in the middle of an answer ({error}); try again.") from None
                if failures == ATTEMPTS:
                    raise GaveUpError(
                        f"{host} did not answer in {ATTEMPTS} attempts ({error}); check that it runs and that you may "
                        "ask it so much, and try again.",
                        error.status,
                    ) from None
                wait = error.retry_after
                if wait is None:
                    # Spread, so that many requests that were refused together do not come back together.
                    wait = FIRST_WAIT_S * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
                elif wait > LONGEST_WAIT_S:
                    raise GaveUpError(
                        f"{host} asks to wait {wait:.0f} s ({error}); try again after that.", error.status
                    ) from None
                stop.wait(wait)
        raise AssertionError("unreachable")

    def quote(self, said: str) -> str:
        """A server's own words, short, on one line, and without the key."""
        if self._key:
            said = said.replace(self._key, "[key]")
        said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
        return (said if len(said) <= _MOST_QUOTED else said[:_MOST_QUOTED] + "…").rstrip(".")

    def _refuse(self, response: httpx2.Response) -> None:
        status, host, model = response.status_code, self.address.host, self.address.model
        said = self._said(response)
        if status in (408, 429) or (status >= 500 and status != 501):
            wait = _retry_after(response.headers.get("retry-after"))
            raise TransientError(f"error {status}: {said}", status=status, retry_after=wait)
        error: FairgroundError
        if status in (401, 403):
            # Not quoted: some servers repeat a part of the key.
            what = f"refused the key in {self._key_variable}" if self._key else "asks for a key"
            error = RemoteError(
                f"{host} {what} (error {status}); set {self.address.key_variable} or OPENAI_API_KEY to a key that may "
                f"use {model}."
            )
        elif status in (400, 413, 422):
            error = RequestError(f"{host} refused the request (error {status}: {said}); change it and try again.")
        elif status < 400:
            error = RemoteError(
                f"{host} redirects elsewhere (status {status}), where no key is sent; write the final address."
            )
        else:
            error = RemoteError(
                f"{host} has no answer for {model} (error {status}: {said}); check the model's name, and that the "
                "address ends as the server's documentation says (usually /v1)."
            )
        raise RefusedError(status, said, error)

    def _said(self, response: httpx2.Response) -> str:
        """The message of OpenAI's error object, or of what other servers send instead; else the status in words."""
        try:
            answer = json.loads(self._read(response))
        except (ValueError, RecursionError, RemoteError):
            answer = None
        if isinstance(answer, dict):
            error = answer.get("error", answer)
            found = error.get("message") or error.get("detail") if isinstance(error, dict) else error
            if found:
                return self.quote(found if isinstance(found, str) else json.dumps(found))
        return response.reason_phrase or "no reason given"

    def _read(self, response: httpx2.Response) -> bytes:
        content = bytearray()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > MOST_BYTES:
                raise self.nonsense()
        return bytes(content)


def _as_it_is(request: httpx2.Request) -> httpx2.Request:
    return request


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number of them or an HTTP date; None where the header is missing or makes no sense."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
