"""Quality against what it costs: a chart for each known cost, its Pareto front drawn, named and put in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from fairground.evaluation import columns as c
from fairground.evaluation.pareto import COSTS, Cost, Point, dominated, front, points
from fairground.evaluation.report_markup import text
from fairground.evaluation.report_svg import (
    ACCENT,
    CHANCE_LINE,
    CHARACTER,
    HALO,
    INK,
    MUTED,
    PAPER,
    SIZES,
    Size,
    chart,
    figure,
    labels_of,
    layer,
)


def fronts(leaderboard: Mapping[str, Any]) -> Iterator[str]:
    """A figure for each cost that is known of some model, and beneath all of them the fronts in words."""
    models = c.ranked(leaderboard)
    names = [c.name(model) for model in models]
    short = dict(zip([str(model.get("model")) for model in models], labels_of(names), strict=True))
    said = []
    for cost in COSTS:
        among = points(models, cost)
        if not among:
            continue
        column = cost.column
        on = front(among, column.higher_is_better)
        better = "Up and to the right" if column.higher_is_better else "Up and to the left"
        caption = f"Accuracy against {cost.title}, {column.unit}. {better} is better."
        measured = {one.label for one in among}
        if left_out := [name for name, m in zip(names, models, strict=True) if str(m.get("model")) not in measured]:
            caption += f" Not shown, as one of the two is not known: {c.listing(left_out)}."
        says = "; ".join(
            f"{c.printable(one.label)} {c.ACCURACY.text(one.quality)} at {column.text(one.cost)}" for one in among
        )
        front_names = c.listing([c.printable(one.label) for one in on])
        drawn = [_scatter(cost, among, on, short, c.chance(leaderboard, "accuracy"), size) for size in SIZES]
        title = f"Accuracy against {cost.title}"
        yield figure(f"pareto-{column.metric}", title, caption, f"{says}. On the front: {front_names}.", drawn)
        said.append(_in_words(cost, among, on))
    if said:
        about = (
            "Filled points, stepped lines and bold names: the Pareto front, the models that no other beats in both. "
            "Thin lines: 95% intervals; dashed: chance. “May be level”: the intervals of the two accuracies overlap, "
            "so that the order may be chance."
        )
        yield f'<div class="words"><h3>The Pareto fronts in words</h3><p>{about}</p><ul>{"".join(said)}</ul></div>'


def _in_words(cost: Cost, among: Sequence[Point], on: Sequence[Point]) -> str:
    names = c.listing([f"<b>{text(one.label)}</b>" for one in on])
    if len(among) == 1:
        return f"<li>Accuracy and {cost.title}: only {names} has both, so there is nothing to choose.</li>"
    said = f"Accuracy and {cost.title}: {names}."
    beaten = dominated(among, cost.column.higher_is_better)
    for by in dict.fromkeys(one.by for one in beaten):
        labels = [
            text(one.label) + (" (whose accuracy may be level)" if one.overlap else "")
            for one in beaten
            if one.by == by
        ]
        said += f" {text(by)} is at least as accurate and as {cost.good} as {c.listing(labels)}."
    return f"<li>{said}</li>"


def _scatter(
    cost: Cost, among: Sequence[Point], on: Sequence[Point], short: Mapping[str, str], chance: float, size: Size
) -> alt.LayerChart:
    height = 300
    xs = [one.cost.value for one in among]
    ends = [e for one in among for e in (one.quality.low, one.quality.value, one.quality.high) if e is not None]
    logarithmic = max(xs) / min(xs) > 8
    factor = (max(xs) / min(xs)) ** 0.12 * 1.15
    x_domain = [min(xs) / factor, max(xs) * factor] if logarithmic else [0.0, max(xs) * 1.25]
    y_domain = [max(0.0, min([chance, *ends]) - 0.03), min(1.0, max([chance, *ends]) + 0.03)]
    x_scale = alt.Scale(type="log" if logarithmic else "linear", domain=x_domain, nice=False)
    y_scale = alt.Scale(domain=y_domain, nice=False)
    plot = _Plot(x_domain, y_domain, logarithmic, size.width - 60, height - 50)
    values = [
        {
            "x": one.cost.value,
            "y": one.quality.value,
            # An interval is drawn as far as the plot reaches.
            "x_low": None if one.cost.low is None else max(one.cost.low, x_domain[0]),
            "x_high": None if one.cost.high is None else min(one.cost.high, x_domain[1]),
            "y_low": one.quality.low,
            "y_high": one.quality.high,
            "front": one in on,
        }
        for one in among
    ]
    title = f"{cost.title}, {cost.column.unit}" + (" (logarithmic)" if logarithmic else "")
    number = "~s" if max(xs) >= 1e4 else "~r"
    x = alt.X("x:Q", scale=x_scale, axis=alt.Axis(title=title, tickCount=5, format=number, labelOverlap=True))
    y = alt.Y("y:Q", scale=y_scale, axis=alt.Axis(title="accuracy", format=".0%", tickCount=6))
    base = chart(values)
    thin: dict[str, Any] = {"color": MUTED, "strokeWidth": 1.2}
    line = chart([{"chance": chance}]).mark_rule(**CHANCE_LINE)
    across = base.transform_filter("isValid(datum.x_low) && isValid(datum.x_high)")
    upright = base.transform_filter("isValid(datum.y_low) && isValid(datum.y_high)")
    names = [
        chart([{"x": at[0], "y": at[1], "text": short[label]}])
        .mark_text(align=align, baseline="middle", fontSize=12, **look)
        .encode(x=alt.X("x:Q", scale=x_scale), y=alt.Y("y:Q", scale=y_scale), text="text:N")
        for label, at, align in plot.place(among, short)
        for look in (HALO, {"color": INK})
    ]
    # Between two points of the front, the best that can be had is what the dearer of them gives up to.
    steps = [{"x": one.cost.value, "y": one.quality.value} for one in on]
    bend: Any = "step-before" if cost.column.higher_is_better else "step-after"
    filled = base.transform_filter("datum.front").mark_point(color=ACCENT, filled=True, size=90, opacity=1)
    hollow = base.transform_filter("!datum.front").mark_point(stroke=ACCENT, fill=PAPER, size=60, opacity=1)
    return layer(
        line.encode(y=alt.Y("chance:Q", scale=y_scale)),
        chart(steps)
        .mark_line(color=ACCENT, strokeWidth=2, interpolate=bend)
        .encode(x=alt.X("x:Q", scale=x_scale), y=alt.Y("y:Q", scale=y_scale)),
        across.mark_rule(**thin).encode(
            x=alt.X("x_low:Q", scale=x_scale), x2="x_high:Q", y=alt.Y("y:Q", scale=y_scale)
        ),
        upright.mark_rule(**thin).encode(
            x=alt.X("x:Q", scale=x_scale), y=alt.Y("y_low:Q", scale=y_scale), y2="y_high:Q"
        ),
        filled.encode(x=x, y=y),
        hollow.encode(x=alt.X("x:Q", scale=x_scale), y=alt.Y("y:Q", scale=y_scale)),
        *names,
        size=size,
        height=height,
    )


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where points fall, in pixels from the upper left, so that their names can be kept apart."""

    x_domain: Sequence[float]
    y_domain: Sequence[float]
    logarithmic: bool
    width: float
    height: float

    def place(self, among: Sequence[Point], short: Mapping[str, str]) -> list[tuple[str, tuple[float, float], Any]]:
        """Each label, where its name it stands in data units, and its alignment: the freest place around its point."""
        taken: list[tuple[float, ...]] = []
        for x, y in ((one.cost, one.quality) for one in among):
            at, middle = self._pixels(x.value, y.value)
            taken.append((at - 7, middle - 7, at + 7, middle + 7))
            if y.low is not None and y.high is not None:
                taken.append((at - 2, self._pixels(x.value, y.high)[1], at + 2, self._pixels(x.value, y.low)[1]))
            if x.low is not None and x.high is not None and x.low > 0:
                taken.append(
                    (self._pixels(x.low, y.value)[0], middle - 2, self._pixels(x.high, y.value)[0], middle + 2)
                )
        placed = []
        for label, x, y in ((one.label, one.cost, one.quality) for one in among):
            at, middle = self._pixels(x.value, y.value)
            wide = len(short[label]) * CHARACTER
            tries = [
                (at + dx, middle + dy, align, at + dx - wide * left)
                for dy in (-12, 14, -28, 30, -44, 46)
                for dx, align, left in ((9, "left", 0.0), (-9, "right", 1.0), (0, "center", 0.5))
            ]
            costs = [self._cost((t[3], t[1] - 8, t[3] + wide, t[1] + 8), taken) + 8 * abs(t[1] - middle) for t in tries]
            best = tries[costs.index(min(costs))]
            taken.append((best[3], best[1] - 8, best[3] + wide, best[1] + 8))
            placed.append((label, self._data(best[0], best[1]), best[2]))
        return placed

    def _cost(self, box: tuple[float, ...], taken: Sequence[tuple[float, ...]]) -> float:
        """How much of the box others cover and, three times as bad, lies outside of the plot, in square pixels."""
        x0, y0, x1, y1 = box
        inside = max(0.0, min(x1, self.width) - max(x0, 0.0)) * max(0.0, min(y1, self.height) - max(y0, 0.0))
        covered = sum(max(0.0, min(x1, b[2]) - max(x0, b[0])) * max(0.0, min(y1, b[3]) - max(y0, b[1])) for b in taken)
        return 3 * ((x1 - x0) * (y1 - y0) - inside) + covered

    def _pixels(self, x: float, y: float) -> tuple[float, float]:
        low, high = self.x_domain
        share = math.log(x / low) / math.log(high / low) if self.logarithmic else (x - low) / (high - low)
        bottom, top = self.y_domain
        return share * self.width, (top - y) / (top - bottom) * self.height

    def _data(self, x: float, y: float) -> tuple[float, float]:
        low, high = self.x_domain
        bottom, top = self.y_domain
        share = x / self.width
        across = low * (high / low) ** share if self.logarithmic else low + share * (high - low)
        return across, top - y / self.height * (top - bottom)
