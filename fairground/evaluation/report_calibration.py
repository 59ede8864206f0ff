"""Reliability diagrams: does a model that is 70% sure answer 70% right? One small diagram for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from fairground.evaluation import columns as c
from fairground.evaluation.report_markup import label
from fairground.evaluation.report_svg import ACCENT, MUTED, Size, chart, layer, svg

_SIZE = Size("small", 190)
_ECE = next(column for column in c.MORE if column.metric == "ece")


def calibration(leaderboard: Mapping[str, Any]) -> str:
    """The diagrams of all models whose confidence is known, as one figure; empty where there is none."""
    drawn = []
    for i, model in enumerate(c.ranked(leaderboard)):
        points = _points(model)
        if c.is_floor(model) or not points:
            continue
        name = c.name(model)
        error = f", error {_ECE.text(found)}" if (found := _ECE.of(model)) else ""
        title = f"Calibration of {name}"
        says = "; ".join(f"{p['confidence']:.0%} sure, {p['accuracy']:.0%} right" for p in points) + f"{error}."
        image = svg(_diagram(points), f"calibration-{i}", _SIZE, title, says)
        drawn.append(f"<li>{image}<p><b>{label(name)}</b><small>{error.removeprefix(', ')}</small></p></li>")
    if not drawn:
        return ""
    caption = (
        "Calibration: across, how sure a model was of its answers (ten groups of equally many items, from the least to "
        "the most sure); up, the share of them that was right. On the dashed line it is as often right as it is sure; "
        "beneath it, it is too sure of itself. Error: the mean distance from that line, with its 95% interval."
    )
    return f'<figure class="chart multiples"><ul>{"".join(drawn)}</ul><figcaption>{caption}</figcaption></figure>'


def _points(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    points = model.get("calibration")
    if not isinstance(points, list):
        return []
    return [p for p in points if all(c.estimate({"value": p.get(key)}) for key in ("confidence", "accuracy"))]


def _diagram(points: Sequence[Mapping[str, Any]]) -> alt.LayerChart:
    scale = alt.Scale(domain=[0, 1], nice=False)
    values = [{"x": p["confidence"], "y": p["accuracy"]} for p in points]
    x = alt.X("x:Q", scale=scale, axis=alt.Axis(title="how sure", format=".0%", values=[0, 0.5, 1]))
    y = alt.Y("y:Q", scale=scale, axis=alt.Axis(title="right", format=".0%", values=[0, 0.5, 1], grid=True))
    ideal = chart([{"x": 0, "y": 0}, {"x": 1, "y": 1}]).mark_line(color=MUTED, strokeDash=[4, 4], strokeWidth=1.2)
    base = chart(values).encode(x=x, y=y)
    return layer(
        ideal.encode(x=x, y=y),
        base.mark_line(color=ACCENT, strokeWidth=2),
        base.mark_point(color=ACCENT, filled=True, size=45, opacity=1),
        size=_SIZE,
        height=_SIZE.width,
    )
