"""My votes: a person's battles, and the leaderboard that their votes alone would make."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from fairground.arena.table import span
from fairground.store.battles import StoredBattle
from fairground.web.board import read_live
from fairground.web.board_charts import intervals
from fairground.web.board_rows import interval, points
from fairground.web.facts import in_words
from fairground.web.page import page
from fairground.web.site import site_of
from fairground.web.visitor import visitor_of

router = APIRouter()
PAGE = 50


@router.get("/votes")
def my_votes(request: Request, before: Annotated[int | None, Query(ge=0, lt=2**63)] = None) -> HTMLResponse:
    """The personal leaderboard and the battles of whoever asks; guests have them too, as long as their cookie lives."""
    person = visitor_of(request).person
    if person is None:
        return page(request, "votes.html", personal=None, groups=[], battles=[], more=None)
    site = site_of(request)
    personal = read_live(request).personal(person.pseudonym)
    found = site.conversations.mine(person.id, limit=PAGE, before=before)
    said = {
        entry.body["battle"]: entry.body["winner"]
        for entry in site.ledger.entries_of(person.pseudonym)
        if entry.kind == "vote"
    }
    return page(
        request,
        "votes.html",
        personal=personal,
        groups=personal_groups(personal),
        battles=[_battle(battle, said) for battle in found],
        more=found[-1].opened if len(found) == PAGE else None,
    )


def personal_groups(personal: dict[str, Any]) -> list[dict[str, Any]]:
    """The personal leaderboard as its page shows it: for each group of models that met, rows and a picture."""
    return [
        {
            "votes": group["votes"],
            "sure": any(row["rank_low"] > 1 for row in group["models"]),
            "chart": intervals([{**row, "preliminary": True} for row in group["models"]]),
            "rows": [
                {
                    "rank": span(row["rank_low"], row["rank_high"]),
                    "model": row["model"],
                    "rating": points(row["rating"]),
                    "interval": interval(row),
                    "votes": row["votes"],
                    "win_rate": row["win_rate"],
                }
                for row in group["models"]
            ],
        }
        for group in personal["groups"]
    ]


def _battle(battle: StoredBattle, said: dict[str, str]) -> dict[str, Any]:
    """A battle as its person may see it: models are named once nobody can be swayed."""
    known = battle.state != "open" or battle.mode != "battle"
    models = [name for name in (battle.model_a, battle.model_b) if name] if known else ["Model A", "Model B"]
    states = {"open": "not voted", "set_aside": "set aside"}
    return {
        "when": datetime.fromtimestamp(battle.opened / 1000, UTC).strftime("%d %b %Y, %H:%M").lstrip("0"),
        "mode": {"battle": "battle", "side_by_side": "side by side", "chat": "chat"}[battle.mode],
        "models": models,
        "known": known,
        "said": "" if battle.mode == "chat" else states.get(battle.state) or in_words(said[battle.id], *models),
    }
