"""The report's charts: Altair's specifications made into inline SVG that follows the page's colours and font."""

from __future__ import annotations

import html
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from fairground.evaluation import columns as c

# Vega draws with fixed colours; these stand for the page's own, which differ between light and dark.
_INK, _MUTED, _GRID, _ACCENT, _CHANCE, _HEAT = "#000001", "#000002", "#000003", "#000004", "#000005", "#000006"
_PAPER, _RIGHT, _WRONG = "#000007", "#000008", "#000009"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _ACCENT: "var(--accent)",
    _CHANCE: "var(--chance)",
    _HEAT: "var(--heat)",
    _PAPER: "var(--paper)",
    _RIGHT: "var(--right)",
    _WRONG: "var(--wrong)",
}
_GEOMETRY = {"transform", "d", "x1", "x2", "y1", "y2", "fill-opacity"}
_LONG_FRACTION = re.compile(r"(\.\d\d)\d+")
_SVG = "http://www.w3.org/2000/svg"
_CHARACTER = 6.6  # pixels that a character of 12-pixel text takes, on average
_LONGEST_LABEL = 26
_CHANCE_LINE: dict[str, Any] = {"color": _CHANCE, "strokeDash": [5, 4], "strokeWidth": 1.5}
_HALO: dict[str, Any] = {
    "fill": _PAPER,
    "stroke": _PAPER,
    "strokeWidth": 4,
    "strokeJoin": "round",
}  # keeps text clear of lines


@dataclass(frozen=True, slots=True)
class _Size:
    """Drawn twice, as an SVG that is only shrunk would be too small to read on a phone."""

    name: str
    width: int


_SIZES = (_Size("wide", 560), _Size("narrow", 350))


def charts(leaderboard: Mapping[str, Any]) -> Iterator[str]:
    """Every chart that the leaderboard's numbers allow, each as a `<figure>` of escaped, self-contained HTML."""
    models = c.ranked(leaderboard)
    labels = _labels([c.name(model) for model in models])
    for column, by in ((c.ACCURACY, "multiple-choice items"), (c.COHERENCE, "order discrimination")):
        rows = [(label, found) for label, model in zip(labels, models, strict=True) if (found := column.of(model))]
        if rows:
            chance = c.chance(leaderboard, column.metric)
            title = f"{column.title} by model, with 95% intervals"
            caption = f"{column.title} ({by}) with 95% intervals. Dashed: chance, {chance:.0%}."
            says = "; ".join(f"{label} {column.text(found)}" for label, found in rows) + f"; chance {chance:.0%}."
            yield _figure(column.metric, title, caption, says, [_intervals(column, rows, chance, s) for s in _SIZES])
    yield from _speed_figure(leaderboard, list(zip(labels, models, strict=True)))
    if domains := c.domains(leaderboard):
        cells = [
            (label, domain, found.value if found else None)
            for label, model in zip(labels, models, strict=True)
            for domain in domains
            for found in [c.task_accuracy(model, domain)]
        ]
        says = "; ".join(f"{m}, {c.words(d)} {'not measured' if v is None else f'{v:.0%}'}" for m, d, v in cells) + "."
        caption = "Accuracy by domain, in percent; few items a domain, so a difference of a few points says little."
        drawn = [_heat_map(labels, domains, cells, size) for size in _SIZES]
        yield _figure("domains", "Accuracy by domain and model", caption, says, drawn)


def _speed_figure(leaderboard: Mapping[str, Any], models: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    for speed in (c.TOKENS_PER_S, c.TIME_TO_FIRST_TOKEN):
        points = [
            (label, x, y)
            for label, model in models
            if not c.is_floor(model) and (x := speed.of(model)) and x.value > 0 and (y := c.ACCURACY.of(model))
        ]
        if not points:
            continue
        left_out = [label for label, _ in models if label not in {point[0] for point in points}]
        better = "Up and to the right" if speed.higher_is_better else "Up and to the left"
        caption = f"Accuracy against {speed.title.lower()} ({speed.meaning}). {better} is better; lines: 95% intervals."
        if left_out:
            caption += f" Without a response time: {c.listing(left_out)}."
        says = "; ".join(f"{label} {c.ACCURACY.text(y)} at {speed.text(x)}" for label, x, y in points) + "."
        drawn = [_scatter(speed, points, c.chance(leaderboard, "accuracy"), size) for size in _SIZES]
        yield _figure("speed", "Accuracy against response time", caption, says, drawn)
        return


def _figure(name: str, title: str, caption: str, says: str, drawn: Sequence[alt.LayerChart]) -> str:
    svgs = "".join(_svg(chart, f"{name}-{s.name}", s, title, says) for chart, s in zip(drawn, _SIZES, strict=True))
    return f'<figure class="chart">{svgs}<figcaption>{html.escape(caption)}</figcaption></figure>'


def _intervals(column: c.Column, rows: Sequence[tuple[str, c.Estimate]], chance: float, size: _Size) -> alt.LayerChart:
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
    base = _chart(values)
    measured = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    line = _chart([{"chance": chance}]).mark_rule(**_CHANCE_LINE)
    written: dict[str, Any] = {"y": y, "x": alt.X("value:Q", scale=scale), "text": "text:N"}
    return _layer(
        line.encode(x=alt.X("chance:Q", scale=scale, axis=axis)),
        measured.mark_rule(color=_ACCENT, strokeWidth=2.5).encode(y=y, x=alt.X("low:Q", scale=scale), x2="high:Q"),
        base.mark_point(color=_ACCENT, filled=True, size=75, opacity=1).encode(y=y, x=alt.X("value:Q", scale=scale)),
        base.mark_text(dy=-12, fontSize=12, **_HALO).encode(**written),
        base.mark_text(dy=-12, fontSize=12, color=_INK).encode(**written),
        size=size,
        height=40 * len(rows) + 30,
        longest=max(len(label) for label, _ in rows),
    )


def _scatter(
    speed: c.Column, points: Sequence[tuple[str, c.Estimate, c.Estimate]], chance: float, size: _Size
) -> alt.LayerChart:
    height = 300
    xs = [x.value for _, x, _ in points]
    ends = [edge for _, _, y in points for edge in (y.low, y.value, y.high) if edge is not None]
    logarithmic = max(xs) / min(xs) > 8
    factor = (max(xs) / min(xs)) ** 0.12 * 1.15
    x_domain = [min(xs) / factor, max(xs) * factor] if logarithmic else [0.0, max(xs) * 1.25]
    y_domain = [max(0.0, min([chance, *ends]) - 0.03), min(1.0, max([chance, *ends]) + 0.03)]
    x_scale = alt.Scale(type="log" if logarithmic else "linear", domain=x_domain, nice=False)
    y_scale = alt.Scale(domain=y_domain, nice=False)
    plot = _Plot(x_domain, y_domain, logarithmic, size.width - 60, height - 50)
    values = [
        {"x": x.value, "y": y.value, "x_low": x.low, "x_high": x.high, "y_low": y.low, "y_high": y.high}
        for _, x, y in points
    ]
    title = f"{speed.title.lower()}, {speed.unit}" + (" (logarithmic)" if logarithmic else "")
    x = alt.X("x:Q", scale=x_scale, axis=alt.Axis(title=title, tickCount=5, format="~s" if max(xs) >= 1e4 else "~r"))
    y = alt.Y("y:Q", scale=y_scale, axis=alt.Axis(title="accuracy", format=".0%", tickCount=6))
    base = _chart(values)
    thin: dict[str, Any] = {"color": _MUTED, "strokeWidth": 1.2}
    line = _chart([{"chance": chance}]).mark_rule(**_CHANCE_LINE)
    across = base.transform_filter("isValid(datum.x_low) && datum.x_low > 0 && isValid(datum.x_high)")
    upright = base.transform_filter("isValid(datum.y_low) && isValid(datum.y_high)")
    names = [
        _chart([{"x": at[0], "y": at[1], "text": label}])
        .mark_text(align=align, baseline="middle", fontSize=12, **look)
        .encode(x=alt.X("x:Q", scale=x_scale), y=alt.Y("y:Q", scale=y_scale), text="text:N")
        for label, at, align in plot.place(points)
        for look in (_HALO, {"color": _INK})
    ]
    return _layer(
        line.encode(y=alt.Y("chance:Q", scale=y_scale)),
        across.mark_rule(**thin).encode(
            x=alt.X("x_low:Q", scale=x_scale), x2="x_high:Q", y=alt.Y("y:Q", scale=y_scale)
        ),
        upright.mark_rule(**thin).encode(
            x=alt.X("x:Q", scale=x_scale), y=alt.Y("y_low:Q", scale=y_scale), y2="y_high:Q"
        ),
        base.mark_point(color=_ACCENT, filled=True, size=90, opacity=1).encode(x=x, y=y),
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

    def place(self, points: Sequence[tuple[str, c.Estimate, c.Estimate]]) -> list[tuple[str, tuple[float, float], Any]]:
        """Each name, where it stands in data units, and its alignment: the freest place around its point."""
        taken: list[tuple[float, ...]] = []
        for _, x, y in points:
            at, middle = self._pixels(x.value, y.value)
            taken.append((at - 7, middle - 7, at + 7, middle + 7))
            if y.low is not None and y.high is not None:
                taken.append((at - 2, self._pixels(x.value, y.high)[1], at + 2, self._pixels(x.value, y.low)[1]))
            if x.low is not None and x.high is not None and x.low > 0:
                taken.append(
                    (self._pixels(x.low, y.value)[0], middle - 2, self._pixels(x.high, y.value)[0], middle + 2)
                )
        placed = []
        for label, x, y in points:
            at, middle = self._pixels(x.value, y.value)
            wide = len(label) * _CHARACTER
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


def _heat_map(
    labels: Sequence[str], domains: Sequence[str], cells: Sequence[tuple[str, str, float | None]], size: _Size
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
    base = _chart(values).encode(x=x, y=y)
    return _layer(
        base.mark_rect(fill=_HEAT, cornerRadius=3).encode(
            fillOpacity=alt.FillOpacity("opacity:Q", scale=None, legend=None)
        ),
        base.mark_text(color=_INK, fontSize=12 if size.name == "wide" else 11).encode(text="text:N"),
        size=size,
        height=38 * len(labels) + 100,
        longest=max(map(len, labels)),
    )


def _chart(values: Sequence[Mapping[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.Data(values=values))  # type: ignore[no-untyped-call]


def _layer(*layers: alt.Chart, size: _Size, height: int, longest: int = 0) -> alt.LayerChart:
    """Charts laid over each other. `longest` is the number of characters of the longest name beside the axis."""
    axis: dict[str, Any] = {
        "labelColor": _MUTED,
        "titleColor": _MUTED,
        "gridColor": _GRID,
        "domainColor": _GRID,
        "tickColor": _GRID,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 180,
    }
    return alt.LayerChart(
        layer=list(layers),
        width=size.width,
        height=height,
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        background="transparent",
        # Readers' fonts are up to a sixth wider than the one that Vega measures with.
        padding={"left": 5 + round(longest * _CHARACTER / 6), "top": 5, "right": 12, "bottom": 5},
        config=alt.Config(
            axis=alt.AxisConfig(**axis),
            axisY=alt.AxisConfig(labelColor=_INK, grid=False),
            view=alt.ViewConfig(stroke=None),
        ),
    )


def _svg(chart: alt.LayerChart, name: str, size: _Size, title: str, says: str) -> str:
    """The chart as an element that scales to its column, takes the page's colours and font, and has a name."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(vl_convert.vegalite_to_svg(chart.to_dict()))
    for element in root.iter():
        for key in [k for k in element.attrib if k.startswith("aria-") or k in ("role", "font-family", "class")]:
            # Within an image, parts have no roles of their own; the font is the page's.
            del element.attrib[key]
        for key in ("fill", "stroke"):
            if key in element.attrib:
                element.set(key, _VARIABLES.get(element.attrib[key], element.attrib[key]))
        for key in _GEOMETRY.intersection(element.attrib):
            element.set(key, _LONG_FRACTION.sub(r"\1", element.attrib[key]))
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("class", size.name)
    root.set("role", "img")
    root.set("aria-label", title)
    root.set("aria-describedby", f"{name}-description")
    root.set("style", f"max-width:{round(1.15 * float(width))}px")
    for place, (tag, text) in enumerate((("title", title), ("desc", says))):
        element = ET.Element(f"{{{_SVG}}}{tag}")
        element.text = text
        if tag == "desc":
            element.set("id", f"{name}-description")
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _labels(names: Sequence[str]) -> list[str]:
    """Names short enough for an axis, shortened in the middle, where they differ least, and still all different."""
    found: list[str] = []
    for name in names:
        half = (_LONGEST_LABEL - 1) // 2
        label = name if len(name) <= _LONGEST_LABEL else f"{name[:half]}…{name[-half:]}"
        same = found.count(label)
        found.append(f"{label} ({same + 1})" if same else label)
    return found
