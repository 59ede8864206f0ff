"""Workers on a Ray cluster: one that runs already, or one on this machine for as long as a run takes.

Ray's ports let whoever may use them run programs. A cluster that is started here listens on the loopback alone, and
wants a secret that only this process and its children know.
"""

from __future__ import annotations

import io
import os
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from fairground.errors import ClusterError, FairgroundError, MissingExtra
from fairground.evaluation.environment import cores, describe
from fairground.evaluation.measure import Known
from fairground.evaluation.spread import Found, Shard, measure_shard
from fairground.evaluation.tasks import WrittenTask
from fairground.types import Generator

DEATHS = 3  # of workers, on one shard or while starting on one machine, until it is no accident
STORE = 100 << 20  # bytes of shared memory for a cluster of our own: what is sent is small
PATIENCE = 20.0  # seconds without any worker until a person is told what is waited for
ANSWER = 5.0  # seconds in which a cluster's port must accept a connection

LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's name for: no other machine joins, so listen on the loopback
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's makers
}


@dataclass(frozen=True, slots=True)
class WorkerModel:
    """A model as workers have it: how one opens it, and how it tells what it is made of, which must be `identity`.

    Both functions must survive pickling, and raise a FairgroundError where the model cannot be had.
    """

    identity: str
    identify: Callable[[], str]
    open: Callable[[], Generator]


class Worker:
    """What runs in a process of the cluster. One model is open at a time."""

    def __init__(self, models: Mapping[str, WorkerModel]) -> None:
        self._models = models
        self._opened: tuple[str, Generator, Known] | None = None

    def ready(self, written: Sequence[WrittenTask[Any]]) -> tuple[dict[str, Any], str | None]:
        """Where it runs, and what it lacks for measuring these tasks with its models; None where it lacks nothing."""
        try:
            for name, model in self._models.items():
                if model.identify() != model.identity:
                    return describe(), f"{name} is made of other files there than here; copy the model there again"
            for task in written:
                task.can_judge()
        except (FairgroundError, OSError) as error:
            return describe(), str(error).removesuffix(".")
        return describe(), None

    def measure(self, shard: Shard) -> Found:
        """Opens the shard's model, if it is not the one that is open, and measures it."""
        if self._opened is None or self._opened[0] != shard.model:
            if self._opened is not None:
                self._opened[1].close()
            self._opened = None
            try:
                self._opened = (shard.model, self._models[shard.model].open(), {})
            except FairgroundError as error:
                return Found({}, str(error))
        _, generator, known = self._opened
        return Found(measure_shard(shard, generator, known))


@dataclass(slots=True, eq=False)
class _Hand:
    """A worker as it is seen from here: `model` is the one that it has open."""

    actor: Any
    node: str
    place: str
    model: str | None = None


@dataclass(slots=True)
class _Queue:
    """Shards that wait, by model."""

    waiting: dict[str, deque[Shard]] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)

    def add(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            self.waiting.setdefault(shard.model, deque()).append(shard)

    def next(self, model: str | None, elsewhere: Mapping[str | None, int]) -> Shard | None:
        """A shard of this model, which is open, else of the one with the most shards left for each of its workers."""
        left = {name: len(shards) / (1 + elsewhere.get(name, 0)) for name, shards in self.waiting.items() if shards}
        if not left:
            return None
        chosen = model if model in left else max(left, key=lambda name: left[name])
        assert chosen is not None
        return self.waiting[chosen].popleft()


class OnRay:
    """Measures shards on the workers of a Ray cluster; fulfils spread.Workers.

    Without an `address` the cluster is one of this machine's own, and ends with the run. Each worker has `threads`, as
    many as the run has where it is not spread: sums depend on how many share them. A machine of the cluster runs as
    many workers as it has cores for. What a person should know without being an error goes to `notice`. `workers` says
    where the workers ran. Raises MissingExtra where Ray is not installed.
    """

    def __init__(
        self, models: Mapping[str, WorkerModel], *, address: str | None, threads: int, notice: Callable[[str], None]
    ) -> None:
        if address is None:
            # Ray reads these when it is imported, and hands them on to the processes that it starts.
            os.environ.update(LOOPBACK)
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            import ray
            import ray.exceptions
            import ray.util.scheduling_strategies
        except ImportError as missing:
            raise MissingExtra(
                f"Spreading a run over a cluster needs {missing.name}; install it with pip install 'fairground[ray]'."
            ) from None
        self._ray = ray
        self.models, self.address, self.threads, self.notice = dict(models), address, threads, notice
        self.workers: list[dict[str, Any]] = []
        self._here = describe()

    def __call__(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, Found]]:
        """Raises ClusterError where there is no cluster, no worker is left, or one lacks what the run needs."""
        # Ray prints on standard output, where a machine may be reading, that a worker died. We say it ourselves.
        with self._connected(), redirect_stdout(io.StringIO()):
            hands: list[_Hand] = []
            try:
                yield from self._measure(shards, hands)
            finally:
                for hand in hands:
                    self._ray.kill(hand.actor)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        where: dict[str, Any] = {"address": self.address}
        if self.address is None:
            where = {
                "address": "local", "num_cpus": cores(), "num_gpus": 0, "include_dashboard": False,
                "object_store_memory": STORE,
            }  # fmt: skip
        elif self.address != "auto":
            _answers(self.address)
        try:
            self._ray.init(**where, log_to_driver=False, logging_level="ERROR")
        except (RuntimeError, ValueError, OSError, AssertionError, self._ray.exceptions.RayError) as error:
            raise ClusterError(
                f"There is no Ray cluster to be had at {self.address or 'this machine'} ({_first_line(error)}); see "
                "that one runs there with the same versions of Ray and Python, or leave out --on."
            ) from None
        try:
            yield
        finally:
            self._ray.shutdown()

    def _places(self) -> list[tuple[str, str]]:
        """Node and name of every place where a worker may run, one on each machine before any gets a second."""
        nodes = [
            (int(node["Resources"].get("CPU", 0)), node["NodeID"], _name(node))
            for node in self._ray.nodes()
            if node["Alive"]
        ]
        places = sorted(
            (turn, place, node) for count, node, place in nodes for turn in range(count // self.threads)
        )  # fmt: skip
        if not places:
            most = max((count for count, _, _ in nodes), default=0)
            raise ClusterError(
                f"Each worker needs {self.threads} cores, as this run has threads, but no machine of the cluster has "
                f"more than {most}; give a smaller number with --threads."
            )
        if len(places) == 1:
            self.notice(
                f"The cluster has room for one worker of {self.threads} threads; with fewer --threads there are more."
            )
        return [(node, place) for _, place, node in places]

    def _start(self, node: str, place: str) -> _Hand:
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        options = {"num_cpus": self.threads, "scheduling_strategy": strategy, "max_restarts": 0}
        return _Hand(self._ray.remote(Worker).options(**options).remote(self.models), node, place)

    def _measure(self, shards: Sequence[Shard], hands: list[_Hand]) -> Iterator[tuple[Shard, Found]]:
        """`hands` holds the workers there are, at any time."""
        ray, queue, began = self._ray, _Queue(), time.monotonic()
        queue.add(shards)
        written = {task.name: task for shard in shards for task in shard.tasks if isinstance(task, WrittenTask)}
        running: dict[Any, tuple[_Hand, Shard | None]] = {}
        idle: list[_Hand] = []
        starts: Counter[str] = Counter()

        def start(node: str, place: str) -> None:
            hand = self._start(node, place)
            hands.append(hand)
            running[hand.actor.ready.remote(list(written.values()))] = (hand, None)

        for node, place in self._places()[: len(shards)]:
            start(node, place)
        while any(queue.waiting.values()) or any(shard for _, shard in running.values()):
            if not running:
                raise ClusterError(
                    "No worker of the cluster is left; what was measured is kept, and the same command goes on with it."
                )
            done, _ = ray.wait(list(running), timeout=1.0)
            if not done and not self.workers and began and time.monotonic() - began > PATIENCE:
                self.notice(f"Waiting for a worker: the cluster has not {self.threads} cores free.")
                began = 0.0
            for reference in done:
                hand, shard = running.pop(reference)
                try:
                    answer = ray.get(reference)
                except ray.exceptions.RayTaskError:
                    raise  # an error in the program, there as it would be here
                except ray.exceptions.RayError as error:
                    hands.remove(hand)
                    if shard is None:
                        starts[hand.node] += 1
                        last = f"the worker on {hand.place} did not start ({_reason(error)})"
                    else:
                        queue.deaths[id(shard)] += 1
                        last = f"the worker on {hand.place} died; its {len(shard)} items are measured again"
                        if queue.deaths[id(shard)] < DEATHS:
                            queue.waiting[shard.model].appendleft(shard)
                        else:
                            queue.waiting[shard.model].clear()
                            yield shard, Found({}, f"{DEATHS} workers died measuring it, the last on {hand.place}")
                    self.notice(f"{last[0].upper()}{last[1:]}.")
                    if starts[hand.node] < DEATHS and self._alive(hand.node):
                        start(hand.node, hand.place)
                    continue
                if shard is None:
                    self._accept(hand, *answer)
                else:
                    yield shard, answer
                    if answer.failure:
                        queue.waiting[shard.model].clear()
                        hand.model = None
                idle.append(hand)
            for hand in list(idle):
                elsewhere = Counter(other.model for other, shard in running.values() if shard)
                if (chosen := queue.next(hand.model, elsewhere)) is not None:
                    idle.remove(hand)
                    hand.model = chosen.model
                    running[hand.actor.measure.remote(chosen)] = (hand, chosen)

    def _alive(self, node: str) -> bool:
        return any(one["NodeID"] == node and one["Alive"] for one in self._ray.nodes())

    def _accept(self, hand: _Hand, there: Mapping[str, Any], lacks: str | None) -> None:
        """Raises ClusterError for a worker that cannot give the numbers that this machine would give."""
        for package in ("fairground", "torch"):
            if there[package] != self._here[package]:
                lacks = f"it has {package} {there[package]}, and this machine {self._here[package]}"
        if lacks:
            raise ClusterError(
                f"The worker on {hand.place} cannot take part: {lacks}. What was measured is kept; when that is mended, "
                "the same command goes on with it."
            )
        if there["cpu"] != self._here["cpu"]:
            self.notice(
                f"{hand.place} computes on {there['cpu']}, this machine on {self._here['cpu']}: last digits may differ "
                "from those of a run on one machine."
            )
        self.workers.append(
            {"machine": hand.place, "threads": self.threads, "cpu": there["cpu"], "platform": there["platform"]}
        )


def _answers(address: str) -> None:
    """Raises ClusterError, soon, where nothing listens; Ray itself would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER):
            pass
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"There is no Ray cluster at {address} ({_first_line(error)}); start one there with 'ray start --head', or "
            "leave out --on."
        ) from None


def _name(node: Mapping[str, Any]) -> str:
    host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
    return host if host == address else f"{host} ({address})"


def _first_line(error: BaseException) -> str:
    return next((line.strip().removesuffix(".") for line in str(error).splitlines() if line.strip()), repr(error))


def _reason(error: BaseException) -> str:
    """The last line of a worker's traceback, which says what went wrong, else the first of what Ray says."""
    lines = [line.strip() for line in str(error).splitlines() if "Error: " in line]
    return lines[-1] if lines else _first_line(error)
