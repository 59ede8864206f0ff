"""Whether one model is better than another: paired tests and intervals, corrected for how many were made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr, betaln, ndtri, stdtr

from fairground.evaluation.intervals import LEVEL, RESAMPLES, Floats, bootstrap_means, expanded_tail

Values = Mapping[str, tuple[float, str]]
"""By item: its value and its cluster."""

ALPHA = 1 - LEVEL
POWER = 0.8
_Z = float(ndtri(1 - ALPHA / 2))
_Z_POWER = float(ndtri(POWER))


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The difference a - b over `n` items that both were measured on, its 95% interval, and a two-sided p."""

    difference: float
    low: float
    high: float
    p: float
    n: int
    method: str


def mid_p_mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's mid-p (Fagerland, Lydersen & Laake 2013, BMC Medical Research Methodology 13:91).

    `only_a` and `only_b` count the items that only one of the two got right. The exact two-sided p less the probability
    of what was observed: 2 P(X <= min) - P(X = min), X ~ Binomial(only_a + only_b, 1/2). Without any such item: 1.
    """
    if only_a == only_b == 0:
        return 1.0
    n, fewer = only_a + only_b, min(only_a, only_b)
    # The binomial coefficient by the beta function, for it may be larger than any float.
    observed = math.exp(-betaln(fewer + 1, n - fewer + 1) - math.log(n + 1) - n * math.log(2))
    if only_a == only_b:
        return 1 - 0.5 * observed
    return float(2 * bdtr(fewer, n, 0.5)) - observed


def tango_interval(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """Tango's score interval for the difference of two paired proportions (Tango 1998, Stat. Med. 17:891-908).

    It inverts McNemar's score test, so interval and test agree but for the mid-p's exactness, and in our simulation
    it covered nearer to 95% than Newcombe's or Bonett and Price's, above all where two models seldom disagree.
    """
    observed = (only_a - only_b) / n

    def statistic(delta: float) -> float:
        # q: the maximum-likelihood probability of "only b" where the true difference is delta (Tango, eq. 10).
        b = -only_a - only_b + (2 * n - only_a + only_b) * delta
        c = -only_b * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        surplus = only_a - only_b - n * delta
        if surplus == 0:
            return 0.0
        return surplus / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, surplus)

    def limit(end: float, z: float) -> float:
        # The statistic falls in delta, from +inf at -1 to -inf at 1; where all was observed, the limit is that end.
        if observed == end:
            return end
        return _root(lambda delta: _bounded(statistic(delta) - z), observed, end)

    return limit(-1.0, _Z), limit(1.0, -_Z)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where the function is 0 between two numbers at which its signs differ."""
    from scipy.optimize import brentq  # a third of a second, and a run of one model compares nothing

    return float(brentq(function, low, high, xtol=1e-12))


def _bounded(x: float) -> float:
    """brentq needs finite values; only the sign matters this far out."""
    return max(-1e6, min(1e6, x))


def compare_right_wrong(a: Floats, b: Floats) -> PairedTest:
    """Mid-p McNemar with Tango's interval, for independent items that are right (1) or wrong (0)."""
    only_a, only_b = int(np.sum((a == 1) & (b == 0))), int(np.sum((a == 0) & (b == 1)))
    low, high = tango_interval(only_a, only_b, len(a))
    p = mid_p_mcnemar(only_a, only_b)
    return PairedTest((only_a - only_b) / len(a), low, high, p, len(a), "mid-p McNemar, Tango's interval")


def compare_means(a: Floats, b: Floats, clusters: Sequence[str], *, resamples: int = RESAMPLES) -> PairedTest:
    """A paired bootstrap of the difference of means, resampling clusters; p and interval agree.

    p is the level at which the expanded percentile interval (see `intervals.expanded_tail`) just touches 0, so p < 0.05
    exactly where the 95% interval leaves 0 out. It cannot be smaller than what `resamples` can show.
    """
    return compare_differences((a - b)[:, None], clusters, resamples)[0]


def compare_differences(differences_NP: Floats, clusters: Sequence[str], resamples: int) -> list[PairedTest]:
    """`compare_means` of P pairs that share their N items: one set of resamples serves them all."""
    count = len(set(clusters))
    if count < 2:
        raise ValueError("a paired bootstrap needs at least two clusters")
    tail, n = expanded_tail(count), len(differences_NP)
    tests = []
    for own, means in zip(differences_NP.T, bootstrap_means(differences_NP, clusters, resamples).T, strict=True):
        low, high = np.quantile(means, [tail, 1 - tail])
        beyond = (min(int(np.sum(means <= 0)), int(np.sum(means >= 0))) + 1) / (resamples + 1)
        t = -float(ndtri(min(beyond, 0.5))) * math.sqrt((count - 1) / count)
        p = min(1.0, 2 * float(stdtr(count - 1, -t)))
        tests.append(PairedTest(float(np.mean(own)), float(low), float(high), p, n, "paired cluster bootstrap"))
    return tests


def _right_wrong(a: Floats, b: Floats, clusters: Sequence[str]) -> bool:
    return bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()) and len(set(clusters)) == len(a)


def compare_all(wanted: Sequence[tuple[Mapping[str, Any], Values, Values]]) -> list[dict[str, Any]]:
    """Every wanted pair on the items that both sides have, with Holm's correction over all of them.

    `wanted` holds what an entry begins with and the two sides' values by item. A pair that shares less than two
    clusters of items has no entry. Holm multiplies the smallest p by the number of tests, so the bootstrap must be able
    to show a p that survives it.
    """
    shared = [(head, a, b, ids) for head, a, b in wanted if len(ids := sorted(a.keys() & b.keys())) > 1]
    resamples = max(RESAMPLES, 400 * len(shared))
    heads: list[tuple[Mapping[str, Any], float]] = []
    tests: dict[int, PairedTest] = {}
    # Pairs on the same items are resampled together, as drawing the resamples is what takes the time.
    together: dict[tuple[tuple[str, str], ...], dict[int, Floats]] = {}
    for head, a, b, ids in shared:
        clusters = [a[id_][1] for id_ in ids]
        if len(set(clusters)) < 2:
            continue
        one, other = (np.array([side[id_][0] for id_ in ids]) for side in (a, b))
        if _right_wrong(one, other, clusters):
            tests[len(heads)] = compare_right_wrong(one, other)
        else:
            together.setdefault(tuple(zip(ids, clusters, strict=True)), {})[len(heads)] = one - other
        heads.append((head, float(np.mean(one != other))))
    for items, pairs in together.items():
        differences_NP = np.stack(list(pairs.values()), axis=1)
        made = compare_differences(differences_NP, [cluster for _, cluster in items], resamples)
        tests.update(zip(pairs, made, strict=True))
    entries: list[dict[str, Any]] = []
    for at, (head, discordance) in enumerate(heads):
        test = tests[at]
        size = {"difference": test.difference, "low": test.low, "high": test.high, "p_raw": test.p}
        entries.append({**head, **size, "n": test.n, "method": test.method, "discordance": discordance})
    for entry, p in zip(entries, holm([entry["p_raw"] for entry in entries]), strict=True):
        entry["p"], entry["significant"] = p, p < ALPHA
    return entries


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order (Holm 1979, Scandinavian Journal of Statistics 6:65-70)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def smallest_detectable_difference(discordance: float, n: int) -> float:
    """The true difference of accuracies that McNemar's test on `n` items finds with 80% power (two-sided 5%).

    Connor (1987, Biometrics 43:207-211): n = (z_alpha sqrt(psi) + z_beta sqrt(psi - d^2))^2 / d^2, solved for d, where
    psi is `discordance`, the share of items that exactly one of the two models gets right. Since d cannot be larger
    than psi, a smaller psi is raised to d itself (all disagreement on one side). At most 1. Not corrected for the
    number of tests.
    """
    root_n = math.sqrt(n)

    def shortfall(d: float, psi: float) -> float:
        return _Z * math.sqrt(psi) + _Z_POWER * math.sqrt(max(psi - d * d, 0.0)) - root_n * d

    if shortfall(discordance, discordance) <= 0 < discordance:
        return _root(lambda d: shortfall(d, discordance), 0.0, discordance)
    if shortfall(1.0, 1.0) > 0:
        return 1.0
    return _root(lambda d: shortfall(d, d), 1e-12, 1.0)
