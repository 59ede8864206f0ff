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
from dataclasses import dataclass
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
        self._ray: Any = ray
        self.models, self.address, self.threads, self.notice = dict(models), address, threads, notice
        self.workers: list[dict[str, Any]] = []
        self._here = describe()

    def __call__(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, Found]]:
        """Raises ClusterError where there is no cluster, no worker is left, or one lacks what the run needs."""
        # Ray prints on standard output, where a machine may be reading, that a worker died. We say it ourselves.
        with self._connected(), redirect_stdout(io.StringIO()):
            crew = _Crew(self, shards)
            try:
                yield from self._measure(shards, crew)
            finally:
                crew.end()

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
                "that one runs there with the same versions of Ray and Python, and that RAY_AUTH_TOKEN is its token, "
                "if it has one."
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

    def _measure(self, shards: Sequence[Shard], crew: _Crew) -> Iterator[tuple[Shard, Found]]:
        began: float | None = time.monotonic()
        for node, place in self._places()[: len(shards)]:
            crew.start(node, place)
        while crew.busy:
            if not crew.running:
                raise ClusterError(
                    f"No worker of the cluster is left ({crew.last}); what was measured is kept, and the same command "
                    "goes on with it."
                )
            done, _ = self._ray.wait(list(crew.running), timeout=1.0)
            if began and not done and not self.workers and time.monotonic() - began > PATIENCE:
                self.notice(f"Still waiting for a worker to start; it needs {self.threads} free cores in the cluster.")
                began = None
            for reference in done:
                hand, shard = crew.running.pop(reference)
                try:
                    answer = self._ray.get(reference)
                except self._ray.exceptions.RayTaskError:
                    raise  # an error in the program, there as it would be here
                except self._ray.exceptions.RayError as error:
                    if (found := crew.lost(hand, shard, error)) and shard:
                        yield shard, found
                    continue
                crew.idle.append(hand)
                if shard is None:
                    self._accept(hand, *answer)
                    continue
                yield shard, answer
                if answer.failure:
                    crew.drop(shard.model)
            crew.assign()

    def _accept(self, hand: _Hand, there: Mapping[str, Any], lacks: str | None) -> None:
        """Raises ClusterError for a worker that cannot give the numbers that this machine would give."""
        for package in ("fairground", "torch"):
            if there[package] != self._here[package]:
                lacks = f"it has {package} {there[package]}, and this machine {self._here[package]}"
        if lacks:
            raise ClusterError(
                f"The worker on {hand.place} cannot take part: {lacks}; what was measured is kept, and the same "
                "command goes on with it."
            )
        if there["cpu"] != self._here["cpu"]:
            self.notice(
                f"{hand.place} computes on {there['cpu']}, this machine on {self._here['cpu']}: last digits may differ "
                "from those of a run on one machine."
            )
        self.workers.append(
            {"machine": hand.place, "threads": self.threads, "cpu": there["cpu"], "platform": there["platform"]}
        )


class _Crew:
    """The workers of one run, what each is doing, and the shards that wait for one, by model."""

    def __init__(self, cluster: OnRay, shards: Sequence[Shard]) -> None:
        self._cluster, self._ray = cluster, cluster._ray
        self.running: dict[Any, tuple[_Hand, Shard | None]] = {}  # by Ray's reference; None: it is starting
        self.idle: list[_Hand] = []
        self._waiting: dict[str, deque[Shard]] = {}
        for shard in shards:
            self._waiting.setdefault(shard.model, deque()).append(shard)
        self._written = list(
            {t.name: t for shard in shards for t in shard.tasks if isinstance(t, WrittenTask)}.values()
        )  # fmt: skip
        self._deaths: Counter[object] = Counter()
        self.last = "none has started"

    @property
    def busy(self) -> bool:
        """Whether any shard waits or is being measured."""
        return any(self._waiting.values()) or any(shard for _, shard in self.running.values())

    def start(self, node: str, place: str) -> None:
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        options = {"num_cpus": self._cluster.threads, "scheduling_strategy": strategy, "max_restarts": 0}
        hand = _Hand(self._ray.remote(Worker).options(**options).remote(self._cluster.models), node, place)
        self.running[hand.actor.ready.remote(self._written)] = (hand, None)

    def assign(self) -> None:
        """Gives whoever is idle a shard of the model that it has open, else of the one with the most left."""
        for hand in list(self.idle):
            busy = Counter(other.model for other, shard in self.running.values() if shard)
            left = {name: len(shards) / (1 + busy[name]) for name, shards in self._waiting.items() if shards}
            if not left:
                return
            hand.model = hand.model if hand.model in left else max(left, key=lambda name: left[name])
            shard = self._waiting[str(hand.model)].popleft()
            self.idle.remove(hand)
            self.running[hand.actor.measure.remote(shard)] = (hand, shard)

    def lost(self, hand: _Hand, shard: Shard | None, error: Exception) -> Found | None:
        """Puts a dead worker's shard back and starts another worker; or says that the shard has cost too many."""
        found, of = None, hand.node if shard is None else shard
        self._deaths[of] += 1
        if shard is None:
            self.last = f"one on {hand.place} did not start: {_reason(error)}"
        elif self._deaths[of] < DEATHS:
            self._waiting[shard.model].appendleft(shard)
            self.last = f"one on {hand.place} died"
            self._cluster.notice(f"A worker on {hand.place} died; the {len(shard)} items that it had go to another.")
        else:
            self.drop(shard.model)
            found = Found({}, f"{DEATHS} workers died measuring it, the last on {hand.place}; give them more memory.")
        if self._deaths[hand.node] < DEATHS and any(n["NodeID"] == hand.node and n["Alive"] for n in self._ray.nodes()):
            self.start(hand.node, hand.place)
        return found

    def drop(self, model: str) -> None:
        self._waiting[model].clear()

    def end(self) -> None:
        for hand in [*(hand for hand, _ in self.running.values()), *self.idle]:
            self._ray.kill(hand.actor)


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
