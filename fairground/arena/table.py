"""Ratings in the terminal: who is surely ahead of whom, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


class RatedModel(Protocol):
    """One row. A row may also have `maker: str`, `open: bool` (open weights), `response_ms: float` (a median),
    `votes_to_flip: int` and `votes_to_drop: int` (see `robustness.py`); each may be None, and a column that no row
    fills is not drawn. A row whose `outside` is true is no model and has no rank.
    """

    @property
    def model(self) -> str: ...
    @property
    def rating(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def votes(self) -> float: ...
    @property
    def rank_low(self) -> int: ...
    @property
    def rank_high(self) -> int: ...


_FIELDS = {"response": "response_ms", "flip": "votes_to_flip", "drop": "votes_to_drop"}
# What a narrow terminal gives up, first to last.
_GIVEN_UP = ("maker", "response", "votes", "drop", "flip")


def ratings_table(rows: Sequence[RatedModel], *, title: str | None = None, notes: Sequence[str] = ()) -> RenderableType:
    """Ratings for people at a terminal, in the order given (best first), then `notes`, a line each.

    The rank is an interval too: "2–5" is a model with one surely ahead of it. Fits any width from 60 columns, with
    fewer columns where they do not fit.
    """
    return Group(_Ratings(tuple(rows), title), *(Text(_printable(note)) for note in notes))


class _Ratings:
    def __init__(self, rows: tuple[RatedModel, ...], title: str | None) -> None:
        self.rows = rows
        self.title = title
        optional = {"maker": "maker", "open": "open", **_FIELDS}
        self.empty = {
            column for column, field in optional.items() if all(getattr(row, field, None) is None for row in rows)
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left_out = set(self.empty)
        table = self._table(left_out)
        for column in _GIVEN_UP:
            if Measurement.get(console, options.update(width=10_000), table).maximum <= options.max_width:
                break
            left_out.add(column)
            table = self._table(left_out)
        yield table
        legend = [] if "open" in left_out else ["● open weights, ○ proprietary."]
        legend.append("400 points are odds of 10 to 1; 1000 is the mean of these models.")
        legend.append("Rank: from 1 + the models surely better to all but those surely worse.")
        yield Text()
        yield Text(" ".join(legend), style="dim")

    def _table(self, left_out: set[str]) -> Table:
        table = Table(
            box=box.SIMPLE_HEAD,
            title=None if self.title is None else Text(_printable(self.title)),
            title_style="bold",
            title_justify="left",
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 1),
            collapse_padding=True,
        )
        table.add_column("Rank", justify="right", no_wrap=True)
        table.add_column("Model", overflow="fold", min_width=12)
        columns = {"open": "Open", "maker": "Maker", "rating": "Rating", "interval": "95% interval"}
        columns |= {"votes": "Votes", "response": "Median\nresponse s", "flip": "To\nflip", "drop": "To\ndrop"}
        shown = [key for key in columns if key not in left_out]
        for key in shown:
            justify: Any = {"maker": "left", "open": "center"}.get(key, "right")
            table.add_column(columns[key], justify=justify, no_wrap=True)
        for row in self.rows:
            outside = getattr(row, "outside", False)
            rank = "–" if outside else span(row.rank_low, row.rank_high)
            cells = [Text(rank), Text(_printable(row.model), style="italic" if outside else "")]
            table.add_row(*cells, *(_cell(row, key) for key in shown))
        return table


def _cell(row: RatedModel, key: str) -> Text:
    if key == "rating":
        return Text(_points(row.rating), style="bold")
    if key == "interval":
        low, high = _points(row.low), _points(row.high)
        return Text(between(low, high))
    if key == "votes":
        return Text(f"{row.votes:,.0f}")
    value = getattr(row, _FIELDS.get(key, key), None)
    if value is None:
        return Text("–")
    if key == "open":
        return Text("●", style="green") if value else Text("○")
    if key in ("flip", "drop"):
        return Text(f"{value:,}")
    if key == "response":
        return Text(f"{value / 1000:.1f}")
    return Text(_printable(str(value)))


def _points(rating: float) -> str:
    return f"{rating:.0f}".replace("-", "−")


def between(low: str, high: str) -> str:
    """An interval of two numbers as they are shown; a dash after a minus sign could be read as either."""
    return f"{low} to {high}" if low.startswith("−") else f"{low}–{high}"


def span(low: int, high: int) -> str:
    """An interval of ranks."""
    return f"{low}" if low == high else f"{low}–{high}"


def _printable(text: str) -> str:
    """Without what a terminal would obey: names come from files that strangers wrote."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
