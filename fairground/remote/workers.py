"""The threads that talk to a server: as many as there may be requests at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from fairground.errors import FairgroundError

T = TypeVar("T")


class Workers:
    """Runs work in the order of its coming, at most `count` pieces at a time.

    Its threads are daemons, unlike those of `concurrent.futures`, so that an interrupted program does not wait for a
    server that says nothing.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queues a piece of work. Raises FairgroundError after `close`."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise FairgroundError("The connection to the model was closed; open the model again to use it.")
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._run, name="fairground-remote", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._work.put((future, work))
        return future

    def close(self, patience_s: float = 2.0) -> None:
        """Takes no more work, cancels what has not begun, and waits a moment for what has."""
        with self._lock:
            self._closed = True
        try:
            while (waiting := self._work.get_nowait()) is not None:
                waiting[0].cancel()
                waiting[0].set_running_or_notify_cancel()
        except Empty:
            pass
        for _ in self._threads:
            self._work.put(None)
        deadline = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (taken := self._work.get()) is not None:
            future, work = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
