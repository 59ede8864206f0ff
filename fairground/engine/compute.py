"""The one thread on which torch computes, whoever asks.

OpenMP keeps a team of workers for every thread that starts a parallel product. As soon as two teams together have more
workers than the machine has cores, they stop spinning and sleep at every barrier, which cost a third of the decoding
speed on two cores (benchmarks/README.md). So loading, scoring and generating, of all models, happen here in turn.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


class _ComputeThread:
    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], T]) -> Future[T]:
        with self._starting:
            if self._thread is None:
                # A daemon, so that ctrl-C ends the program at once and not after a long pass.
                self._thread = threading.Thread(target=self._work, name="fairground-compute", daemon=True)
                self._thread.start()
                atexit.register(self._stop)
        future: Future[T] = Future()
        self._jobs.put((future, job))
        return future

    def _work(self) -> None:
        with torch.inference_mode():
            while (item := self._jobs.get()) is not None:
                future, job = item
                try:
                    future.set_result(job())
                except BaseException as error:
                    future.set_exception(error)
                del future, job, item

    def _stop(self) -> None:
        """Lets the pass at hand end: a thread that is torn down inside torch would abort the program."""
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(timeout=30)


_thread = _ComputeThread()


def compute(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls the function on the compute thread, in inference mode, and gives its result or raises what it raised."""
    return _thread.submit(partial(function, *args, **kwargs)).result()
