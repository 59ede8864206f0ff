"""A run past one machine: its work is cut into shards, which workers measure, and what they find is journalled here.

The ranking that follows finds all of it known. It measures what is left: response time, relevance, and again what
failed, so that a failure is recorded as in any run. So `scores.jsonl` has the same bytes wherever the work was done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fairground.errors import FairgroundError
from fairground.evaluation.journal import Entry, Journal
from fairground.evaluation.measure import Bench, Known
from fairground.evaluation.progress import Progress
from fairground.evaluation.runner import Entrant, asked, by_model, check, first_items, judgeable
from fairground.evaluation.suite import Suite
from fairground.evaluation.tasks import ScoredTask, Task, WrittenTask
from fairground.types import Generator

STRETCH = 64  # items in a shard: enough to fill the engine's passes, and few to do again where a worker dies


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Tasks with some of their items, on which one model is measured with so many solved examples.

    `model` is the entrant's name, `identity` what its outcomes are kept under.
    """

    model: str
    identity: str
    shots: int
    tasks: tuple[Task[Any], ...]

    def __len__(self) -> int:
        return sum(len(task.items) for task in self.tasks)


@dataclass(frozen=True, slots=True)
class Found:
    """What a worker found out: entries by task. `failure`: why the model can be measured no further, if so."""

    entries: Mapping[str, Sequence[Entry]]
    failure: str | None = None


class Workers(Protocol):
    """Measures shards wherever it likes, in any order."""

    def __call__(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, Found]]:
        """Each shard with what was found, as it comes. Shards of a model that has failed may be left out."""
        ...


def spread(
    entrants: Sequence[Entrant],
    suite: Suite,
    workers: Workers,
    journal: Journal,
    *,
    models: Collection[str],
    limit: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Entrant]:
    """Has what the journal lacks of these models (entrants' names) measured by workers, and keeps it as it comes.

    Returns the entrants for `rank`; one whose model failed on a worker will fail there with the same reason. Raises
    RequestError for entrants or a limit that make no sense, and what `workers` raises; what came until then is kept.
    """
    check(entrants, suite, limit)
    whole = replace(suite, tasks=tuple(first_items(task, limit) for task in suite.tasks))
    shards = cut_into_shards([entrant for entrant in entrants if entrant.name in models], whole, journal)
    if not shards:
        return list(entrants)
    done, total, failed = 0, sum(map(len, shards)), dict[str, str]()
    if progress:
        progress(Progress("workers", "starting", 0, total))
    with closing(_generator(workers(shards))) as results:
        for shard, found in results:
            for task, entries in found.entries.items():
                journal.keep(shard.identity, task, shard.shots, entries)
            if found.failure:
                failed.setdefault(shard.model, found.failure)
            done += len(shard)
            if progress:
                progress(Progress(shard.model, shard.tasks[0].name, done, total))
    return [replace(e, open=_failing(failed[e.name])) if e.name in failed else e for e in entrants]


def _generator(results: Iterator[tuple[Shard, Found]]) -> Any:
    """As something that can be closed, which ends the workers whatever happens here."""
    yield from results


def _failing(reason: str) -> Callable[[], Generator]:
    def fail() -> Generator:
        raise FairgroundError(reason)

    return fail


def cut_into_shards(entrants: Sequence[Entrant], suite: Suite, journal: Journal) -> list[Shard]:
    """What the journal does not know, model by model, in stretches of STRETCH items.

    What cannot be judged here is left out: the ranking notes why.
    """
    shards: list[Shard] = []
    for name, settings in by_model(entrants).items():
        identity = settings[0].identity or name
        for tasks, shots in asked(suite, settings):
            left: list[tuple[Task[Any], Any]] = []
            for task in judgeable(tasks)[0]:
                known = journal.known(identity, task.name, shots)
                left += [(task, item) for item in task.items if item.id not in known]
            for start in range(0, len(left), STRETCH):
                stretch = _regrouped(left[start : start + STRETCH])
                shards.append(Shard(name, identity, shots, stretch))
    return shards


def _regrouped(pairs: Sequence[tuple[Task[Any], Any]]) -> tuple[Task[Any], ...]:
    parts: dict[str, tuple[Task[Any], list[Any]]] = {}
    for task, item in pairs:
        parts.setdefault(task.name, (task, []))[1].append(item)
    return tuple(replace(task, items=tuple(items)) for task, items in parts.values())


def measure_shard(shard: Shard, generator: Generator, known: Known) -> dict[str, list[Entry]]:
    """The entries of what could be measured, by task. `known` holds scores of this model, and gets those that come."""
    kept = _Memory({})
    bench, can = Bench(generator, kept, shard.identity, known), generator.info.can
    if can.score:
        bench.score_together([task for task in shard.tasks if isinstance(task, ScoredTask)], shard.shots, _silent)
    if can.generate:
        bench.write_together([task for task in shard.tasks if isinstance(task, WrittenTask)], shard.shots, _silent)
    return kept.entries


def _silent(task: str) -> Callable[[int], None]:
    return lambda items: None


@dataclass(frozen=True, slots=True)
class _Memory:
    """The journal of one shard."""

    entries: dict[str, list[Entry]]

    def known(self, model: str, task: str, shots: int) -> Mapping[str, Entry]:
        return {}

    def keep(self, model: str, task: str, shots: int, entries: Sequence[Entry]) -> None:
        self.entries.setdefault(task, []).extend(entries)
