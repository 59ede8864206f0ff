"""From items to columns: which measure of which tasks a column is made of, and its number with a 95% interval."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairground.evaluation import intervals, metrics
from fairground.evaluation.comparison import Values
from fairground.evaluation.exposure import CANARIES
from fairground.evaluation.intervals import Floats
from fairground.evaluation.measure import Row
from fairground.evaluation.suite import Suite

Json = dict[str, Any]

ECE_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Source:
    """Where a column comes from: the tasks that count in `metric`, and of their outcomes this measure.

    `share`: it lies from 0 to 1. `compared`: models are compared in it; `higher` is better.
    """

    metric: str
    measure: str
    share: bool = True
    compared: bool = False
    higher: bool = True
    over: str | None = None


SOURCES: dict[str, Source] = {
    "accuracy": Source("accuracy", "accuracy", compared=True),
    "accuracy_norm": Source("accuracy", "accuracy_norm"),
    "exact_match": Source("exact_match", "exact_match", compared=True),
    "last_word": Source("last_word", "last_word", compared=True),
    "coherence": Source("coherence", "coherence", compared=True),
    "relevance": Source("relevance", "relevance", share=False, compared=True),
    "repetition": Source("relevance", "repetition", higher=False),
    "judged": Source("relevance", "judged", share=False, compared=True),
    "win_rate": Source("relevance", "win_rate"),
    "chrf": Source("chrf", "chrf", share=False, compared=True),
    "truthfulness": Source("truthfulness", "accuracy", compared=True),
    "misinformation": Source("truthfulness", "misconception", higher=False),
    "mc2": Source("mc2", "mc2", compared=True),
    "robustness": Source("robustness", "robustness", compared=True),
    "brier": Source("accuracy", "brier", share=False, higher=False),
    "flip_rate": Source("flip_rate", "flip_rate", compared=True, higher=False),
    "accuracy_gap": Source("flip_rate", "accuracy_gap", higher=False),
    "stereotype": Source("stereotype", "stereotype", higher=False),
    "verbatim": Source("verbatim", "verbatim", higher=False),
    "personal_data": Source("personal_data", "personal_data", higher=False),
    "bits_per_byte": Source("bits_per_byte", "bits", share=False, compared=True, higher=False, over="bytes"),
}
"""Columns that are a mean over items, or a ratio of two; ECE is neither, and is made by `columns` too."""


def values(row: Row, tasks: Sequence[str], measure: str) -> Values:
    """By item the measure's mean over the tasks that have this item; an item that failed in one of them is left out."""
    found: dict[str, list[float]] = {}
    clusters: dict[str, str] = {}
    failed: set[str] = set()
    for task in tasks:
        if (result := row.results.get(task)) is None:
            continue
        failed |= {id_ for id_, _ in result.failures}
        for outcome in result.outcomes:
            if measure in outcome.measures:
                found.setdefault(outcome.id, []).append(outcome.measures[measure])
                clusters[outcome.id] = outcome.cluster
    return {id_: (statistics.fmean(own), clusters[id_]) for id_, own in found.items() if id_ not in failed}


def column_values(row: Row, suite: Suite) -> dict[str, Values]:
    """The values of each column's items; a passage's coherence is the mean over its difficulties."""
    found = {}
    for name, source in SOURCES.items():
        tasks = counting(suite, source.metric)
        found[name] = values(row, tasks, source.measure)
        if source.over:
            found[name] = linearised(found[name], values(row, tasks, source.over))
    return found


def linearised(tops: Values, bottoms: Values) -> Values:
    """Numbers whose mean is R = Σ tops / Σ bottoms and whose spread is R's: R + (top − R bottom) / mean bottom.

    Taylor linearisation (Woodruff 1971, JASA 66:411-414), so that ratios are resampled and compared as means are. Of
    two models, the mean difference is their ratios' where both have the same items, and to first order otherwise.
    """
    size = sum(bottoms[id_][0] for id_ in tops)
    if not size:
        return {}
    ratio, mean = sum(top for top, _ in tops.values()) / size, size / len(tops)
    return {id_: (ratio + (top - ratio * bottoms[id_][0]) / mean, cluster) for id_, (top, cluster) in tops.items()}


def counting(suite: Suite, metric: str) -> list[str]:
    """The tasks that count in a column."""
    return [task.name for task in suite.tasks if task.metric == metric]


def interval(own: Values, share: bool) -> Json:
    """The mean and its interval."""
    numbers = [value for value, _ in own.values()]
    clusters = [cluster for _, cluster in own.values()]
    if share:
        return intervals.share(numbers, clusters).as_json()
    if len(set(clusters)) < 2:
        return {"value": statistics.fmean(numbers), "low": None, "high": None, "n": len(numbers), "method": "none"}
    return intervals.cluster_bootstrap(numbers, clusters).as_json()


def grades(own: Values) -> Json:
    """The mean of grades from 1 to 5 and its interval, which claims no certainty where all grades are alike."""
    found = interval({id_: ((grade - 1) / 4, cluster) for id_, (grade, cluster) in own.items()}, share=True)
    return {**found, **{key: 1 + 4 * found[key] for key in ("value", "low", "high")}}


def columns(row: Row, suite: Suite, own: Mapping[str, Values]) -> Json:
    """Every column that the row has numbers for."""
    found = {
        name: grades(items) if name == "judged" else interval(items, SOURCES[name].share)
        for name, items in own.items()
        if items
    }
    if calibration := _calibration(row, suite):
        found["ece"] = calibration
    if exposure := values(row, [CANARIES], "exposure_bits"):
        found["exposure_bits"] = interval(exposure, share=False)
    return found


def reliability(row: Row, suite: Suite) -> list[Json]:
    """The points of the row's reliability diagram, in the ten bins of ECE; empty where there is no confidence."""
    p, y, _ = _confidences(row, suite)
    points = metrics.calibration_bins(p, y) if len(p) > 1 else []
    return [{"confidence": confidence, "accuracy": accuracy, "n": n} for confidence, accuracy, n in points]


def _confidences(row: Row, suite: Suite) -> tuple[Floats, Floats, list[str]]:
    """Of every item that counts in accuracy: the confidence in the answer, whether it is right, and the cluster."""
    tasks = counting(suite, "accuracy")
    confidence, right = (values(row, tasks, measure) for measure in ("confidence", "accuracy"))
    ids = [id_ for id_ in confidence if id_ in right]
    p, y = (np.array([own[id_][0] for id_ in ids]) for own in (confidence, right))
    return p, y, [right[id_][1] for id_ in ids]


def _calibration(row: Row, suite: Suite) -> Json | None:
    """ECE over 10 equal-mass bins, with a bootstrap interval that resamples clusters."""
    p, y, clusters = _confidences(row, suite)
    if len(p) < 2:
        return None
    _, cluster_of = np.unique(clusters, return_inverse=True)
    members = [np.flatnonzero(cluster_of == cluster) for cluster in range(cluster_of.max() + 1)]
    rng = np.random.default_rng(intervals.SEED)
    drawn = []
    for _ in range(ECE_RESAMPLES):
        at = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        drawn.append(metrics.expected_calibration_error(p[at], y[at]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = metrics.expected_calibration_error(p, y)
    # Resampling adds noise, and ECE only grows with noise: the interval is moved back by how much it grew.
    bias = float(np.mean(drawn)) - value
    low, high = max(0.0, float(low) - bias), float(high) - bias
    return {"value": value, "low": min(low, value), "high": max(high, value), "n": len(p), "method": "bootstrap"}
