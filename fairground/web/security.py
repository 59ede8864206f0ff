"""What every request passes first: for whom it is, whence it comes, how long it is; and what every answer carries."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairground.web.refusals import answer

# No inline script or style, nothing from elsewhere, in nobody's frame.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
SAFE = ("GET", "HEAD", "OPTIONS")
BODY = 256_000  # bytes: the longest prompt, comment and reasons, several times over
READ = 64_000_000  # bytes of a body that is too long which are read and thrown away, so that the answer is received
API = "/v1"  # guards itself, and has no cookies


class Entrance:
    """Refuses bodies that are too long, other hosts' names, and posts from other sites; sets the headers of answers.

    `hosts`: the names that the site answers to, since a page elsewhere may reach the loopback under a name of its own;
    None: any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app, self._hosts = app, None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(f"{API}/"):
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                known = scope["path"].startswith("/static/") and scope["query_string"]
                headers.setdefault("cache-control", "public, max-age=31536000, immutable" if known else "no-store")
            await send(message)

        request = Request(scope)
        refused = self._refused(request)
        if refused is None:
            await self._app(scope, _counted(receive), with_headers)
            return
        await _drain(receive)
        await answer(request, *refused)(scope, receive, with_headers)

    def _refused(self, request: Request) -> tuple[int, str] | None:
        host = request.headers.get("host", "")
        if self._hosts is not None and (urlsplit(f"//{host}").hostname or "") not in self._hosts:
            return 400, f"This site does not answer as {host or 'nobody'}; use the address that it printed."
        if request.method not in SAFE:
            # Browsers say where a post comes from; what says nothing has no cookies of theirs either.
            origin = request.headers.get("origin")
            elsewhere = origin is not None and urlsplit(origin).netloc != host
            if elsewhere or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return 403, "This came from a page of another site, so nothing was done; use this site's own pages."
        told = request.headers.get("content-length", "0")
        if told.isdecimal() and int(told) > BODY:
            return 413, f"That is {int(told) / 1e6:,.1f} MB long, and the most is {BODY / 1e6:g} MB; shorten it."
        return None


def _counted(receive: Receive) -> Receive:
    """The same, ended where a body is longer than it said or may be."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > BODY:
            raise HTTPException(413, f"That is too long: the most is {BODY / 1e6:g} MB; shorten it")
        return message

    return counted


async def _drain(receive: Receive) -> None:
    read = 0
    while read < READ:
        message = await receive()
        read += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
