"""The report's charts of quality: intervals by model, and domains as a heat map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from fairground.evaluation import columns as c
from fairground.evaluation.report_svg import (
    ACCENT,
    CHANCE_LINE,
    HALO,
    HEAT,
    INK,
    SIZES,
    Size,
    chart,
    figure,
    labels_of,
    layer,
)


def charts(leaderboard: Mapping[str, Any]) -> Iterator[str]:
    """Every chart that the leaderboard's numbers allow, each as a `<figure>` of escaped, self-contained HTML."""
    models = c.ranked(leaderboard)
    labels = labels_of([c.name(model) for model in models])
    for column, by in ((c.ACCURACY, "multiple-choice items"), (c.COHERENCE, "order discrimination")):
        rows = [(label, found) for label, model in zip(labels, models, strict=True) if (found := column.of(model))]
        if rows:
            chance = c.chance(leaderboard, column.metric)
            title = f"{column.title} by model, with 95% intervals"
            caption = f"{column.title} ({by}) with 95% intervals. Dashed: chance, {chance:.0%}."
            says = "; ".join(f"{label} {column.text(found)}" for label, found in rows) + f"; chance {chance:.0%}."
            yield figure(column.metric, title, caption, says, [_intervals(column, rows, chance, s) for s in SIZES])
    if domains := c.domains(leaderboard):
        cells = [
            (label, domain, found.value if found else None)
            for label, model in zip(labels, models, strict=True)
            for domain in domains
            for found in [c.task_accuracy(model, domain)]
        ]
        says = "; ".join(f"{m}, {c.words(d)} {'not measured' if v is None else f'{v:.0%}'}" for m, d, v in cells) + "."
        caption = "Accuracy by domain, in percent; few items a domain, so a difference of a few points says little."
        drawn = [_heat_map(labels, domains, cells, size) for size in SIZES]
        yield figure("domains", "Accuracy by domain and model", caption, says, drawn)


def _intervals(column: c.Column, rows: Sequence[tuple[str, c.Estimate]], chance: float, size: Size) -> alt.LayerChart:
    low = min([chance, *(found.low if found.low is not None else found.value for _, found in rows)])
    high = max([chance, *(found.high if found.high is not None else found.value for _, found in rows)])
    domain = [max(0.0, math.floor(low * 20 - 0.5) / 20), min(1.0, math.ceil(high * 20 + 0.5) / 20)]
    values = [
        {"model": label, "value": f.value, "low": f.low, "high": f.high, "text": column.number(f.value)}
        for label, f in rows
    ]
    y = alt.Y("model:N", sort=[label for label, _ in rows], title=None)
    scale = alt.Scale(domain=domain, nice=False)
    axis = alt.Axis(format=".0%", tickCount=6 if size.name == "wide" else 4, title=None)
    base = chart(values)
    measured = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    line = chart([{"chance": chance}]).mark_rule(**CHANCE_LINE)
    written: dict[str, Any] = {"y": y, "x": alt.X("value:Q", scale=scale), "text": "text:N"}
    return layer(
        line.encode(x=alt.X("chance:Q", scale=scale, axis=axis)),
        measured.mark_rule(color=ACCENT, strokeWidth=2.5).encode(y=y, x=alt.X("low:Q", scale=scale), x2="high:Q"),
        base.mark_point(color=ACCENT, filled=True, size=75, opacity=1).encode(y=y, x=alt.X("value:Q", scale=scale)),
        base.mark_text(dy=-12, fontSize=12, **HALO).encode(**written),
        base.mark_text(dy=-12, fontSize=12, color=INK).encode(**written),
        size=size,
        height=40 * len(rows) + 30,
        longest=max(len(label) for label, _ in rows),
    )


def _heat_map(
    labels: Sequence[str], domains: Sequence[str], cells: Sequence[tuple[str, str, float | None]], size: Size
) -> alt.LayerChart:
    known = [value for *_, value in cells if value is not None]
    low, high = min(known), max(known)
    values = [
        {
            "model": model,
            "domain": c.words(domain),
            "text": c.DASH if value is None else f"{value:.0%}".rstrip("%"),
            # Opacity over the page's own background stays legible in light and in dark.
            "opacity": 0.0 if value is None else 0.06 + 0.56 * (value - low) / max(high - low, 1e-9),
        }
        for model, domain, value in cells
    ]
    gaps = alt.Scale(paddingInner=0.06)
    axis = alt.Axis(orient="top", labelAngle=-45, title=None, domain=False, ticks=False, grid=False)
    x = alt.X("domain:N", sort=[c.words(domain) for domain in domains], axis=axis, scale=gaps)
    bare = alt.Axis(title=None, domain=False, ticks=False, grid=False)
    y = alt.Y("model:N", sort=list(labels), axis=bare, scale=gaps)
    base = chart(values).encode(x=x, y=y)
    return layer(
        base.mark_rect(fill=HEAT, cornerRadius=3).encode(
            fillOpacity=alt.FillOpacity("opacity:Q", scale=None, legend=None)
        ),
        base.mark_text(color=INK, fontSize=12 if size.name == "wide" else 11).encode(text="text:N"),
        size=size,
        height=38 * len(labels) + 100,
        longest=max(map(len, labels)),
    )
