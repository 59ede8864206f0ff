"""Altair's charts as inline SVG that follows the page's colours and font, each with a name and a description."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

# Vega draws with fixed colours; these stand for the page's own, which differ between light and dark.
INK, MUTED, GRID, ACCENT, CHANCE, HEAT = "#000001", "#000002", "#000003", "#000004", "#000005", "#000006"
PAPER, RIGHT, WRONG = "#000007", "#000008", "#000009"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    ACCENT: "var(--accent)",
    CHANCE: "var(--chance)",
    HEAT: "var(--heat)",
    PAPER: "var(--paper)",
    RIGHT: "var(--right)",
    WRONG: "var(--wrong)",
}
_GEOMETRY = {"transform", "d", "x1", "x2", "y1", "y2", "fill-opacity"}
_LONG_FRACTION = re.compile(r"(\.\d\d)\d+")
_SVG = "http://www.w3.org/2000/svg"
CHARACTER = 6.6  # pixels that a character of 12-pixel text takes, on average
_LONGEST_LABEL = 26
CHANCE_LINE: dict[str, Any] = {"color": CHANCE, "strokeDash": [5, 4], "strokeWidth": 1.5}
HALO: dict[str, Any] = {
    "fill": PAPER,
    "stroke": PAPER,
    "strokeWidth": 4,
    "strokeJoin": "round",
}  # keeps text clear of lines


@dataclass(frozen=True, slots=True)
class Size:
    """Drawn twice, as an SVG that is only shrunk would be too small to read on a phone."""

    name: str
    width: int


SIZES = (Size("wide", 560), Size("narrow", 350))


def figure(name: str, title: str, caption: str, says: str, drawn: Sequence[alt.LayerChart]) -> str:
    """A chart drawn in each of `SIZES`, with what it says in words for those who do not see it."""
    svgs = "".join(svg(one, f"{name}-{s.name}", s, title, says) for one, s in zip(drawn, SIZES, strict=True))
    return f'<figure class="chart">{svgs}<figcaption>{html.escape(caption)}</figcaption></figure>'


def chart(values: Sequence[Mapping[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.Data(values=values))  # type: ignore[no-untyped-call]


def layer(*layers: alt.Chart, size: Size, height: int, longest: int = 0) -> alt.LayerChart:
    """Charts laid over each other. `longest` is the number of characters of the longest name beside the axis."""
    axis: dict[str, Any] = {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
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
        padding={"left": 5 + round(longest * CHARACTER / 6), "top": 5, "right": 12, "bottom": 5},
        config=alt.Config(
            axis=alt.AxisConfig(**axis),
            axisY=alt.AxisConfig(labelColor=INK, grid=False),
            view=alt.ViewConfig(stroke=None),
        ),
    )


def svg(drawn: alt.LayerChart, name: str, size: Size, title: str, says: str) -> str:
    """The chart as an element that scales to its column, takes the page's colours and font, and has a name."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(vl_convert.vegalite_to_svg(drawn.to_dict()))
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


def labels_of(names: Sequence[str]) -> list[str]:
    """Names short enough for an axis, shortened in the middle, where they differ least, and still all different."""
    found: list[str] = []
    for name in names:
        half = (_LONGEST_LABEL - 1) // 2
        label = name if len(name) <= _LONGEST_LABEL else f"{name[:half]}…{name[-half:]}"
        same = found.count(label)
        found.append(f"{label} ({same + 1})" if same else label)
    return found
