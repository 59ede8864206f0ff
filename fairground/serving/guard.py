"""What is looked at before anything is read: whom the request is for, and how long its body is."""

from __future__ import annotations

import math
import time
from collections.abc import Collection

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairground.serving.keys import Gate
from fairground.serving.refusals import Refusal

OPEN = ("/health", "/ready")  # what a watchdog asks, which has no key


class Guard:
    """Refuses who may not ask, who asks too often, and bodies over the limit.

    With a `gate`, every address but the OPEN ones wants a key, and any name of this machine will do. Without one, only
    `hosts` are answered to: a page elsewhere reaches a server on the loopback under a name of its own. `per_minute`
    requests are taken from each key, or without keys from each address, in any minute; which of them it is stands in
    the request's state as its client.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str],
        body_bytes: int,
        gate: Gate | None = None,
        per_minute: int | None = None,
    ) -> None:
        self._app, self._hosts, self._most, self._gate = app, frozenset(hosts), body_bytes, gate
        self._rate = None if per_minute is None else RateLimitItemPerMinute(per_minute)
        self._asked = MovingWindowRateLimiter(MemoryStorage())
        self._too_long = f"The body is over {body_bytes:,} bytes; send less at a time"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = _without_port(headers.get(b"host", ""))
        if self._gate is None and host not in self._hosts:
            refused = Refusal(400, f"This server does not answer as {host or 'nobody'}; use the address it printed.")
            await refused.response()(scope, receive, send)
            return
        client = (scope.get("client") or ("",))[0]
        if self._gate is not None and scope["path"] not in OPEN:
            given = headers.get(b"authorization", "")
            client = self._gate.owner(given)
            if client is None:
                said = "This key is not known here" if given else "This server wants a key"
                refused = Refusal(401, f"{said}; send authorization: Bearer KEY.", code="invalid_api_key")
                await refused.response({"www-authenticate": "Bearer"})(scope, receive, send)
                return
        scope.setdefault("state", {})["client"] = client
        if self._rate is not None and scope["path"] not in OPEN and not self._asked.hit(self._rate, client):
            again = math.ceil(self._asked.get_window_stats(self._rate, client).reset_time - time.time())
            said = f"More than {self._rate.amount} requests came within a minute; come again in {max(1, again)} s."
            refused = Refusal(429, said, code="rate_limit_exceeded", retry_after=max(1, again))
            await refused.response()(scope, receive, send)
            return
        told = headers.get(b"content-length", "0")
        if told.isdigit() and int(told) > self._most:
            await Refusal(413, f"{self._too_long}.").response()(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise HTTPException(413, self._too_long)  # the one kind that FastAPI lets through here
            return message

        await self._app(scope, counted, send)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0].lower()
