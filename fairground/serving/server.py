"""Running an application until it is told to stop, and stopping in good order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fairground.errors import RequestError
from fairground.serving.running import Running

TOLD = 1.0  # seconds before the end at which streams that still run are told


class Server(uvicorn.Server):
    """On SIGTERM and ctrl-C nothing more is taken in, answers end or are told in time, and then the server ends."""

    def __init__(self, app: FastAPI, shutdown_timeout: int) -> None:
        super().__init__(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=shutdown_timeout, lifespan="off")
        )
        self._running: Running = app.state.running
        self._timeout = shutdown_timeout
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._running.drain()
        if self._loop is not None:
            wait = self._timeout - min(TOLD, self._timeout / 2)
            self._loop.call_soon_threadsafe(self._loop.call_later, wait, self._running.end)
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to the address; port 0 takes one that is free. Raises RequestError where it cannot be."""
    # Only a socket that names its protocol gets TCP_NODELAY from asyncio; without it a token waits 40 ms for the packet
    # before it to be acknowledged.
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        bound.listen()
        return bound
    except OSError as error:
        bound.close()
        raise RequestError(
            f"{host}:{port} cannot be listened on ({error.strerror}); choose another one with --port."
        ) from None


def serve(app: FastAPI, host: str, port: int, *, shutdown_timeout: int, ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or ctrl-C. `ready` is told the address. Raises RequestError where it cannot be had."""
    with listen(host, port) as bound:
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{bound.getsockname()[1]}")
        Server(app, shutdown_timeout).run(sockets=[bound])
