"""What stewards see to: the models on offer, limits, people and their roles, quarantine, and the log."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from fairground.errors import ArenaRefusal
from fairground.loop.arena_settings import CHOICES, DEFAULTS, SHARES, admission
from fairground.loop.people import ROLES
from fairground.loop.watch import BY
from fairground.store.people import Person
from fairground.web.page import page
from fairground.web.site import site_of
from fairground.web.visitor import check_form, steward_of

router = APIRouter(prefix="/steward", dependencies=[Depends(steward_of)])
Steward = Annotated[Person, Depends(steward_of)]
Text = Annotated[str, Form(max_length=500)]
Posted = [Depends(check_form)]
LIMITS = {
    "guests_may_vote": ("Guests may vote", "Without it, whoever votes has an account."),
    "open_sign_up": ("Anybody may sign up", "Without it, accounts are made by one-time links (People)."),
    "votes_per_day": ("Votes a day of a person with a name", ""),
    "guest_votes_per_day": ("Votes a day of a guest", ""),
    "battles_per_day": ("Conversations a day of anybody", "Each costs answers."),
    "battle_minutes": ("Minutes in which a battle can be voted on", ""),
    "keep_text": (
        "What people and models write",
        "Redaction finds e-mail addresses, numbers and the like by their form, and no names.",
    ),
    "uniform_share": (
        "Share of battles whose pair is drawn evenly",
        "From 0 to 1. The others go where a vote says most; the share is published.",
    ),
}
KEEP = {"keep": "keep it", "redact": "keep it redacted", "none": "keep nothing"}
SHOWN = 50  # entries of the log on a page


@router.get("")
def models(request: Request) -> HTMLResponse:
    site = site_of(request)
    known = {model.name: model for model in site.ledger.models()}
    rows = [
        {
            "name": name,
            "status": site.models.status(name),
            "offered": name not in known or known[name].offered,
            "facts": known[name].facts if name in known else {},
        }
        for name in site.models.offers
    ]
    return page(request, "steward_models.html", tab="models", rows=rows)


@router.post("/models", dependencies=Posted)
def change_model(
    request: Request, steward: Steward, name: Text, offered: Text, licence: Text = "", organisation: Text = ""
) -> Response:
    """Puts a model on or off, and says whose it is and under which licence."""
    site = site_of(request)
    if name not in site.models.offers:
        raise ArenaRefusal("There is no such model here; choose one of the list.", 404)
    before: dict[str, Any] = next((dict(model.facts) for model in site.ledger.models() if model.name == name), {})
    facts = before | {"licence": licence.strip() or None, "organisation": organisation.strip() or None}
    site.ledger.offer_model(name, facts, steward.pseudonym, offered=offered == "on")
    return RedirectResponse("/steward", 303)


@router.post("/models/open", dependencies=Posted)
def open_again(request: Request, name: Text) -> Response:
    """Opens a broken model anew; what is wrong with it stands on the page afterwards."""
    site = site_of(request)
    if name not in site.models.offers:
        raise ArenaRefusal("There is no such model here; choose one of the list.", 404)
    site.models.reopen(name)
    return RedirectResponse("/steward", 303)


@router.get("/limits")
def limits(request: Request) -> HTMLResponse:
    return _limits(request)


def _limits(request: Request, status: int = 200, said: str = "") -> HTMLResponse:
    ledger = site_of(request).ledger
    values = ledger.settings()
    return page(
        request, "steward_limits.html", status, tab="limits", values=values, words=LIMITS, keep=KEEP, said=said,
        kinds={name: _kind(name) for name in LIMITS}, admission=admission(values, public=ledger.public),
    )  # fmt: skip


def _kind(name: str) -> str:
    if name in CHOICES:
        return "choice"
    return "switch" if isinstance(DEFAULTS[name], bool) else "share" if name in SHARES else "number"


@router.post("/limits", dependencies=Posted)
async def change_limits(request: Request, steward: Steward) -> Response:
    """Sets what was changed."""
    form = await request.form()
    return await run_in_threadpool(_change, request, steward, {name: str(form.get(name, "")) for name in LIMITS})


def _change(request: Request, steward: Person, given: dict[str, str]) -> Response:
    ledger = site_of(request).ledger
    before = ledger.settings()
    try:
        for name, text in given.items():
            value = _value(name, text)
            if value != before[name]:
                ledger.set_setting(name, value, steward.pseudonym)
    except ArenaRefusal as refused:
        return _limits(request, refused.status, str(refused))
    return RedirectResponse("/steward/limits", 303)


def _value(name: str, text: str) -> object:
    """What a field of the form says; what is no number stays a text, which the setting refuses."""
    kind = _kind(name)
    if kind == "switch":
        return text == "on"
    try:
        return text if kind == "choice" else float(text) if kind == "share" else int(text)
    except ValueError:
        return text


@router.get("/people")
def people(request: Request) -> HTMLResponse:
    return _people(request)


def _people(request: Request, status: int = 200, said: str = "", link: str = "") -> HTMLResponse:
    everybody = site_of(request).people.people()
    return page(
        request, "steward_people.html", status, tab="people", people=everybody, roles=ROLES, said=said, link=link
    )


@router.post("/people", dependencies=Posted)
def change_role(request: Request, steward: Steward, id: Text, role: Text) -> Response:
    try:
        site_of(request).people.set_role(id, role, steward)  # type: ignore[arg-type]
    except ArenaRefusal as refused:
        return _people(request, refused.status, str(refused))
    return RedirectResponse("/steward/people", 303)


@router.post("/people/invite", dependencies=Posted)
def invite(request: Request, steward: Steward, role: Text) -> Response:
    """Shows a one-time link, this once."""
    link = site_of(request).people.invite(role, steward)  # type: ignore[arg-type]
    return _people(request, link=str(request.url_for("join_page", link=link)))


@router.get("/quarantine")
def quarantine(request: Request) -> HTMLResponse:
    return _quarantine(request)


def _quarantine(request: Request, status: int = 200, said: str = "") -> HTMLResponse:
    site = site_of(request)
    rows = []
    for voter, entry in site.ledger.quarantined().items():
        verdict = site.watch.verdict(voter) if entry.body["by"] == BY else None
        found = verdict.said if verdict else ""
        why, by = entry.body["why"], entry.body["by"]
        rows.append(
            {"voter": voter, "why": why, "by": by, "at": when(entry.at), "number": entry.number, "found": found}
        )
    return page(request, "steward_quarantine.html", status, tab="quarantine", rows=rows, said=said)


@router.post("/quarantine", dependencies=Posted)
def put_in(request: Request, steward: Steward, voter: Text, why: Text) -> Response:
    try:
        site_of(request).ledger.quarantine(voter.strip(), why.strip().lower().replace(" ", "-"), steward.pseudonym)
    except ArenaRefusal as refused:
        return _quarantine(request, refused.status, str(refused))
    return RedirectResponse("/steward/quarantine", 303)


@router.post("/quarantine/release", dependencies=Posted)
def release(request: Request, steward: Steward, voter: Text) -> Response:
    try:
        site_of(request).ledger.release(voter, steward.pseudonym)
    except ArenaRefusal as refused:
        return _quarantine(request, refused.status, str(refused))
    return RedirectResponse("/steward/quarantine", 303)


@router.get("/log")
def log(request: Request, before: Annotated[int | None, Query(ge=1)] = None) -> HTMLResponse:
    """The newest entries, or those before a number."""
    ledger = site_of(request).ledger
    end = ledger.head().number + 1 if before is None else min(before, ledger.head().number + 1)
    first = max(0, end - SHOWN)
    entries = []
    for entry in ledger.entries(first - 1):
        if entry.number >= end:
            break
        body = json.dumps(entry.body, ensure_ascii=False, sort_keys=True)
        entries.append(
            {"number": entry.number, "at": when(entry.at), "kind": entry.kind, "body": body, "hash": entry.hash}
        )
    return page(request, "steward_log.html", tab="log", entries=entries[::-1], older=first)


def when(at: int) -> str:
    """Milliseconds since the epoch, for people, in UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
