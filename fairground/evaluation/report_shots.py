"""The report's few-shot curves: a measure against the number of solved examples in the prompt, a line per model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import altair as alt

from fairground.evaluation import columns as c
from fairground.evaluation.report_svg import (
    ACCENT,
    CHANCE_LINE,
    INK,
    MUTED,
    RIGHT,
    SIZES,
    WRONG,
    Size,
    chart,
    figure,
    labels_of,
    layer,
)

Curve = Sequence[tuple[int, c.Estimate]]
"""Numbers of examples, rising, each with what was measured."""

_COLOURS = (ACCENT, INK, WRONG, RIGHT, MUTED)  # not the colour of chance
_SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-right")
_APART = 7.0  # pixels between the intervals of two models at the same number of examples
_ROW = 20  # pixels that a model's name takes beneath the chart


def shot_curves(leaderboard: Mapping[str, Any]) -> Iterator[str]:
    """A `<figure>` for every measure that depends on examples, where some model has it at two or more numbers."""
    for metric in ("accuracy", "exact_match", "relations"):
        column = next(column for column in c.COLUMNS if column.metric == metric)
        curves = _curves(leaderboard, column)
        if not curves:
            continue
        names = dict(zip(curves, labels_of([c.printable(name) for name in curves]), strict=True))
        curves = {names[name]: curve for name, curve in curves.items()}
        chance = c.chance(leaderboard, metric) if metric == "accuracy" else None
        title = f"{column.title} by number of examples in the prompt, with 95% intervals"
        caption = f"{column.title} ({column.meaning}) against the number of solved examples in the prompt."
        caption += " Points of different models stand a little apart, so that their 95% intervals can be seen."
        caption += f" Dashed: chance, {chance:.0%}." if chance is not None else ""
        told = {
            label: ", ".join(f"{column.text(found)} at {shots}" for shots, found in curve)
            for label, curve in curves.items()
        }
        says = "; ".join(f"{label}: {text}" for label, text in told.items()) + "."
        yield figure(f"shots-{metric}", title, caption, says, [_drawn(column, curves, chance, s) for s in SIZES])


def _curves(leaderboard: Mapping[str, Any], column: c.Column) -> dict[str, Curve]:
    """By model its measure at each number of examples, for models that have it at two or more."""
    counts_in = ((leaderboard.get("run") or {}).get("suite") or {}).get("counts_in") or {}
    tasks = {task for task, metric in counts_in.items() if metric == column.metric} or {column.metric}
    found: dict[str, dict[int, c.Estimate]] = {}
    for model in c.ranked(leaderboard):
        estimate, shots = column.of(model), model.get("shots")
        # What no examples are shown for was measured once and would be drawn as a level line.
        if estimate is None or not isinstance(shots, int) or tasks <= set(model.get("shared") or ()):
            continue
        name = str(model.get("name") or model.get("shared_with") or model.get("model"))
        found.setdefault(name, {})[shots] = estimate
    return {name: sorted(own.items()) for name, own in found.items() if len(own) > 1}


def _drawn(column: c.Column, curves: Mapping[str, Curve], chance: float | None, size: Size) -> alt.LayerChart:
    shots = sorted({shots for curve in curves.values() for shots, _ in curve})
    offset = _offsets(len(curves), shots, size.width - 70)
    values = [
        {"model": label, "at": at + offset[i], "value": e.value, "low": e.low, "high": e.high}
        for i, (label, curve) in enumerate(curves.items())
        for at, e in curve
    ]
    edges = [edge for curve in curves.values() for _, e in curve for edge in (e.value, e.low, e.high)]
    ends = [edge for edge in (*edges, chance) if edge is not None]
    room = 0.03 * (shots[-1] - shots[0]) + max(offset)
    x_scale = alt.Scale(domain=[shots[0] - room, shots[-1] + room], nice=False)
    y_scale = alt.Scale(domain=[max(0.0, min(ends) - 0.03), min(1.0, max(ends) + 0.03)], nice=False)
    x = alt.X("at:Q", scale=x_scale, axis=alt.Axis(title="examples in the prompt", values=shots, format="d"))
    y = alt.Y("value:Q", scale=y_scale, axis=alt.Axis(title=column.title.lower(), format=".0%", tickCount=6))
    labels = list(curves)
    named: dict[str, Any] = {"orient": "bottom", "direction": "vertical", "title": None, "labelColor": INK}
    symbol: dict[str, Any] = {"symbolSize": 80, "symbolStrokeWidth": 0, "symbolOpacity": 1}
    legend = alt.Legend(**named, **symbol, labelFontSize=12, labelLimit=size.width - 60)
    colour = alt.Color("model:N", scale=_range(labels, _COLOURS), sort=labels, legend=legend)
    shape = alt.Shape("model:N", scale=_range(labels, _SHAPES), sort=labels, legend=legend)
    base = chart(values)
    measured = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    interval = measured.mark_rule(strokeWidth=1.5, opacity=0.75).encode(
        x=x, y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=colour
    )
    layers = [
        interval,
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=colour, shape=shape),
    ]
    if chance is not None:
        line = chart([{"chance": chance}]).mark_rule(**CHANCE_LINE)
        layers.insert(0, line.encode(y=alt.Y("chance:Q", scale=y_scale)))
    return layer(*layers, size=size, height=280 + _ROW * len(curves))


def _range(labels: Sequence[str], looks: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=list(labels), range=[looks[i % len(looks)] for i in range(len(labels))])


def _offsets(models: int, shots: Sequence[int], width: float) -> list[float]:
    """How far each model's points stand from their number of examples, in examples; neighbours never meet."""
    gap = min(after - before for before, after in pairwise(shots))
    step = min(_APART * (shots[-1] - shots[0]) / width, 0.6 * gap / models)
    return [step * (i - (models - 1) / 2) for i in range(models)]
