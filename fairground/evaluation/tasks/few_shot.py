"""Solved examples in the prompt: where they come from, how they are drawn, and what keeps test items out of them."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from fairground.errors import RequestError, SuiteError
from fairground.evaluation.lines import Line
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import Files, ItemT, Task
from fairground.evaluation.tfidf import TfIdf

SHOT = "-shot-"
"""An id with this in it marks a solved example for the prompt; it is never a test item."""

SELECTIONS = ("random", "balanced", "nearest", "first")
"""How solved examples may be drawn."""


@dataclass(frozen=True, slots=True)
class Selection:
    """How solved examples are drawn from a task's pool, for every model alike.

    "random" shuffles the pool by the seed; "balanced" also takes labels in turn, so that each stands among the examples
    as often as any other, give or take one, while the pool has them; "first" leaves the pool in its order. K examples
    are the first K of that order, so that every item of a group begins alike and fewer examples are the beginning of
    more. "nearest" orders the pool anew for each item, by the similarity of questions (Liu et al. 2022, "What makes
    good in-context examples for GPT-3?"). Raises RequestError for another way.
    """

    by: str = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in SELECTIONS:
            raise RequestError(f"Examples cannot be drawn by {self.by!r}; choose one of {', '.join(SELECTIONS)}.")

    @property
    def seeded(self) -> bool:
        """Whether the seed has a part in it."""
        return self.by in ("random", "balanced")

    def as_json(self) -> dict[str, str | int | None]:
        return {"by": self.by, "seed": self.seed if self.seeded else None}

    def sentence(self) -> str:
        """What the report says of it."""
        alike = "the same for every model and item"
        return {
            "random": f"drawn at random (seed {self.seed}) from each task's own examples, {alike}",
            "balanced": f"drawn at random (seed {self.seed}) from each task's own examples so that every label (the "
            f"place of the right choice, or the written answer) stands among them equally often, {alike}",
            "nearest": "for each item those of its task's own examples whose questions are most similar, by the cosine "
            "of TF-IDF vectors of character 3- to 5-grams, the most similar last",
            "first": f"the first of each task's own examples in the order of their file, {alike}",
        }[self.by] + "; none is a test item"


AT_RANDOM = Selection()


@dataclass(frozen=True, kw_only=True)
class FewShotTask(Task[ItemT]):
    """A task whose items can be asked after solved examples of their own group; `shots` is the pool."""

    shots: tuple[ItemT, ...] = ()
    selection: Selection = AT_RANDOM

    @abstractmethod
    def question(self, item: ItemT) -> str:
        """What the similarity of two items is computed from: what is asked, without its answer."""

    @abstractmethod
    def label(self, item: ItemT) -> Hashable:
        """What a balanced draw balances."""

    @abstractmethod
    def solved(self, shot: ItemT) -> str:
        """The question with its answer, as the prompt shows it."""

    @property
    def max_shots(self) -> int | None:
        """How many examples of its own group every item can be shown; None where there is no pool."""
        if not self.shots:
            return None
        sizes, pooled = Counter(shot.group for shot in self.shots), {shot.id for shot in self.shots}
        return min((sizes[item.group] - (item.id in pooled) for item in self.items), default=0)

    def examples(self, item: ItemT, count: int) -> str:
        """The text of `count` solved examples."""
        return "".join(map(self.solved, self.drawn(item, count)))

    def drawn(self, item: ItemT, count: int) -> list[ItemT]:
        """The first `count` of the item's group in the order of the selection, never the item itself."""
        if not count:
            return []
        if self.selection.by != "nearest":
            return [shot for shot in self._ordered.get(item.group, ()) if shot.id != item.id][:count]
        if item.group not in self._embedded:
            return []
        pool, embedding = self._embedded[item.group]
        nearest = [pool[at] for at in embedding.nearest(self.question(item)) if pool[at].id != item.id]
        return nearest[:count][::-1]

    @cached_property
    def _pools(self) -> dict[str, list[ItemT]]:
        """The pool by group."""
        pools: dict[str, list[ItemT]] = {}
        for shot in self.shots:
            pools.setdefault(shot.group, []).append(shot)
        return pools

    @cached_property
    def _ordered(self) -> dict[str, list[ItemT]]:
        return {group: self._order(pool, group) for group, pool in self._pools.items()}

    @cached_property
    def _embedded(self) -> dict[str, tuple[list[ItemT], TfIdf]]:
        return {group: (pool, TfIdf([self.question(shot) for shot in pool])) for group, pool in self._pools.items()}

    def _order(self, pool: Sequence[ItemT], group: str) -> list[ItemT]:
        if not self.selection.seeded:
            return list(pool)
        rng = random.Random(f"examples {self.selection.seed} {self.name} {group}")
        shuffled = rng.sample(pool, len(pool))
        if self.selection.by == "random":
            return shuffled
        parts: dict[Hashable, list[ItemT]] = {}
        for shot in reversed(shuffled):
            parts.setdefault(self.label(shot), []).append(shot)
        ordered: list[ItemT] = []
        while left := [label for label, part in parts.items() if part]:
            # Labels in a new order each time: a model may not learn that they take turns.
            ordered += [parts[label].pop() for label in rng.sample(left, len(left))]
        return ordered


def read_items(
    settings: Settings, files: Files, made: Callable[[Line], ItemT], question: Callable[[ItemT], str], task: str
) -> tuple[tuple[ItemT, ...], tuple[ItemT, ...]]:
    """The test items of a task's `file` and the pool of its `shots`.

    Both may be one file, in which ids with "-shot-" mark the pool. Raises SuiteError, naming file and line, for a line
    of the pool that asks the same as a test item of its group. What asks nearly the same is refused by the suite's
    reader, but not in data of others: four of MMLU's five examples in history share their passage with a test item.
    """
    file, shots_file = settings.text("file"), settings.text("shots", "") or None
    tests: dict[tuple[str, str], tuple[Line, ItemT]] = {}
    items: list[ItemT] = []
    pool: list[tuple[Line, ItemT]] = []
    for key in ("file", "shots") if shots_file not in (None, file) else ("file",):
        for line in files.lines(settings, key):
            item = made(line)
            files.asks(line, f"{task} {item.group}", question(item))
            marked = SHOT in item.id
            if marked and key == "file" and shots_file != file:
                raise line.error(
                    f"{item.id!r} is a solved example, but [{settings.at}] takes none from here; set its 'shots'"
                )
            if marked or key == "shots":
                pool.append((line, item))
            else:
                items.append(item)
                tests[_asked(item, question)] = (line, item)
    if not items:
        raise settings.error(f"{file} has no test items, only solved examples; add items", "file")
    for line, shot in pool:
        if (same := tests.get(_asked(shot, question))) is not None:
            raise line.error(
                f"the solved example {shot.id!r} asks the same as {same[1].id!r} ({same[0].where}), which is a test "
                "item; remove one of them"
            )
    return tuple(items), tuple(shot for _, shot in pool)


def no_examples(settings: Settings) -> SuiteError:
    """For `shots` that name a file without a single solved example."""
    return settings.error(
        f"the solved examples may not be the test items, and {settings.text('shots')} holds nothing else; name another "
        f'file, or give what may be shown an id with "{SHOT}" in it',
        "shots",
    )


def _asked(item: ItemT, question: Callable[[ItemT], str]) -> tuple[str, str]:
    return item.group, " ".join(question(item).casefold().split())
