"""A total of several columns, with weights that the user gave. There is no other: no weights are ours to choose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fairground.errors import RequestError
from fairground.evaluation import columns as c
from fairground.evaluation.aggregate import SOURCES, Json, counting
from fairground.evaluation.comparison import Values
from fairground.evaluation.intervals import RESAMPLES, SEED, Floats, bootstrap_means
from fairground.evaluation.suite import Suite

METRIC = "weighted_total"
_HIGHER = {column.metric: column.higher_is_better for column in (*c.COLUMNS, *c.MORE) if column.unit == "%"}
WEIGHABLE = tuple(metric for metric in SOURCES if metric in _HIGHER and metric != "stereotype")
"""The columns from 0 to 1 of which one end is good; in stereotype the middle is."""


def read_weights(given: str) -> dict[str, float]:
    """Weights as the command line gives them: "accuracy=2,coherence=1".

    Raises RequestError for a column that cannot be weighed, one that is named twice, and a weight that is not positive.
    """
    found: dict[str, float] = {}
    for part in given.split(","):
        name, _, said = (word.strip() for word in part.partition("="))
        if name not in WEIGHABLE:
            raise RequestError(
                f"{c.printable(name)!r} cannot be weighed; give weights as COLUMN=NUMBER, with commas between, for "
                f"some of {c.listing(WEIGHABLE)}."
            )
        if name in found:
            raise RequestError(f"{name} has two weights; give it one.")
        try:
            weight = float(said)
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0):
            raise RequestError(f"The weight of {name} is {c.printable(said)!r}, but must be a number above 0.")
        found[name] = weight
    return found


def weighted_total(columns: Mapping[str, Values], weights: Mapping[str, float]) -> Json | None:
    """sum(w v) / sum(w) over the weighed columns, v from 0 to 1 and the higher the better (1 - v where less is better).

    None where the model was not measured in one of them: its total would be of something else. The 95% interval is the
    percentile bootstrap's. An item (or a passage, where items share one) that counts in several columns is drawn for
    all of them at once; the number of those that count in the same columns stays as it is.
    """
    if any(not columns.get(name) for name in weights):
        return None
    whole = sum(weights.values())
    count = len(weights)
    # Of each cluster: the sum of its items in each column, then how many those are.
    sums: dict[str, Floats] = {}
    for at, name in enumerate(weights):
        for value, cluster in columns[name].values():
            own = sums.setdefault(cluster, np.zeros(2 * count))
            own[at] += _good(name, value)
            own[count + at] += 1
    strata: dict[tuple[bool, ...], list[Floats]] = {}
    for own in sums.values():
        strata.setdefault(tuple(own[count:] > 0), []).append(own)
    drawn = np.zeros((RESAMPLES, 2 * count))
    for seed, stratum in enumerate(strata.values(), SEED):
        # A mean over clusters times their number is their sum.
        ids = [str(i) for i in range(len(stratum))]
        drawn += bootstrap_means(np.array(stratum), ids, RESAMPLES, seed) * len(stratum)
    share = np.array([weights[name] / whole for name in weights])
    low, high = np.quantile((drawn[:, :count] / drawn[:, count:]) @ share, [0.025, 0.975])
    means = [float(np.mean([_good(name, value) for value, _ in columns[name].values()])) for name in weights]
    n = len({id_ for name in weights for id_ in columns[name]})
    value = float(np.dot(means, share))
    return {"value": value, "low": float(low), "high": float(high), "n": n, "method": "stratified cluster bootstrap"}


def _good(metric: str, value: float) -> float:
    return value if _HIGHER[metric] else 1 - value


def check(weights: Mapping[str, float], suite: Suite) -> None:
    """Raises RequestError for a column in which no task of the suite counts."""
    for name in weights:
        if not counting(suite, SOURCES[name].metric):
            raise RequestError(f"No task of the suite {suite.name} counts in {name}; leave it out of the weights.")


def without_total(missing: Sequence[str]) -> str:
    """Why a model has no total."""
    return f"It has no weighted total, as it was not measured in {c.listing([c.words(name) for name in missing])}."
