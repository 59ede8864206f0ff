"""The fairness table: what was measured of how models treat people alike, and in plain words what each number means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairground.evaluation import columns as c
from fairground.evaluation.groups import FEWEST
from fairground.evaluation.report_markup import estimated, label, row, table, text

_SHARE = c.Column("share", "", "%")
_BIAS = c.Column("brier", "", "")  # printed with two decimals, as the Brier score is
_FLIPS = (
    "Answer flips: how often the chosen answer changes when a question is asked about another person, or in another "
    "dialect, and nothing else changes. 0 is fair; a model that ignores the question gets it too, so see its accuracy."
)
_FEW = "By kind there are few questions, so the intervals are wide."
_UNEVEN = (
    "Right for one person, wrong for another: the share of questions that a model answers rightly about some people "
    "and wrongly about others. 0 is fair."
)
_GAP = (
    "Accuracy gap: between the group that a model answers best and the one that it answers worst, in points, with "
    f"both groups; only groups of {FEWEST} items or more. The widest of several gaps is wide by chance alone: see "
    "whether the two groups' intervals overlap. Domains differ in difficulty too, so their gap is no unfairness by "
    "itself; where people are compared, all were asked about in the same questions."
)
_STEREOTYPES = (
    "Stereotypes: of two sentences that differ only in whom they are about, how often the one that fits a stereotype "
    "is the likelier one to the model (Nangia et al., 2020). 50 is fair."
)
_BIASES = (
    "Bias (BBQ, Parrish et al., 2022): whether wrong answers lean to a stereotype, from −1 (always against it) to 1 "
    "(always with it), once where the text gives the answer and once where only “unknown” is right. 0 is fair."
)


@dataclass(frozen=True, slots=True)
class _Measure:
    """A row of the table: its name, what it means, and each model's cell as HTML (None: not measured)."""

    title: str
    meaning: str
    cells: Sequence[str | None]


def fairness(leaderboard: Mapping[str, Any]) -> str:
    """The table, a row for each measure and a column for each model, and what each measure means."""
    models = c.ranked(leaderboard)
    measures = [m for m in _measures(models) if any(cell is not None for cell in m.cells)]
    if not measures:
        return "<p>Nothing of this was measured in this run.</p>"
    rows = [
        row(text(measure.title), (c.DASH if cell is None else cell for cell in measure.cells)) for measure in measures
    ]
    meanings = dict.fromkeys(measure.meaning for measure in measures)
    said = "".join(f"<li>{text(meaning)}</li>" for meaning in meanings)
    heads = ["Measure", *(label(c.name(model)) for model in models)]
    return f'{table(heads, rows, by="fairness-title", kind="fairness")}<ul class="meanings">{said}</ul>'


def _measures(models: Sequence[Mapping[str, Any]]) -> Iterator[_Measure]:
    def overall(metric: str) -> list[str | None]:
        return [_estimate((model.get("metrics") or {}).get(metric)) for model in models]

    def cut(name: str, kind: str) -> list[str | None]:
        return [_estimate(_cut(model, name).get(kind)) for model in models]

    yield _Measure("Answer flips, all kinds, %", _FLIPS, overall("flip_rate"))
    for kind in _keys(models, "flip_rate"):
        yield _Measure(f"– when the {c.words(kind)} changes, %", _FEW, cut("flip_rate", kind))
    yield _Measure("Right for one person, wrong for another, %", _UNEVEN, overall("accuracy_gap"))
    for kind in _keys(models, "gap"):
        between = f"{c.words(kind)}s" if kind in ("domain", "language") else f"people, by {c.words(kind)}"
        gaps = [_gap(_cut(model, "gap").get(kind)) for model in models]
        yield _Measure(f"Accuracy gap between {between}, points", _GAP, gaps)
    yield _Measure("Stereotypes (CrowS-Pairs), %", _STEREOTYPES, overall("stereotype"))
    for kind in _keys(models, "stereotype"):
        yield _Measure(f"– {c.words(kind)}, %", _FEW, cut("stereotype", kind))
    for where, when in (("dis", "where the text tells"), ("amb", "where the text does not tell")):
        for task in _tasks_with(models, f"bias_{where}"):
            found = [((model.get("tasks") or {}).get(task) or {}).get(f"bias_{where}") for model in models]
            yield _Measure(f"Bias {when} ({c.words(task)})", _BIASES, [_estimate(one, _BIAS) for one in found])


def _cut(model: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return (model.get("fairness") or {}).get(name) or {}


def _keys(models: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(key for model in models for key in _cut(model, name)))


def _tasks_with(models: Sequence[Mapping[str, Any]], measure: str) -> list[str]:
    tasks = (item for model in models for item in (model.get("tasks") or {}).items())
    return list(dict.fromkeys(task for task, measures in tasks if measure in measures))


def _estimate(entry: Any, column: c.Column = _SHARE) -> str | None:
    found = c.estimate(entry)
    return None if found is None else estimated(column, found)


def _gap(entry: Any) -> str | None:
    found = c.estimate(entry)
    if found is None:
        return None
    ends = [
        f"{text(c.words(str(end.get('group'))))} {_SHARE.text(at)}"
        for end in (entry.get("best") or {}, entry.get("worst") or {})
        if (at := c.estimate(end)) is not None
    ]
    return f"{_SHARE.number(found.value)}{''.join(f'<small>{end}</small>' for end in ends)}"
