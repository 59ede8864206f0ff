"""Two runs of the same items: what changed from the one to the other, and whether anything fell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairground.errors import RequestError
from fairground.evaluation.aggregate import SOURCES, linearised
from fairground.evaluation.comparison import Values, compare_all
from fairground.evaluation.judges import same_judge

_BY_A_JUDGE = ("judged", "win_rate")  # a win rate says something of the other models of its run too

Finished = tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]
"""What `leaderboard.json` and the lines of `scores.jsonl` hold."""


def compare_runs(before: Finished, after: Finished) -> list[dict[str, Any]]:
    """Every measure of every model that both runs have, paired by item: `difference` is after less before.

    Where no label is in both, and each run has one model besides the floor, those two are compared. An entry's `fell`
    says that the measure is significantly worse (Holm over all of them). Grades are compared where the same judge gave
    them, win rates never. Raises RequestError where nothing can be compared.
    """
    judged_alike = same_judge(before[0], after[0])
    found = compare_all(
        [
            ({"before": a, "after": b, "metric": metric}, _values(after, b, metric), _values(before, a, metric))
            for a, b in _pairs(before[0], after[0])
            for metric in SOURCES
            if metric not in _BY_A_JUDGE or (metric == "judged" and judged_alike)
        ]
    )
    if not found:
        raise RequestError("These two runs have no item in common, so nothing can be compared; use the same suite.")
    for entry in found:
        worse = entry["difference"] < 0 if SOURCES[entry["metric"]].higher else entry["difference"] > 0
        entry["fell"] = bool(entry["significant"] and worse)
    return found


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str]]:
    old, new = ([m["model"] for m in board["models"] if m["family"] != "baseline"] for board in (before, after))
    same = [(label, label) for label in old if label in new]
    if same or len(old) != 1 or len(new) != 1:
        return same
    return [(old[0], new[0])]


def _values(run: Finished, label: str, metric: str) -> Values:
    counts_in, source = run[0]["run"]["suite"].get("counts_in", {}), SOURCES[metric]
    lines = [line for line in run[1] if line["model"] == label and counts_in.get(line["task"]) == source.metric]

    def of(measure: str) -> Values:
        found: dict[str, list[float]] = {}
        clusters: dict[str, str] = {}
        for line in lines:
            if measure in line:
                found.setdefault(line["id"], []).append(line[measure])
                clusters[line["id"]] = line["cluster"]
        return {id_: (sum(own) / len(own), clusters[id_]) for id_, own in found.items()}

    return linearised(of(source.measure), of(source.over)) if source.over else of(source.measure)


def change(entry: Mapping[str, Any]) -> str:
    """One entry as a sentence: "accuracy of smollm2 fell by 3.1 points (95% 1.2 to 5.0), p = 0.002"."""
    points = SOURCES[entry["metric"]].share
    factor, unit = (100, " points") if points else (1, "")
    size, ends = abs(entry["difference"]), sorted(abs(entry[key]) for key in ("low", "high"))
    if entry["low"] * entry["high"] < 0:
        ends = [entry["low"], entry["high"]]
    verb = "rose" if entry["difference"] > 0 else "fell" if entry["difference"] < 0 else "did not change,"
    who = entry["before"] if entry["before"] == entry["after"] else f"{entry['after']}, beside {entry['before']},"
    digits = 1 if points else 3
    p = "p < 0.001" if entry["p"] < 0.001 else f"p = {entry['p']:.3f}"
    return (
        f"{entry['metric'].replace('_', ' ')} of {who} {verb} by {factor * size:.{digits}f}{unit} "
        f"(95% {factor * ends[0]:.{digits}f} to {factor * ends[1]:.{digits}f}), {p}"
    )
