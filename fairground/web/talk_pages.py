"""Battle, side by side and chat: the pages, and what their script asks for."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from fairground.errors import ArenaRefusal
from fairground.loop.ledger import GUESTS_DO_NOT_VOTE, LONGEST_COMMENT, Receipt
from fairground.serving.answers import event
from fairground.serving.app import EventStream
from fairground.web.board import live_of
from fairground.web.facts import REASONS, energy, for_the_log, of_model, size
from fairground.web.page import page, part
from fairground.web.refusals import told
from fairground.web.site import Site, site_of
from fairground.web.suggestions import suggestions
from fairground.web.talks import Choices, Mode, Talk
from fairground.web.visitor import check_form, client_of, session_of, sign, visitor_of
from fairground.web.writing import write

LONGEST_PROMPT = 16_000  # characters
MOST_TOKENS = 2_048  # of an answer
KEEPS = {
    "keep": "What you write is kept on this machine.",
    "redact": "What you write is kept on this machine without the e-mail addresses, numbers and the like that are "
    "found by their form; names are not found.",
    "none": "What you write is not kept.",
}
OFF = (
    "A steward switched off a model of this conversation, so it does not go on; vote on what is there, or start a new "
    "one."
)

router = APIRouter()


@router.get("/")
def battle(request: Request) -> HTMLResponse:
    return _page(request, "battle")


@router.get("/side-by-side")
def side_by_side(request: Request) -> HTMLResponse:
    return _page(request, "side_by_side")


@router.get("/chat")
def chat(request: Request) -> HTMLResponse:
    return _page(request, "chat")


def _page(request: Request, mode: Mode) -> HTMLResponse:
    site = site_of(request)
    offered = site.offered()
    wanted = request.query_params.getlist("model")
    chosen = [name for name in wanted if name in offered] + [name for name in offered if name not in wanted]
    settings, person = site.ledger.settings(), visitor_of(request).person
    return page(
        request,
        "talk.html",
        mode=mode,
        offered=offered,
        chosen=chosen,
        statuses=[site.models.status(name) for name in site.models.offers],
        warming=site.models.warming,
        reasons=REASONS,
        suggestions=suggestions(),
        choices=Choices(),
        longest_prompt=LONGEST_PROMPT,
        longest_comment=LONGEST_COMMENT,
        most_tokens=MOST_TOKENS,
        keeps=KEEPS[settings["keep_text"]],
        needs_name=mode != "chat" and (person is None or person.guest) and not settings["guests_may_vote"],
        may_sign_up=settings["open_sign_up"],
    )


@router.get("/warming")
def warming(request: Request) -> dict[str, Any]:
    """How far the models are, for the page that waits for them."""
    site = site_of(request)
    return {"ready": len(site.offered()), "warming": site.models.warming}


class Opening(BaseModel):
    """What a conversation begins with. A battle is told nothing."""

    model_config = ConfigDict(extra="forbid")
    mode: Mode
    models: list[str] = Field(default=[], max_length=2)
    system: str = Field("", max_length=LONGEST_PROMPT)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    seed: int | None = Field(None, ge=0, lt=2**32)


@router.post("/talks", dependencies=[Depends(check_form)])
def open_talk(request: Request, asked: Opening) -> JSONResponse:
    """Opens a conversation, as a new guest where nobody is signed in."""
    site, signed = site_of(request), None
    session = visitor_of(request).session
    site.rates.hit(*("guest", client_of(request)) if session is None else ("talk", session.person.id))
    probability, by, models = 1.0, "choice", tuple(asked.models)
    if asked.mode == "battle":
        if asked.model_fields_set != {"mode"}:
            raise ArenaRefusal("In a battle nothing is chosen; leave that out, or go side by side.", 400)
        drawable = set(site.models.drawable()) & set(site.offered())
        drawn = site.draw.pair(sorted(drawable), site.ledger.settings()["uniform_share"])
        models, probability, by = drawn.models, drawn.probability, drawn.by
    elif unknown := set(models) - set(site.offered()):
        raise ArenaRefusal(f"{', '.join(sorted(unknown))} cannot answer here now; choose another model.", 400)
    elif len(models) != (1 if asked.mode == "chat" else 2):
        raise ArenaRefusal("A chat has one model, and side by side two different ones; choose again.", 400)
    if session is None:  # only now, so that what is refused leaves nobody behind
        if asked.mode != "chat" and not site.ledger.settings()["guests_may_vote"]:
            raise ArenaRefusal(GUESTS_DO_NOT_VOTE, 403)
        signed = site.people.guest()
        session = signed.session
    opened = site.ledger.open_battle(
        session.person.id, models[0], (*models, None)[1], session=session.id, mode=asked.mode,
        probability=probability, by=by,
    )  # fmt: skip
    given = asked.model_dump(exclude_none=True, include={"temperature", "top_p", "max_tokens", "seed"})
    talk = Talk(
        opened.id, opened.token, session.person.id, session.id, asked.mode, models, Choices(**given), asked.system
    )
    site.talks.keep(talk)
    response = JSONResponse({"id": talk.id, "token": talk.token, "names": talk.names})
    if signed is not None:
        sign(request, response, signed)
    return response


class Prompt(BaseModel):
    model_config = ConfigDict(extra="forbid")
    prompt: str


@router.post("/talks/{id_}/turns", dependencies=[Depends(check_form)])
async def turn(request: Request, id_: str, asked: Prompt) -> Response:
    """Server-sent events of what is answered to a prompt; see fairground.web.writing."""
    prompt = asked.prompt.replace("\0", "").strip()  # which no database takes, and no person means
    if not prompt:
        raise ArenaRefusal("The prompt is empty; write something.", 400)
    if len(prompt) > LONGEST_PROMPT:
        raise ArenaRefusal(
            f"The prompt has {len(prompt):,} characters, and the most is {LONGEST_PROMPT:,}; shorten it.", 413
        )
    return await _stream(request, _own(request, id_), prompt)


@router.post("/talks/{id_}/regenerate", dependencies=[Depends(check_form)])
async def regenerate(request: Request, id_: str) -> Response:
    """The same for the last prompt once more; its answers are dropped."""
    talk = _own(request, id_)
    return await _stream(request, talk, talk.turns[-1].prompt if talk.turns else "", again=True)


async def _stream(request: Request, talk: Talk, prompt: str, *, again: bool = False) -> Response:
    site = site_of(request)
    site.rates.hit("turn", talk.person)
    if await run_in_threadpool(site.switched_off, talk.models):
        raise ArenaRefusal(OFF, 409)
    events = write(site, talk, prompt, again=again)
    await anext(events)  # what is refused gets a status of its own
    return EventStream(_as_events(events), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _as_events(events: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[str]:
    async with aclosing(events):
        try:
            async for one in events:
                yield event(one)
        except Exception as error:
            logging.getLogger("fairground.web").error("a turn failed", exc_info=error)
            yield event({"error": told(error)[1]})


@router.post("/talks/{id_}/stop", dependencies=[Depends(check_form)])
async def stop(request: Request, id_: str) -> dict[str, bool]:
    """Ends what is being written; what there is of it stays. A battle's answers end by themselves."""
    talk = _own(request, id_)
    if talk.mode == "battle":
        raise ArenaRefusal("The answers of a battle come to their own end, so that they can be compared.", 409)
    talk.stop.set()
    return {"stopped": True}


class Ballot(BaseModel):
    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=200)
    winner: str = Field(max_length=20)
    reasons: list[str] = Field(default=[], max_length=len(REASONS))
    comment: str = ""


@router.post("/talks/{id_}/vote", dependencies=[Depends(check_form)])
async def vote(request: Request, id_: str, ballot: Ballot) -> JSONResponse:
    """Counts a vote; only now the page is told which models these were."""
    site, session = site_of(request), session_of(request)
    site.rates.hit("vote", session.person.id)
    talk = _own(request, id_)
    if talk.writing:
        raise ArenaRefusal("The answers are still being written; wait until both are whole.", 409)
    if talk.state == "set aside":
        raise ArenaRefusal(talk.why, 409)
    if talk.state == "open" and not talk.whole:
        raise ArenaRefusal("Not every answer is whole, so they cannot be compared; regenerate, or go on.", 409)
    if strange := set(ballot.reasons) - set(REASONS):
        raise ArenaRefusal(f"There is no reason {min(strange)[:40]!r}; choose among those on the page.", 400)
    talk.writing = True  # nothing is written between what is voted on and the vote
    try:
        read = await run_in_threadpool(_read, site)
        receipt = await run_in_threadpool(_count, site, talk, session.id, ballot)
        talk.state = "voted"
        live_of(request).wake()
    finally:
        talk.writing = False
    return JSONResponse({"models": talk.models, "html": _reveal(request, talk, read, receipt)})


@dataclass(frozen=True, slots=True)
class _Read:
    """What a vote's answer needs of the database: read before the vote, so that no vote counts and then seems not to.

    `facts`: by model.
    """

    facts: dict[str, dict[str, Any]]
    keep_text: str


def _read(site: Site) -> _Read:
    return _Read({model.name: model.facts for model in site.ledger.models()}, site.ledger.settings()["keep_text"])


def _count(site: Site, talk: Talk, session: str, ballot: Ballot) -> Receipt:
    return site.ledger.vote(
        talk.id, ballot.token, session, ballot.winner, reasons=ballot.reasons, comment=ballot.comment,
        facts=for_the_log(site.ledger, talk),
    )  # fmt: skip


def _reveal(request: Request, talk: Talk, read: _Read, receipt: Receipt) -> str:
    cards = []
    for side, name in enumerate(talk.models):
        facts = read.facts.get(name, {})
        known = {
            "Made by": facts.get("organisation") or "not known",
            "Size": size(facts.get("parameters")),
            "Licence": facts.get("licence") or "not known",
        }
        cards.append({"name": name, "facts": {**known, **of_model(talk, side)}})
    asks = session_of(request).person.consent is None and read.keep_text != "none"
    return part(request, "reveal.html", cards=cards, receipt=receipt, energy=energy(talk.turns), asks=asks)


class Consent(BaseModel):
    model_config = ConfigDict(extra="forbid")
    agreed: bool


@router.post("/talks/{id_}/consent", dependencies=[Depends(check_form)])
def consent(request: Request, id_: str, given: Consent) -> dict[str, str]:
    """Whether this conversation, and those that the person votes on from now on, may be published."""
    site, person = site_of(request), session_of(request).person
    site.conversations.publish(id_, person.id, given.agreed)
    site.ledger.set_consent(person.id, given.agreed)
    return {"said": "They may be published. Thank you." if given.agreed else "They stay on this machine."}


@router.get("/talks/{id_}/export.{kind}")
async def export(request: Request, id_: str, kind: str) -> Response:
    """The conversation as a file, in Markdown ("md") or JSON. Before a blind vote it names nobody."""
    talk = _own(request, id_)
    if kind not in ("md", "json"):
        raise ArenaRefusal("A conversation is exported as export.md or export.json.", 404)
    headers = {"content-disposition": f'attachment; filename="conversation-{talk.id}.{kind}"'}
    if kind == "md":
        return Response(as_markdown(talk), media_type="text/markdown; charset=utf-8", headers=headers)
    return Response(
        json.dumps(as_json(talk), ensure_ascii=False, indent=1), media_type="application/json", headers=headers
    )


def as_markdown(talk: Talk) -> str:
    """A conversation as text that people read."""
    lines = [f"# Conversation with {' and '.join(talk.names)}", ""]
    if talk.system:
        lines += ["## System prompt", "", talk.system, ""]
    for turn in talk.turns:
        lines += ["## You", "", turn.prompt, ""]
        for name, answer in zip(talk.names, turn.answers, strict=True):
            lines += [f"## {name}", "", answer.text, ""]
    return "\n".join(lines)


def as_json(talk: Talk) -> dict[str, Any]:
    """A conversation with all that is known of it; of a blind one, neither names nor what could tell them."""
    turns = []
    for turn in talk.turns:
        answers = []
        for name, answer in zip(talk.names, turn.answers, strict=True):
            known: dict[str, Any] = {"model": name, "text": answer.text, "finish": answer.finish}
            if not talk.blind:
                known |= {
                    "tokens": answer.tokens, "first_token_s": answer.first_token_s, "seconds": answer.seconds,
                }  # fmt: skip
            answers.append(known)
        turns.append({"prompt": turn.prompt, "answers": answers})
    return {
        "id": talk.id,
        "mode": talk.mode,
        "models": talk.names,
        "system": talk.system,
        "sampling": asdict(talk.choices),
        "turns": turns,
    }


def _own(request: Request, id_: str) -> Talk:
    return site_of(request).talks.of(id_, session_of(request).id)
