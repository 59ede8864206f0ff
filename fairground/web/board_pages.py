"""The leaderboard's pages: the table with its filters and pictures, its files, the published record, the methods."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup

from fairground.arena import record as published
from fairground.arena.categories import LANGUAGES, RULES, TITLES, UNKNOWN
from fairground.arena.style import FEATURES
from fairground.arena.table import span
from fairground.errors import ArenaRefusal
from fairground.loop.arena_settings import admission
from fairground.loop.standings import PRELIMINARY, PROMPT_CAP, View
from fairground.loop.vote_columns import MODES
from fairground.web.board import live_of, read_live
from fairground.web.board_charts import intervals
from fairground.web.board_rows import BY_KEY, COLUMNS, Row, interval, points, seconds
from fairground.web.page import page
from fairground.web.site import site_of

router = APIRouter()
TABS = (
    ("/leaderboard", "Blind battles"),
    ("/leaderboard?mode=side_by_side", "Chosen models"),
    ("/leaderboard/record", "The record of 2023"),
)


@router.get("/leaderboard")
def leaderboard(
    request: Request,
    mode: str = "battle",
    category: str = "",
    language: str = "",
    style: str = "",
    sort: str = "rank",
    order: str = "",
) -> HTMLResponse:
    """The table of a view, sorted by a column; all from what was made ready."""
    view = _view(mode, category, language, style)
    if sort not in BY_KEY or order not in ("", "up", "down"):
        raise ArenaRefusal("The leaderboard has no such column or order; choose one from its head.", 404)
    falling = order == "down" if order else BY_KEY[sort].falling
    live = live_of(request)
    if live.reading:
        return page(request, "leaderboard_reading.html", 503, entries=live.standings.number + 1)
    board = live.board(view)
    data = board.data
    return page(
        request,
        "leaderboard.html",
        board=data,
        prepared=board.prepared,
        head=_head(view, sort, falling),
        body=board.prepared.body(sort, falling),
        view=view,
        tabs=_tabs(view.mode),
        categories=[(name, title, data["categories"].get(name, 0)) for name, title in TITLES.items()],
        languages=[(code, language_name(code), count) for code, count in data["languages"].items()],
        query=_query(view),
        sort=sort,
        falling=falling,
        scope=_scope(view),
        drawn=_shares(data["drawn_by"]),
        preliminary=PRELIMINARY,
        effects=data["style"],
        points=points,
    )


@router.get("/leaderboard.json")
def as_json(
    request: Request, mode: str = "battle", category: str = "", language: str = "", style: str = ""
) -> Response:
    """The leaderboard as `fairground leaderboard --json` prints it: from the log alone, the same to the byte."""
    board = read_live(request).board(_view(mode, category, language, style))
    return _download(board.json, "application/json", "leaderboard.json")


@router.get("/leaderboard.csv")
def as_csv(request: Request, mode: str = "battle", category: str = "", language: str = "", style: str = "") -> Response:
    """The table with what `rank` measured."""
    board = read_live(request).board(_view(mode, category, language, style))
    return _download(board.prepared.csv, "text/csv; charset=utf-8", "leaderboard.csv")


@router.get("/leaderboard/now")
def now(request: Request) -> JSONResponse:
    """Up to which entry of the log the table goes, and the ratings with every vote since: for a page that waits."""
    live = live_of(request)
    return JSONResponse({"rated": live.board().number, "log": live.standings.number, "ratings": live.online()})


@router.get("/leaderboard/record")
def record(request: Request) -> HTMLResponse:
    """The published record of 2023."""
    return page(request, "record.html", tabs=_tabs("record"), **_record())


@router.get("/methods")
def methods(request: Request) -> HTMLResponse:
    """How it is all made, in plain words, with the tables of the simulations."""
    ledger = site_of(request).ledger
    settings = ledger.settings()
    return page(
        request,
        "methods.html",
        tables=method_tables(),
        categories=[(title, RULES[name]) for name, title in TITLES.items()],
        features=FEATURES,
        preliminary=PRELIMINARY,
        prompt_cap=PROMPT_CAP,
        uniform_share=settings["uniform_share"],
        admission=admission(settings, public=ledger.public),
    )


def language_name(code: str) -> str:
    """The language's English name."""
    return "Undetermined" if code == UNKNOWN else LANGUAGES.get(code, code)


@cache
def method_tables() -> list[dict[str, Any]]:
    """The tables that benchmarks/arena_simulations.py wrote: title, columns, rows, a note."""
    file = resources.files("fairground.web").joinpath("methods.json")
    return list(json.loads(file.read_text(encoding="utf-8")).values())


def _view(mode: str, category: str, language: str, style: str) -> View:
    if mode not in MODES or category not in ("", *TITLES) or language not in ("", UNKNOWN, *LANGUAGES):
        raise ArenaRefusal("The leaderboard has no such category or language; choose one from its lists.", 404)
    return View(mode, category or None, language or None, style in ("1", "on", "true"))


def _query(view: View) -> str:
    """The view's own part of an address."""
    said = {
        "mode": view.mode if view.mode != "battle" else "",
        "category": view.category or "",
        "language": view.language or "",
        "style": "1" if view.style else "",
    }
    return urlencode({name: value for name, value in said.items() if value})


@cache
def _head(view: View, sort: str, falling: bool) -> Markup:
    """The table's head: each title sorts by its column, and the one that it is sorted by says so."""
    cells = []
    for column in COLUMNS:
        down = not falling if column.key == sort else column.falling
        query = "&".join(part for part in (_query(view), f"sort={column.key}&order={'down' if down else 'up'}") if part)
        state = Markup(' aria-sort="{}"').format("descending" if falling else "ascending") if column.key == sort else ""
        arrow = (
            Markup(' <span aria-hidden="true">{}</span>').format("▾" if falling else "▴") if column.key == sort else ""
        )
        cells.append(
            Markup('<th scope="col"{}{}><a href="/leaderboard?{}" title="{}" rel="nofollow">{}{}</a></th>').format(
                Markup(' class="number"') if column.number else "", state, query, column.says, column.title, arrow
            )
        )
    return Markup("").join(cells)


def _tabs(mode: str) -> list[tuple[str, str, bool]]:
    here = {"battle": 0, "side_by_side": 1, "record": 2}[mode]
    return [(address, title, i == here) for i, (address, title) in enumerate(TABS)]


def _scope(view: View) -> str:
    """Which votes these are, in words."""
    said = "votes on blind battles" if view.mode == "battle" else "votes on models that the voter had chosen"
    if view.category:
        said += f", {TITLES[view.category].lower()}"
    if view.language:
        said += f", in {language_name(view.language)}"
    return said


def _shares(drawn: dict[str, int]) -> str:
    """How the pairs were drawn, in words."""
    names = {"uniform": "evenly", "information": "where a vote tells most", "newcomer": "to place a newcomer"}
    total = sum(drawn.values())
    return ", ".join(f"{count / total:.0%} {names.get(name, name)}" for name, count in drawn.items()) if total else ""


def _download(body: bytes, kind: str, name: str) -> Response:
    return Response(body, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


@cache
def _record() -> dict[str, Any]:
    rows = published.record_ratings()
    drawn: list[Row] = [
        {"model": row.model, "rating": row.rating, "low": row.low, "high": row.high, "preliminary": False}
        for row in rows
    ]
    table = [
        {
            "rank": span(row.rank_low, row.rank_high),
            "model": row.model,
            "maker": row.maker,
            "open": row.open,
            "rating": points(row.rating),
            "interval": interval({"low": row.low, "high": row.high}),
            "votes": row.votes,
            "win_rate": row.win_rate,
            "seconds": seconds(row.response_ms / 1000),
        }
        for row in rows
    ]
    return {
        "rows": table,
        "scores": published.scores(),
        "votes": len(published.votes()),
        "attribution": published.ATTRIBUTION,
        "chart": intervals(drawn),
    }
