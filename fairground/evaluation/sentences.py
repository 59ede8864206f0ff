"""What may be concluded from a leaderboard, in plain English."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairground.evaluation.aggregate import SOURCES
from fairground.evaluation.columns import COLUMNS, MORE

_SCALES = {"relevance": ("nats per token", 1, 2), "judged": ("of 5", 1, 2), "bits_per_byte": ("bits", 1, 3)}
"""The unit, factor and digits of a difference; of any other metric it is points of 100."""
_TITLES = {column.metric: column.title.lower() for column in (*COLUMNS, *MORE)}


def sentences(leaderboard: Mapping[str, Any], *, most: int | None = None, where: str = "report.html") -> list[str]:
    """A line for each significant difference, one saying that there is no other, and the smallest detectable one.

    Where more than `most` are significant, those of one metric share a line wherever the same models are worse, and
    after `most` lines the others are only named by their metrics; `where` says where all of them stand.
    """
    comparisons = leaderboard["comparisons"]
    significant = [entry for entry in comparisons if entry["significant"]]
    if most is not None and len(significant) > most:
        lines = _together(significant, most, where)
    else:
        lines = [_better(entry) for entry in significant]
    if comparisons and not significant:
        lines.append("No difference between these models is significant.")
    elif len(significant) < len(comparisons):
        lines.append("No other difference is significant.")
    smallest = leaderboard["run"]["smallest_detectable_difference"]["accuracy"]
    if smallest is not None:
        lines.append(
            f"The smallest difference in accuracy that this suite could have detected is {100 * smallest:.1f} points "
            "(80% power, two-sided 5%, one test)."
        )
    return lines


def _together(significant: Sequence[Mapping[str, Any]], most: int, where: str) -> list[str]:
    """At most so many lines of differences without their intervals, and one that says where these are."""
    worse_than: dict[tuple[str, str], dict[str, float]] = {}
    for entry in significant:
        better, worse = (entry["a"], entry["b"]) if _first_is_better(entry) else (entry["b"], entry["a"])
        worse_than.setdefault((better, entry["metric"]), {})[worse] = abs(entry["difference"])
    groups: dict[tuple[str, tuple[str, ...]], tuple[list[str], list[float]]] = {}
    for (better, metric), sizes in worse_than.items():
        models, found = groups.setdefault((metric, tuple(sizes)), ([], []))
        models.append(better)
        found += sizes.values()
    lines = []
    for (metric, worse), (models, found) in groups.items():
        unit, factor, digits = _SCALES.get(metric, ("points", 100, 1))
        ends = dict.fromkeys(f"{factor * size:.{digits}f}" for size in (min(found), max(found)))
        are = f"{_listed(models)} {'is' if len(models) == 1 else 'are'} better in {_named(metric)}"
        lines.append(f"{are} than {_listed(worse)}, by {' to '.join(ends)} {unit}.")
    rest = [_named(metric) for metric, _ in list(groups)[most:]]
    more = f"More differences are significant, in {_listed(list(dict.fromkeys(rest)))}. " if rest else ""
    return [*lines[:most], f"{more}Each difference's interval and p-value: {where}."]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _better(entry: Mapping[str, Any]) -> str:
    better, worse = entry["a"], entry["b"]
    difference, low, high = entry["difference"], entry["low"], entry["high"]
    if not _first_is_better(entry):
        better, worse = worse, better
    if difference < 0:
        difference, low, high = -difference, -high, -low
    unit, factor, digits = _SCALES.get(entry["metric"], ("points", 100, 1))
    difference, low, high = (f"{factor * number:.{digits}f}" for number in (difference, low, high))
    size = f"{difference} {unit} (95% {low} to {high})"
    p = "p < 0.001" if entry["p"] < 0.001 else f"p = {entry['p']:.3f}"
    return f"{better} is better than {worse} in {_named(entry['metric'])} by {size}, {p}."


def _first_is_better(entry: Mapping[str, Any]) -> bool:
    """Of a measure that should be small, the smaller one is better."""
    source = SOURCES.get(entry["metric"])
    return bool((entry["difference"] > 0) == (source is None or source.higher))


def _named(metric: str) -> str:
    return "the judge's grades" if metric == "judged" else _TITLES.get(metric, metric.replace("_", " "))
