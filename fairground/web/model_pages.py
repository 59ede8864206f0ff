"""A page for each model: what is known of it, its ratings by category, conversations that people allowed to show."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from fairground.arena.categories import TITLES
from fairground.arena.table import span
from fairground.errors import ArenaRefusal, UnknownModel
from fairground.evaluation.columns import parameters as count
from fairground.hub.catalogue import Entry, lookup
from fairground.loop.conversations import Shown
from fairground.loop.measured import Measured
from fairground.loop.standings import View
from fairground.web.board import Live, read_live
from fairground.web.board_pages import language_name
from fairground.web.board_rows import interval, points, seconds
from fairground.web.markdown import as_html
from fairground.web.page import page
from fairground.web.site import site_of

router = APIRouter()
MOST_LANGUAGES = 5
EXAMPLES = 3
SOON = 20_000  # votes up to which a rating that is not ready is worth waiting for


@router.get("/models/{name:path}")
def model_page(request: Request, name: str) -> HTMLResponse:
    """Raises ArenaRefusal (404) for a model that nobody knows here."""
    live, site = read_live(request), site_of(request)
    facts = live.standings.facts.get(name)
    card = _card(name)
    row = _row(live, View(), name)
    if facts is None and card is None and row is None:
        raise ArenaRefusal("No model of that name is known here; the leaderboard lists those that are.", 404)
    prepared = next((one for one in live.board().prepared.rows if one["model"] == name), None)
    return page(
        request,
        "model.html",
        name=name,
        card=card,
        facts=_facts(facts or {}, card),
        row=row
        and {
            **_shown(row),
            "win_rate": row["win_rate"],
            "average": row["average_win_rate"],
            "bad": row["both_bad_share"],
        },
        ratings=_by_category(live, name),
        measured=_measured(prepared["measured"] if prepared else {}),
        times=row and [("Whole answer", seconds(row["seconds"])), ("First token", seconds(row["first_token_s"]))],
        examples=[_example(shown, name) for shown in site.conversations.examples(name, limit=EXAMPLES)],
    )


def _card(name: str) -> Entry | None:
    """The catalogue's entry; a precision after # is the same model."""
    try:
        return lookup(name.partition("#")[0])
    except UnknownModel:
        return None


def _facts(facts: Any, card: Entry | None) -> list[tuple[str, str]]:
    licence = facts.get("licence") or (card and card.licence)
    parameters = facts.get("parameters") or (card and card.parameters)
    known = [
        ("Made by", facts.get("organisation")),
        ("Family", card and card.family),
        ("Parameters", count({"parameters": parameters}) if parameters else None),
        ("Licence", licence),
        ("Offered for battles", None if "offered" not in facts else "yes" if facts["offered"] else "not now"),
        ("Source", card and card.source),
    ]
    return [(title, str(value)) for title, value in known if value]


def _row(live: Live, view: View, name: str) -> dict[str, Any] | None:
    few = live.board().votes <= SOON
    board = live.board(view) if few else live.ready(view)
    return None if board is None else next((row for row in board.data["models"] if row["model"] == name), None)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "rank": span(row["rank_low"], row["rank_high"]),
        "rating": points(row["rating"]),
        "interval": interval(row),
        "votes": row["votes"],
        "preliminary": row["preliminary"],
    }


def _by_category(live: Live, name: str) -> list[dict[str, Any]]:
    data = live.board().data
    views = [("All battles", View()), ("All, style controlled", View(style=True))]
    views += [(TITLES[category], View(category=category)) for category in data["categories"]]
    views += [(language_name(code), View(language=code)) for code in list(data["languages"])[:MOST_LANGUAGES]]
    found = [(title, _row(live, view, name)) for title, view in views]
    return [{"title": title, **_shown(row)} for title, row in found if row is not None]


def _measured(measured: dict[str, Measured]) -> list[tuple[str, str, str]]:
    """Title, number with its unit and interval, and the run it is of."""
    titles = {
        "accuracy": ("Accuracy", 100, "%"),
        "coherence": ("Sentence order", 100, "%"),
        "ttft_ms": ("First token", 1, " ms"),
        "tokens_per_s": ("Speed", 1, " tokens/s"),
        "energy_j_per_1k_tokens": ("Energy", 1, " J/1k tokens"),
    }
    found = []
    for key, (title, scale, unit) in titles.items():
        if (one := measured.get(key)) is not None:
            between = (
                "" if one.low is None or one.high is None else f" ({scale * one.low:,.3g}–{scale * one.high:,.3g})"
            )
            found.append((title, f"{'~' if one.estimate else ''}{scale * one.value:,.3g}{unit}{between}", one.run))
    return found


def _example(shown: Shown, name: str) -> dict[str, Any]:
    """A conversation as one model had it."""
    first = shown.battle.model_a == name
    other = shown.battle.model_b if first else shown.battle.model_a
    turns = shown.conversation.turns if shown.conversation else ()
    return {
        "other": other,
        "turns": [
            {"prompt": turn.prompt, "answer": as_html(turn.answer_a if first else turn.answer_b)} for turn in turns
        ],
    }
