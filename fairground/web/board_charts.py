"""The leaderboard's pictures as SVG and tables that the server draws: attributes and classes alone, no style in them.

Colours come from static/leaderboard.css, so that light and dark are one picture. Each SVG is drawn twice, for wide and
for narrow windows, since text in a picture that shrinks cannot be read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fairground.web.board_rows import points, seconds

Row = Mapping[str, Any]
MOST_ROWS, MOST_SQUARE = 40, 20
CHARACTER = 8.0  # pixels that a character of 13-pixel text takes at most, on average, in wide fonts


@dataclass(frozen=True, slots=True)
class Size:
    name: str
    width: int
    labels: int  # pixels for names, at most


SIZES = (Size("wide", 760, 230), Size("narrow", 358, 136))


def intervals(rows: Sequence[Row], bar: float | None = None) -> Markup:
    """Ratings with 95% intervals, best first; `bar`: the rating that an answer has to clear to be any good."""
    shown = rows[:MOST_ROWS]
    if not shown:
        return Markup("")
    says = "; ".join(
        f"{row['model']} {points(row['rating'])} ({points(row['low'])} to {points(row['high'])})" for row in shown
    )
    drawn = Markup("").join(_intervals(shown, bar, size, says) for size in SIZES)
    more = f" The first {MOST_ROWS} of {len(rows)} models." if len(rows) > MOST_ROWS else ""
    note = (
        " Dashed: the bar that both-bad votes set; below it an answer is more often called bad than good."
        if bar
        else ""
    )
    return _figure(drawn, f"Ratings with 95% intervals.{note}{more}")


def _intervals(rows: Sequence[Row], bar: float | None, size: Size, says: str) -> Markup:
    left = min(size.labels, 14 + CHARACTER * max(len(row["model"]) for row in rows))
    ends = [value for row in rows for value in (row["low"], row["high"])] + ([bar] if bar is not None else [])
    low, high = _wide_enough(min(ends), max(ends))
    step, height = 30, 30 * len(rows) + 34
    right = size.width - 46

    def x(value: float) -> float:
        return round(left + (right - left) * (value - low) / (high - low), 1)

    parts = []
    for tick in _ticks(low, high, 6 if size.name == "wide" else 3):
        parts.append(
            Markup('<line class="grid" x1="{0}" x2="{0}" y1="22" y2="{1}"/><text class="tick" x="{0}" y="14" '
                   'text-anchor="middle">{2}</text>').format(x(tick), height - 8, points(tick))
        )  # fmt: skip
    if bar is not None:
        parts.append(Markup('<line class="bar-line" x1="{0}" x2="{0}" y1="22" y2="{1}"/>').format(x(bar), height - 8))
    for i, row in enumerate(rows):
        y = 22 + step * i + step / 2
        weak = " weak" if row.get("preliminary") else ""
        parts.append(
            Markup(
                '<text class="name" x="{}" y="{}" text-anchor="end">{}</text>'
                '<line class="interval{}" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<circle class="dot{}" cx="{}" cy="{}" r="4.5"/>'
                '<text class="value" x="{}" y="{}">{}</text>'
            ).format(
                left - 10, y + 4.5, _short(row["model"], (left - 10) / CHARACTER),
                weak, x(row["low"]), x(row["high"]), y, y, weak, x(row["rating"]), y,
                right + 8, y + 4.5, points(row["rating"]),
            )
        )  # fmt: skip
    return _svg(size, height, f"Ratings with 95% intervals: {says}.", parts)


def times(rows: Sequence[Row]) -> Markup:
    """Rating against response time, for models whose time is known."""
    known = [row for row in rows if row["seconds"]][:MOST_ROWS]
    if len(known) < 2:
        return Markup("")
    says = "; ".join(f"{row['model']} {points(row['rating'])} at {seconds(row['seconds'])}" for row in known)
    drawn = Markup("").join(_times(known, size, says) for size in SIZES)
    return _figure(
        drawn, "Rating against response time: the median time to the whole answer in battles here, on a logarithmic "
        "scale. Up and left is better. Lines: 95% intervals of the ratings.",
    )  # fmt: skip


def _times(rows: Sequence[Row], size: Size, says: str) -> Markup:
    left, top, height = 48, 16, 380 if size.name == "wide" else 330
    right, bottom = size.width - 16, height - 44
    low, high = _wide_enough(min(row["low"] for row in rows), max(row["high"] for row in rows))
    logs = [math.log10(row["seconds"]) for row in rows]
    first, last = min(logs) - 0.15, max(logs) + 0.3

    def x(value: float) -> float:
        return round(left + (right - left) * (math.log10(value) - first) / (last - first), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - low) / (high - low), 1)

    parts = []
    for tick in _ticks(low, high, 5):
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(left, right, y(tick), y(tick), left - 8, y(tick) + 4, points(tick))
        )  # fmt: skip
    for tick in _log_ticks(first, last, 4 if size.name == "narrow" else 8):
        parts.append(
            Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="tick" x="{0}" y="{3}" '
                   'text-anchor="middle">{4}</text>').format(x(tick), top, bottom, bottom + 18, _duration(tick))
        )  # fmt: skip
    parts.append(
        Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">response time</text>').format(
            (left + right) / 2, height - 6
        )
    )
    taken: list[tuple[float, float, float, float]] = []
    labels = []
    for row in rows:
        cx, cy = x(row["seconds"]), y(row["rating"])
        weak = " weak" if row.get("preliminary") else ""
        parts.append(
            Markup('<line class="interval thin{0}" x1="{1}" x2="{1}" y1="{2}" y2="{3}"/>').format(
                weak, cx, y(row["low"]), y(row["high"])
            )
        )
        taken.append((cx - 6, cy - 6, cx + 6, cy + 6))
        labels.append((cx, cy, weak, _short(row["model"], 26)))
    for cx, cy, weak, name in labels:
        parts.append(
            Markup('<circle class="dot{}" cx="{}" cy="{}" r="5"><title>{}</title></circle>').format(weak, cx, cy, name)
        )
        wide = CHARACTER * len(name)
        for dx, dy, anchor in (
            (9, 4, "start"),
            (-9, 4, "end"),
            (9, -9, "start"),
            (9, 17, "start"),
            (-9, -9, "end"),
            (-9, 17, "end"),
        ):
            begin = cx + dx if anchor == "start" else cx + dx - wide
            box = (begin, cy + dy - 11, begin + wide, cy + dy + 3)
            if begin < left or box[2] > size.width or box[1] < 0 or any(_overlap(box, other) for other in taken):
                continue  # where no place is left, the point is named by its title alone
            taken.append(box)
            parts.append(
                Markup('<text class="name" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                    cx + dx, cy + dy, anchor, name
                )
            )
            break
    return _svg(size, height, f"Rating against response time: {says}.", parts)


def square(board: Mapping[str, Any]) -> Markup:
    """Who beats whom: the share of points that the row took from the column, and in how many battles."""
    names = [row["model"] for row in board["models"]][:MOST_SQUARE]
    if len(names) < 2:
        return Markup("")
    met, took = board["pairs"]["battles"], board["pairs"]["points"]
    heads = Markup("").join(Markup('<th scope="col"><span>{}</span></th>').format(_short(name, 20)) for name in names)
    lines = []
    for i, name in enumerate(names):
        cells = []
        for j, other in enumerate(names):
            if i == j:
                cells.append(Markup('<td class="self"></td>'))
            elif not met[i][j]:
                cells.append(Markup('<td class="none" title="{} and {} have not met">·</td>').format(name, other))
            else:
                share = took[i][j] / met[i][j]
                cells.append(
                    Markup('<td class="h{}">{:.0f}<small>{:,}</small></td>').format(
                        round(10 * share), 100 * share, met[i][j]
                    )
                )
        lines.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(_short(name, 28), Markup("").join(cells)))
    more = (
        f" The first {MOST_SQUARE} of {len(board['models'])} models; all are in the JSON file."
        if len(board["models"]) > MOST_SQUARE
        else ""
    )
    return Markup(
        '<figure class="chart"><div class="table-scroll" role="region" aria-label="Win fractions and battle counts" '
        'tabindex="0"><table class="square"><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div>'
        "<figcaption>"
        "Who beats whom: how many percent of the points the row took from the column (a tie is half a point), and "
        "under it in how many battles they met.{}</figcaption></figure>"
    ).format(heads, Markup("").join(lines), more)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _figure(drawn: Markup, caption: str) -> Markup:
    return Markup('<figure class="chart">{}<figcaption>{}</figcaption></figure>').format(drawn, caption)


def _svg(size: Size, height: float, says: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        size.name, size.width, round(height), says, Markup("").join(parts)
    )


def _wide_enough(low: float, high: float) -> tuple[float, float]:
    """A range a little wider than what it has to hold, and not less than 40 points."""
    room = max(high - low, 40.0) * 0.04
    middle = (low + high) / 2
    half = max((high - low) / 2, 20.0) + room
    return middle - half, middle + half


def _ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(first: float, last: float, most: int) -> list[float]:
    found = [k * 10.0**power for power in range(math.floor(first), math.ceil(last) + 1) for k in (1, 2, 5)]
    inside = [value for value in found if first <= math.log10(value) <= last]
    return inside if len(inside) <= most else [value for value in inside if f"{value:e}"[0] == "1"] or inside[:most]


def _duration(value: float) -> str:
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def _short(name: str, most: float) -> str:
    half = (int(most) - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
