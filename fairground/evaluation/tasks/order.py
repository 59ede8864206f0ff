"""Order discrimination: each passage beside the same sentences in another order (Barzilay & Lapata 2008)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from fairground.evaluation import metrics
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import OPENING, Files, Item, Outcome, ScoredTask, opening
from fairground.types import Score, ScoreRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage(Item):
    """Sentences in the order in which they make sense."""

    sentences: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OrderDiscrimination(ScoredTask[Passage]):
    """Passages that should be likelier than the same sentences in another order. `difficulty`: random or swapped."""

    kind: ClassVar[str] = "order"
    keys: ClassVar[frozenset[str]] = frozenset({"difficulty"})
    counts_in: ClassVar[tuple[str, ...]] = ("coherence",)
    difficulty: str

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        difficulty = settings.one_of("difficulty", ("random", "swapped"))
        items = []
        for line in files.lines(settings, "file"):
            line.keys({"id", "sentences"}, OPENING)
            # With two sentences, "shuffled" and "swapped" would be the same test.
            items.append(Passage(**opening(line, name), sentences=line.texts("sentences", at_least=3)))
            files.asks(line, "", " ".join(items[-1].sentences))
        return cls(name=name, items=tuple(items), metric=metric, difficulty=difficulty)

    def ask(self, item: Passage, shots: int = 0) -> list[ScoreRequest]:
        reorder = shuffled if self.difficulty == "random" else neighbours_swapped
        return [ScoreRequest("", " ".join(order)) for order in (item.sentences, reorder(item))]

    def judge(self, item: Passage, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        original, reordered = scores
        right = metrics.prefers_original(original, reordered)
        record = {
            "asked": "Which order of the sentences is likelier?",
            "choices": [request.continuation for request in asked],
            "scores": [original.logprob, reordered.logprob],
            "gold": 0,
            # A tie chooses neither, and counts as half.
            "chosen": {1.0: 0, 0.0: 1}.get(right),
            "right": {1.0: True, 0.0: False}.get(right),
        }
        return Outcome(item.id, item.domain, item.cluster, {"coherence": right}, record)


def shuffled(passage: Passage) -> tuple[str, ...]:
    """The sentences in a random order that is never the original one; the passage's id is the seed."""
    rng = random.Random(f"{passage.id} shuffled")
    order = list(passage.sentences)
    while tuple(order) == passage.sentences:
        rng.shuffle(order)
    return tuple(order)


def neighbours_swapped(passage: Passage) -> tuple[str, ...]:
    """The sentences with one pair of neighbours swapped; the passage's id is the seed."""
    first = random.Random(f"{passage.id} swapped").randrange(len(passage.sentences) - 1)
    order = list(passage.sentences)
    order[first : first + 2] = reversed(order[first : first + 2])
    return tuple(order)
