"""The verdict on a model that was made better: how often it wins against the one it came from, and what follows.

A result is 1 for a win, 0 for a loss and 1/2 for a tie, with the cluster (a prompt, a voter) that it belongs to. With
independent results the test is the sign test with mid-p on those that are no tie, which is McNemar's on "won" and
"lost", and the interval Tango's; where several results share a cluster, both come from the paired cluster bootstrap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fairground.evaluation.comparison import ALPHA, PairedTest, compare_means, compare_right_wrong, holm

NOTHING_SHOWN = "no improvement shown"
HOW = {  # what a win is, by what was measured
    "votes": "wins {rate} against {against} in {n:,} votes of people",
    "judge": "wins {rate} against {against} in {n:,} comparisons by {by}",
    "held_out_pairs": "leans to what people chose in {rate} of {n:,} held-out pairs, beside {against}",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`name` against `against`: the share of wins (a tie is half) with its 95% interval, and a two-sided p against a
    half. `measure`: a key of `HOW`; `by`: who judged, where a model did."""

    name: str
    against: str
    measure: str
    wins: int
    ties: int
    losses: int
    rate: float
    low: float
    high: float
    p: float
    method: str
    by: str = ""

    @property
    def better(self) -> bool:
        """Whether it is significantly better."""
        return self.p < ALPHA and self.rate > 0.5

    @property
    def worse(self) -> bool:
        """Whether it is significantly worse."""
        return self.p < ALPHA and self.rate < 0.5

    def sentence(self) -> str:
        """For people: "new wins 63% (95% 58 to 68) against old in 300 votes of people, p = 0.002: better"."""
        rate = f"{100 * self.rate:.0f}% (95% {100 * self.low:.0f} to {100 * self.high:.0f})"
        n = self.wins + self.ties + self.losses
        done = HOW[self.measure].format(rate=rate, against=self.against, n=n, by=self.by)
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.name} {done}, {p}: {'better' if self.better else 'worse' if self.worse else NOTHING_SHOWN}."

    def as_json(self) -> dict[str, Any]:
        """For the log: numbers rounded, so that every machine writes them alike."""
        numbers = {name: round(getattr(self, name), 6) + 0.0 for name in ("rate", "low", "high", "p")}
        counts = {name: getattr(self, name) for name in ("wins", "ties", "losses")}
        words = {name: getattr(self, name) for name in ("name", "against", "measure", "by", "method")}
        return {**words, **counts, **numbers, "better": self.better}


def verdict(name: str, against: str, measure: str, results: Sequence[tuple[float, str]], by: str = "") -> Verdict:
    """The verdict that results (see the module) give. Raises ValueError for none."""
    if not results:
        raise ValueError("a verdict needs a result")
    points = np.array([value for value, _ in results])
    wins, losses = int((points == 1).sum()), int((points == 0).sum())
    test = _test(results)
    rate, low, high = (0.5 + value / 2 for value in (test.difference, test.low, test.high))
    return Verdict(
        name, against, measure, wins, len(points) - wins - losses, losses, rate, low, high, test.p, test.method, by
    )


def together(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The same with p corrected for how many there are (Holm)."""
    return [replace(one, p=p) for one, p in zip(verdicts, holm([one.p for one in verdicts]), strict=True)]


def _test(results: Sequence[tuple[float, str]]) -> PairedTest:
    """Wins less losses, per result."""
    by_cluster: Mapping[str, list[float]] = defaultdict(list)
    for value, cluster in results:
        by_cluster[cluster].append(value)
    if len(by_cluster) < len(results) and len(by_cluster) > 1 and len({value for value, _ in results}) > 1:
        own, clusters = np.array([value for value, _ in results]), [cluster for _, cluster in results]
        return compare_means(own, 1 - own, clusters)
    # One cluster says what one result says, and where all say the same, each cluster does: a bootstrap would be sure.
    each = np.array([np.mean(values) for values in by_cluster.values()])
    return compare_right_wrong((each > 0.5).astype(float), (each < 0.5).astype(float))
