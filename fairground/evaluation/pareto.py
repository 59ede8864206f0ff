"""The Pareto front of quality against cost: the models that no other model beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairground.evaluation import columns as c


@dataclass(frozen=True, slots=True)
class Cost:
    """What quality is held against: where the number is found, and which way is better."""

    column: c.Column
    title: str
    good: str  # what a model is that costs little: "fast to write"

    def of(self, model: Mapping[str, Any]) -> c.Estimate | None:
        """The model's cost; None where it is not known or says nothing, as for a guesser that computes nothing."""
        if c.is_floor(model):
            return None
        if self.column.metric == "memory_mb":
            found = c.estimate({"value": model.get("memory_mb")})
        else:
            found = self.column.of(model)
        return found if found is not None and found.value > 0 else None


_MEMORY = c.Column("memory_mb", "Memory", "MB", False, "size of the weights in memory")
_ENERGY = c.Column("energy_j_per_1k_tokens", "Energy", "J per 1,000 tokens", False, "energy for 1,000 tokens")
_PRICE = c.Column("price_per_mtok", "Price", "per million tokens", False, "money for a million tokens")
COSTS = (
    Cost(c.TIME_TO_FIRST_TOKEN, "time to first token", "fast to begin"),
    Cost(c.TOKENS_PER_S, "speed", "fast to write"),
    Cost(_MEMORY, "memory", "small"),
    Cost(_ENERGY, "energy", "sparing"),
    Cost(_PRICE, "price", "cheap"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One model: its quality, and its cost, each with its interval."""

    label: str
    quality: c.Estimate
    cost: c.Estimate


@dataclass(frozen=True, slots=True)
class Dominated:
    """A model off the front, one on it that is at least as good in both and better in one, and whether the intervals
    of their qualities overlap, so that the order may be chance."""

    label: str
    by: str
    overlap: bool


def points(models: Sequence[Mapping[str, Any]], cost: Cost, quality: c.Column = c.ACCURACY) -> list[Point]:
    """The models of which both are known."""
    return [
        Point(str(model.get("model")), good, spent)
        for model in models
        if (good := quality.of(model)) is not None and (spent := cost.of(model)) is not None
    ]


def front(among: Sequence[Point], higher_is_better: bool = False) -> list[Point]:
    """The points that no other dominates, the best quality first; equals are on it together.

    A point is dominated where another is at least as good in quality and in cost, and better in one of them.
    `higher_is_better` is of the cost (a speed).
    """
    kept = [one for one in among if not any(_dominates(other, one, higher_is_better) for other in among)]
    return sorted(kept, key=lambda one: -one.quality.value)


def dominated(among: Sequence[Point], higher_is_better: bool = False) -> list[Dominated]:
    """The points off the front, each with the best one on it that dominates it."""
    best = front(among, higher_is_better)
    found = []
    for one in among:
        if (by := next((other for other in best if _dominates(other, one, higher_is_better)), None)) is not None:
            found.append(Dominated(one.label, by.label, _overlap(one.quality, by.quality)))
    return found


def fronts(models: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """For `leaderboard.json`: by cost the labels of the models on the front, the most accurate first.

    A cost that is known of no model has no entry.
    """
    found = {cost.column.metric: front(points(models, cost), cost.column.higher_is_better) for cost in COSTS}
    return {metric: [one.label for one in on] for metric, on in found.items() if on}


def _dominates(a: Point, b: Point, higher_is_better: bool) -> bool:
    cheaper = a.cost.value - b.cost.value if higher_is_better else b.cost.value - a.cost.value
    better = a.quality.value - b.quality.value
    return better >= 0 and cheaper >= 0 and (better > 0 or cheaper > 0)


def _overlap(a: c.Estimate, b: c.Estimate) -> bool:
    """Whether two intervals share a value; one that is not known may reach anywhere."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return True
    return a.low <= b.high and b.low <= a.high
