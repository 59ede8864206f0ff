"""Leaderboards made ready for pages: everything that a request would have to wait for is made once, when ratings are.

live = live_board(ledger)
live.start()
live.board(View()).prepared.body("rank", False)
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from markupsafe import Markup

from fairground.errors import ArenaRefusal
from fairground.evaluation.columns import listing
from fairground.loop.ledger import Ledger
from fairground.loop.live import LiveStandings
from fairground.loop.measured import MEASURES, Measured, newest_measures
from fairground.store.database import Database
from fairground.store.runs import newest_run, read_leaderboards
from fairground.web.board_charts import intervals, square, times
from fairground.web.board_rows import BY_KEY, Row, order_of, row_markup


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What pages show of a leaderboard. `lead`: what it says, in one sentence."""

    rows: list[Row]
    lead: str
    charts: Markup
    csv: bytes
    _markup: list[Markup]
    _bodies: dict[tuple[str, bool], Markup] = field(default_factory=dict)

    def body(self, column: str, falling: bool) -> Markup:
        """The table's rows, sorted by a column."""
        key = (column, falling)
        if key not in self._bodies:
            order = order_of(BY_KEY[column], self.rows, falling)
            self._bodies[key] = Markup("").join(self._markup[i] for i in order)
        return self._bodies[key]


Live = LiveStandings[Prepared]


def live_board(ledger: Ledger) -> Live:
    """The standings of a ledger, made ready for pages; to be started, and stopped at the end."""
    measures = _Measures(ledger.database)
    return LiveStandings(
        lambda after: ledger.entries(after=after), lambda data: prepare(data, measures.now()), measures.newest
    )


def live_of(request: Request) -> Live:
    """The standings of the site that a request came to."""
    live = request.app.state.live
    assert isinstance(live, LiveStandings)
    return live


def read_live(request: Request) -> Live:
    """The same once the log is read. Raises ArenaRefusal (503) before, since what half a log says is no answer."""
    live = live_of(request)
    if live.reading:
        raise ArenaRefusal("The site has just started and still reads its log; come back in a moment.", 503)
    return live


def prepare(data: Mapping[str, Any], measured: Mapping[str, Mapping[str, Measured]]) -> Prepared:
    """What pages show of a leaderboard (see Standings.leaderboard), with what was measured of its models beside."""
    rows: list[Row] = [{**row, "measured": measured.get(row["model"], {})} for row in data["models"]]
    bar = data["outside"]["rating"] if data["outside"] else None
    charts = Markup("\n").join(chart for chart in (intervals(rows, bar), square(data), times(rows)) if chart)
    return Prepared(rows, lead(data), charts, as_csv(rows), [row_markup(row) for row in rows])


def lead(data: Mapping[str, Any]) -> str:
    """What a leaderboard shows, claiming no more than the intervals allow."""
    models = data["models"]
    if data["unrated"]:
        return str(data["unrated"])
    if not models:
        of_this_kind = " of this kind" if data["category"] or data["language"] else ""
        return f"There are no votes{of_this_kind} yet."
    first = models[0]
    ahead = [row["model"] for row in models if row["rank_low"] == 1]
    if first["rank_high"] == 1:
        said = f"{first['model']} leads, surely ahead of every other model."
    elif len(ahead) == len(models):
        said = f"The votes do not yet tell any of these {len(models)} models apart for sure."
    elif len(ahead) <= 3:
        said = f"{listing(ahead)} lead, and the votes do not yet tell them apart."
    else:
        said = f"{first['model']} has the highest rating, and {len(ahead) - 1} others may be as good."
    few = sum(row["preliminary"] for row in models)
    if few == len(models):
        return f"{said} Every rating is preliminary: no model has 300 votes yet."
    return said


def as_csv(rows: list[Row]) -> bytes:
    """The table as a csv file in UTF-8: numbers as they are, nothing where a number is not known."""
    names = (
        "rank_low", "rank_high", "model", "rating", "low", "high", "votes", "average_win_rate", "both_bad_share",
        "votes_to_flip", "preliminary", "seconds", "first_token_s", "parameters", "licence", "organisation",
    )  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *MEASURES])
    for row in rows:
        measured = [row["measured"].get(name) for name in MEASURES]
        cells = [row.get(name) for name in names] + [None if one is None else one.value for one in measured]
        writer.writerow([_plain(cell) for cell in cells])
    return text.getvalue().encode()


def _plain(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula: names come from strangers."""
    if isinstance(cell, str) and cell[:1] in "=+-@\t\r":
        return f"'{cell}"
    return "" if cell is None else cell


class _Measures:
    """The newest numbers of `rank`, read again once there is a newer run."""

    def __init__(self, database: Database) -> None:
        self._database, self._lock = database, threading.Lock()
        self._at: float | None = None
        self._found: dict[str, dict[str, Measured]] = {}

    def newest(self) -> float | None:
        return newest_run(self._database)

    def now(self) -> dict[str, dict[str, Measured]]:
        with self._lock:
            newest = self.newest()
            if newest != self._at:
                self._found, self._at = newest_measures(read_leaderboards(self._database)), newest
            return self._found
