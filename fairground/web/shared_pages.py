"""Conversations that people share by a link, which they can take back."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from fairground.governance.chain import Entry
from fairground.web.facts import in_words
from fairground.web.markdown import as_html
from fairground.web.page import page, part
from fairground.web.site import site_of
from fairground.web.visitor import check_form, session_of

router = APIRouter()


@router.post("/talks/{id_}/share", dependencies=[Depends(check_form)])
def share(request: Request, id_: str) -> dict[str, str]:
    """Makes a link to one's own conversation, in the place of one before: whoever asks agrees to what it shows."""
    site, person = site_of(request), session_of(request).person
    site.rates.hit("share", person.id)
    link = str(request.url_for("shared", link=site.conversations.share(id_, person.id)))
    return {"html": part(request, "share.html", link=link, mode="")}


@router.post("/talks/{id_}/unshare", dependencies=[Depends(check_form)])
def unshare(request: Request, id_: str) -> dict[str, str]:
    """Takes the link back."""
    site_of(request).conversations.unshare(id_, session_of(request).person.id)
    return {"html": part(request, "share.html", taken_back=True, mode="")}


@router.get("/shared/{link}", name="shared")
def shared(request: Request, link: str) -> HTMLResponse:
    site = site_of(request)
    shown = site.conversations.shared(link)
    battle, conversation = shown.battle, shown.conversation
    assert conversation is not None  # a link leads to a text
    models = [name for name in (battle.model_a, battle.model_b) if name]
    turns = [
        {"prompt": turn.prompt, "answers": [as_html(text) for text in (turn.answer_a, turn.answer_b)[: len(models)]]}
        for turn in conversation.turns
    ]
    entry: Entry | None = None
    if battle.state == "voted" and battle.entry is not None:
        entry = next(site.ledger.entries(battle.entry - 1))
    verdict = in_words(entry.body["winner"], *models) if entry else ""
    return page(request, "shared.html", models=models, turns=turns, system=conversation.system, verdict=verdict)
