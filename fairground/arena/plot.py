"""Ratings as a picture: a dot for each model and its 95% interval as a line."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

import altair as alt
import vl_convert

from fairground.arena.ratings import Rating

_INK, _MUTED, _GRID, _ACCENT, _OPTION = "#1a1a1a", "#5f6368", "#e3e3e0", "#1f4e79", "#b3541e"
_FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
_ROW = 19  # pixels
_WIDTH = 520
_LONGEST_LABEL = 260  # pixels


def interval_plot(rows: Sequence[Rating], *, title: str, subtitle: str, source: str) -> str:
    """An SVG of the rows in their order, best first."""
    return str(vl_convert.vegalite_to_svg(_chart(rows, title, subtitle, source).to_dict()))


def _chart(rows: Sequence[Rating], title: str, subtitle: str, source: str) -> alt.LayerChart:
    values = [
        {
            "model": f"{place:05} {row.model}",  # a name of its own for each row, in order
            "rating": row.rating,
            "low": row.low,
            "high": row.high,
            "label": f"{row.rating:.0f}".replace("-", "−"),
            "what": "outside" if row.outside else "model",
        }
        for place, row in enumerate(rows)
    ]
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    room = 0.02 * max(high - low, 1)
    base = alt.Chart(alt.Data(values=values))  # type: ignore[no-untyped-call]
    y = alt.Y(
        "model:N",
        sort=None,
        title=None,
        axis=alt.Axis(
            labelExpr="slice(datum.value, 6)", labelLimit=_LONGEST_LABEL, ticks=False, domain=False, labelPadding=8
        ),
    )
    scale = alt.Scale(domain=[low - room, high + room], nice=True, zero=False)
    axis = alt.Axis(orient="top", grid=True, ticks=False, domain=False, tickCount=7, format="d", labelPadding=6)
    x = alt.X("low:Q", scale=scale, title=None, axis=axis)
    colour = alt.Color("what:N", legend=None, scale=alt.Scale(domain=["model", "outside"], range=[_ACCENT, _OPTION]))
    mean = alt.Chart(alt.Data(values=[{"mean": 1000}])).mark_rule(color=_MUTED, strokeDash=[2, 3])  # type: ignore[no-untyped-call]
    lines = base.mark_rule(strokeWidth=2.5, strokeCap="round", opacity=0.45).encode(x, alt.X2("high:Q"), y, colour)
    dots = base.mark_point(filled=True, size=44, opacity=1).encode(alt.X("rating:Q", title=None), y, colour)
    numbers = base.mark_text(align="left", dx=7, fontSize=10.5, color=_MUTED).encode(
        alt.X("high:Q", title=None), y, alt.Text("label:N")
    )
    drawn: alt.LayerChart = (
        alt.layer(mean.encode(alt.X("mean:Q", title=None)), lines, dots, numbers)
        .properties(
            width=_WIDTH,
            height=alt.Step(_ROW),
            title=alt.TitleParams(
                wrap(title, 70),
                subtitle=[*wrap(subtitle, 100), *wrap(source, 100)],
                anchor="start",
                frame="group",
                offset=14,
            ),
            padding={"left": 16, "right": 40, "top": 16, "bottom": 16},
        )
        .configure(font=_FONT, background="white")
        .configure_view(stroke=None)
        .configure_axis(labelColor=_INK, labelFontSize=12, gridColor=_GRID)
        .configure_axisX(labelColor=_MUTED, labelFontSize=11)
        .configure_title(
            fontSize=18, fontWeight="bold", color=_INK, subtitleColor=_MUTED, subtitleFontSize=12, subtitlePadding=6
        )
    )
    return drawn
