"""Results cut by group: answer flips by what changed, stereotypes by their kind, and the gap between groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from fairground.evaluation import aggregate
from fairground.evaluation.aggregate import Json
from fairground.evaluation.measure import Row
from fairground.evaluation.suite import Suite
from fairground.evaluation.tasks import Outcome

FEWEST = 10
"""Groups with fewer items are left out of a gap: the widest of many small groups' differences is mostly chance."""


def fairness(row: Row, suite: Suite) -> Json:
    """What `leaderboard.json` holds under a model's "fairness"; what was not measured has no key.

    "flip_rate" and "stereotype": by kind of group its interval. "gap": the largest difference in accuracy between two
    groups, with both groups' intervals: between domains, between languages, and for each kind of counterfactual
    template (pronoun, dialect) between the groups that all its questions were asked about.
    """
    found: Json = {}
    for metric in ("flip_rate", "stereotype"):
        cut = {name: _interval(own, metric) for name, own in _by_domain(row, suite, metric).items()}
        if cut:
            found[metric] = cut
    languages = {item.id: item.language for task in suite.tasks for item in task.items}
    counted = _outcomes(row, suite, "accuracy")
    cuts = {
        "domain": _values(counted, lambda outcome: outcome.domain),
        "language": _values(counted, lambda outcome: languages.get(outcome.id, "")),
        **_persons(_outcomes(row, suite, "flip_rate")),
    }
    gaps = {name: widest for name, own in cuts.items() if (widest := _gap(own))}
    if gaps:
        found["gap"] = gaps
    return found


def _outcomes(row: Row, suite: Suite, metric: str) -> list[Outcome]:
    counting = aggregate.counting(suite, metric)
    return [outcome for task in counting if (result := row.results.get(task)) for outcome in result.outcomes]


def _by_domain(row: Row, suite: Suite, metric: str) -> dict[str, list[tuple[float, str]]]:
    found: dict[str, list[tuple[float, str]]] = {}
    for outcome in _outcomes(row, suite, metric):
        if metric in outcome.measures:
            found.setdefault(outcome.domain, []).append((outcome.measures[metric], outcome.cluster))
    return found


def _values(outcomes: Sequence[Outcome], group: Callable[[Outcome], str]) -> dict[str, list[tuple[float, str]]]:
    found: dict[str, list[tuple[float, str]]] = {}
    for outcome in outcomes:
        if "accuracy" in outcome.measures:
            found.setdefault(group(outcome), []).append((outcome.measures["accuracy"], outcome.cluster))
    return found


def _persons(outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[tuple[float, str]]]]:
    """By kind of template and group: whether the answer was right. Only groups of whom every template of the kind asks,
    as any other two were asked different questions."""
    found: dict[str, dict[str, list[tuple[float, str]]]] = {}
    for outcome in outcomes:
        kind = found.setdefault(outcome.domain, {})
        for fill in outcome.record.get("fills", ()):
            right = float(fill["chosen"] == outcome.record.get("gold"))
            kind.setdefault(str(fill["who"]), []).append((right, outcome.cluster))
    templates = Counter(outcome.domain for outcome in outcomes)
    return {
        kind: {who: own for who, own in groups.items() if len(own) == templates[kind]} for kind, groups in found.items()
    }


def _interval(own: Sequence[tuple[float, str]], metric: str) -> Json:
    return aggregate.interval({str(i): one for i, one in enumerate(own)}, aggregate.SOURCES[metric].share)


def _gap(groups: Mapping[str, Sequence[tuple[float, str]]]) -> Json | None:
    """The best and the worst group and how far they are apart; None for fewer than two groups of FEWEST items."""
    enough = {name: _interval(own, "accuracy") for name, own in groups.items() if len(own) >= FEWEST}
    if len(enough) < 2:
        return None
    best, worst = (pick(enough, key=lambda name: enough[name]["value"]) for pick in (max, min))
    ends = {"best": {"group": best, **enough[best]}, "worst": {"group": worst, **enough[worst]}}
    return {"value": enough[best]["value"] - enough[worst]["value"], **ends, "groups": len(enough)}
