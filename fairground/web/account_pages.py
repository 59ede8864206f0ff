"""Accounts: signing in and up, one-time links, and what people may set, take away and delete."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fairground.errors import ArenaRefusal
from fairground.loop.people import IDLE_DAYS
from fairground.store.people import Person
from fairground.web.page import page
from fairground.web.site import Site, site_of
from fairground.web.visitor import (
    FORM,
    SESSION,
    check_form,
    client_of,
    named_person,
    session_of,
    sign,
    visitor_of,
)

router = APIRouter()
Text = Annotated[str, Form(max_length=2_000)]
Posted = [Depends(check_form)]


@router.get("/sign-in")
def sign_in_page(request: Request, to: str = "/") -> HTMLResponse:
    return _sign_in(request, to=to)


def _sign_in(request: Request, status: int = 200, *, to: str, said: str = "", name: str = "") -> HTMLResponse:
    may = _may_sign_up(request)
    return page(request, "sign_in.html", status, said=said, name=name, to=_inside(to), may_sign_up=may)


def _may_sign_up(request: Request) -> bool:
    """Whether anybody may, without a link."""
    return bool(site_of(request).ledger.settings()["open_sign_up"])


@router.post("/sign-in", dependencies=Posted)
def sign_in(request: Request, name: Text, password: Text, to: Text = "/") -> Response:
    site = site_of(request)
    try:
        site.rates.hit("sign in", client_of(request))
        site.rates.hit("name", name.casefold())
        signed = site.people.sign_in(name, password)
    except ArenaRefusal as refused:
        return _sign_in(request, refused.status, said=str(refused), name=name, to=to)
    response = RedirectResponse(_inside(to), 303)
    sign(request, response, signed)
    return response


@router.get("/sign-up")
def sign_up_page(request: Request, to: str = "/") -> HTMLResponse:
    return _sign_up(request, to=to)


def _sign_up(
    request: Request, status: int = 200, *, to: str = "/", said: str = "", name: str = "", link: str = ""
) -> HTMLResponse:
    may = bool(link) or _may_sign_up(request)
    return page(request, "sign_up.html", status, said=said, name=name, link=link, to=_inside(to), may_sign_up=may)


@router.get("/join/{link}")
def join_page(request: Request, link: str) -> HTMLResponse:
    """Where a one-time link leads."""
    return _sign_up(request, link=link)


@router.post("/sign-up", dependencies=Posted)
def sign_up(request: Request, name: Text, password: Text, link: Text = "", to: Text = "/") -> Response:
    """A guest keeps their votes; whoever is signed in by name gets a new account beside it."""
    site = site_of(request)
    try:
        site.rates.hit("sign up", client_of(request))
        signed = site.people.sign_up(name, password, cookie=request.cookies.get(SESSION), link=link or None)
    except ArenaRefusal as refused:
        return _sign_up(request, refused.status, said=str(refused), name=name, link=link, to=to)
    response = RedirectResponse(_inside(to), 303)
    sign(request, response, signed)
    return response


@router.post("/join", dependencies=Posted)
def join(request: Request, link: Text) -> Response:
    """Gives whoever is signed in the role of a link."""
    site_of(request).people.redeem(named_person(request).id, link)
    return RedirectResponse("/settings", 303)


@router.post("/sign-out", dependencies=Posted)
def sign_out(request: Request) -> Response:
    if cookie := request.cookies.get(SESSION):
        site_of(request).people.sign_out(cookie)
    response = RedirectResponse("/", 303)
    response.delete_cookie(SESSION, httponly=True, samesite="lax")
    return response


@router.get("/settings")
def settings(request: Request, done: str = "") -> HTMLResponse:
    session_of(request)
    return _settings(request, said=DONE.get(done, ""))


DONE = {"consent": "Your choice is kept.", "deleted": "The conversation is deleted."}


def _settings(request: Request, status: int = 200, said: str = "", bad: bool = False) -> HTMLResponse:
    site = site_of(request)
    return page(
        request, "settings.html", status, said=said, bad=bad, set_to=site.ledger.settings(), idle_days=IDLE_DAYS
    )


@router.post("/settings/consent", dependencies=Posted)
def consent(request: Request, publish: Text = "") -> Response:
    """Whether conversations that are voted on from now on may be published; taking it back takes back all."""
    site_of(request).ledger.set_consent(session_of(request).person.id, publish == "yes")
    return RedirectResponse("/settings?done=consent", 303)


@router.post("/settings/password", dependencies=Posted)
def password(request: Request, old: Text, new: Text) -> Response:
    """Ends every session of the person, and begins one here."""
    site, person = site_of(request), named_person(request)
    assert person.name is not None
    try:
        site.rates.hit("name", person.name.casefold())
        site.people.change_password(person.id, old, new)
    except ArenaRefusal as refused:
        return _settings(request, refused.status, str(refused), bad=True)
    response = RedirectResponse("/settings", 303)
    sign(request, response, site.people.sign_in(person.name, new))
    return response


@router.post("/settings/delete", dependencies=Posted)
def delete(request: Request, sure: Text = "") -> Response:
    """Erases the person and all that they wrote; see Ledger.erase."""
    site, person = site_of(request), session_of(request).person
    if sure != "yes":
        return _settings(request, 400, "Nothing was deleted: tick the box that says you are sure.", bad=True)
    try:
        site.ledger.erase(person.id)
    except ArenaRefusal as refused:
        return _settings(request, refused.status, str(refused), bad=True)
    site.talks.drop(person.id)
    request.state.visitor = type(visitor_of(request))(None, request.cookies.get(FORM, ""), False)
    response = page(request, "erased.html")
    response.delete_cookie(SESSION, httponly=True, samesite="lax")
    return response


@router.get("/settings/my-data.json")
def my_data(request: Request) -> Response:
    """Everything that is kept of the person, as a file."""
    found = as_json(site_of(request), session_of(request).person)
    headers = {"content-disposition": 'attachment; filename="my-data.json"'}
    return Response(json.dumps(found, ensure_ascii=False, indent=1), media_type="application/json", headers=headers)


def as_json(site: Site, person: Person) -> dict[str, Any]:
    """A person's facts, conversations and entries of the log. Models of open battles are left out."""
    conversations, before = [], None
    while battles := site.conversations.mine(person.id, before=before):
        for battle in battles:
            shown = site.conversations.read(battle.id, person.id)
            text = shown.conversation
            conversations.append(
                {
                    "id": battle.id,
                    "mode": battle.mode,
                    "opened": battle.opened,
                    "state": battle.state,
                    "models": [battle.model_a, battle.model_b] if shown.revealed else None,
                    "system": text.system if text else None,
                    "comment": text.comment if text else None,
                    "publish": text.publish if text else None,
                    "turns": [
                        {"prompt": turn.prompt, "answer_a": turn.answer_a, "answer_b": turn.answer_b}
                        for turn in text.turns
                    ]
                    if text
                    else [],
                }
            )
        before = battles[-1].opened
    return {
        "name": person.name,
        "pseudonym": person.pseudonym,
        "role": person.role,
        "consent": person.consent,
        "made": person.made,
        "conversations": conversations,
        "log": [
            {"number": entry.number, "at": entry.at, "kind": entry.kind, "body": entry.body, "hash": entry.hash}
            for entry in site.ledger.entries_of(person.pseudonym)
        ],
    }


def _inside(to: str) -> str:
    """An address of this site, whatever was asked for."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
