"""95% intervals: Wilson for proportions of independent items, the cluster bootstrap for other means, Student's t for
repeated measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 20_250_101

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `n` items (or repeats) with its 95% interval, and how the interval was made."""

    value: float
    low: float
    high: float
    n: int
    method: str

    def as_json(self) -> dict[str, float | int | str]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "method": self.method}


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927, JASA 22:209-212).

    `successes` may be fractional, where a tie is half a success. Raises ValueError for n = 0.
    """
    if n < 1:
        raise ValueError("a proportion needs at least one item")
    z2 = float(ndtri((1 + LEVEL) / 2)) ** 2
    p = successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # The limits are exactly 0 and 1 at the ends; rounding must not put them past the value.
    low = 0.0 if p == 0 else max(0.0, centre - half)
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return Interval(p, low, high, n, "Wilson")


def student_t(values: Sequence[float]) -> Interval:
    """Student's t-interval for the mean of repeated measurements of a quantity that cannot be negative.

    Raises ValueError for fewer than two values.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        raise ValueError("an interval needs at least two repeats")
    mean = float(x.mean())
    half = float(stdtrit(len(x) - 1, (1 + LEVEL) / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, max(0.0, mean - half), mean + half, len(x), "Student t")


def bootstrap_means(values_NM: ArrayLike, clusters: Sequence[str], resamples: int, seed: int = SEED) -> Floats:
    """Means [resamples, M] of the M columns, each resample drawing whole clusters with replacement.

    All columns see the same resamples, so that differences of columns are paired. A resample's mean is the sum over its
    items divided by their number (the ratio estimator, where clusters differ in size).
    """
    values = np.asarray(values_NM, dtype=np.float64)
    ids, cluster_of_N = np.unique(np.asarray(clusters), return_inverse=True)
    sums_GM = np.zeros((len(ids), values.shape[1]))
    np.add.at(sums_GM, cluster_of_N, values)
    sizes_G = np.bincount(cluster_of_N, minlength=len(ids)).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    # In blocks, so that memory stays near 16 MB however many clusters there are, and counted in parts of a block that
    # stay in a core's cache.
    block, part = max(1, 1_000_000 // len(ids)), max(1, 50_000 // len(ids))
    for start in range(0, resamples, block):
        counts = np.empty((min(block, resamples - start), len(ids)))
        for first in range(0, len(counts), part):
            rows = min(part, len(counts) - first)
            drawn = rng.integers(len(ids), size=(rows, len(ids)))
            drawn += np.arange(rows)[:, None] * len(ids)
            counted = np.bincount(drawn.ravel(), minlength=rows * len(ids))
            counts[first : first + rows] = counted.reshape(rows, len(ids))
        means[start : start + len(counts)] = (counts @ sums_GM) / (counts @ sizes_G)[:, None]
    return means


def expanded_tail(clusters: int) -> float:
    """The tail probability of the expanded percentile interval: Phi(-sqrt(G / (G - 1)) t_{0.975, G - 1}).

    The plain percentile interval is too narrow by the bootstrap's missing factor G / (G - 1) and by using z where t
    belongs; widening the tails mends both (Hesterberg 2015, "What teachers should know about the bootstrap", section
    5.2, The American Statistician 69:371-386).
    """
    quantile = stdtrit(clusters - 1, (1 + LEVEL) / 2)
    return float(ndtr(-math.sqrt(clusters / (clusters - 1)) * quantile))


def cluster_bootstrap(values: Sequence[float], clusters: Sequence[str], *, resamples: int = RESAMPLES) -> Interval:
    """The mean with its expanded percentile bootstrap interval, resampling clusters (10,000 resamples, fixed seed).

    Raises ValueError for fewer than two clusters.
    """
    count = len(set(clusters))
    if count < 2:
        raise ValueError("a bootstrap interval needs at least two clusters")
    x = np.asarray(values, dtype=np.float64)
    tail = expanded_tail(count)
    low, high = np.quantile(bootstrap_means(x[:, None], clusters, resamples)[:, 0], [tail, 1 - tail])
    return Interval(float(x.mean()), float(low), float(high), len(x), "cluster bootstrap")


def share(values: Sequence[float], clusters: Sequence[str]) -> Interval:
    """The interval of a mean of values from 0 to 1 (right or wrong; a tie is half).

    Wilson where items are independent and each is 0 or 1, else the cluster bootstrap. Where all clusters agree, the
    bootstrap would claim certainty, so there Wilson's interval over the clusters stands in for it.
    """
    x = np.asarray(values, dtype=np.float64)
    count = len(set(clusters))
    if count == len(x) and np.isin(x, (0, 1)).all():
        return wilson(float(x.sum()), len(x))
    if count < 2 or len(set(values)) == 1:
        by_cluster = wilson(float(x.mean()) * count, count)
        return Interval(by_cluster.value, by_cluster.low, by_cluster.high, len(x), "Wilson over clusters")
    return cluster_bootstrap(values, clusters)
