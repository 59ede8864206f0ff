"""Who asks: the session by its cookie, and that what is posted comes from a page of this site."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from fairground.errors import ArenaRefusal
from fairground.loop.people import Role, Session, SignedIn, check_csrf, csrf_token, require
from fairground.store.people import Person
from fairground.web.site import site_of

SESSION, FORM = "fairground", "fairground_form"
YEAR = 365 * 86_400  # s


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever asks. `form` is a cookie of this browser alone, from which the token of its forms is made."""

    session: Session | None
    form: str
    new: bool  # whether the browser has yet to be given the form cookie

    @property
    def person(self) -> Person | None:
        return self.session.person if self.session else None

    @property
    def csrf(self) -> str:
        return csrf_token(self.form)


def visit(request: Request) -> None:
    """Finds out who asks, for everything that follows; a dependency of every page."""
    session = site_of(request).people.who(request.cookies.get(SESSION))
    form = request.cookies.get(FORM, "")
    request.state.visitor = Visitor(session, form or secrets.token_urlsafe(32), new=not form)


def visitor_of(request: Request) -> Visitor:
    visitor = request.state.visitor
    assert isinstance(visitor, Visitor)
    return visitor


async def check_form(request: Request) -> None:
    """A dependency of everything that is posted. Raises ArenaRefusal (403) without the browser's own token."""
    token = request.headers.get("x-csrf-token")
    if token is None and "json" not in request.headers.get("content-type", ""):
        found = (await request.form()).get("csrf")
        token = found if isinstance(found, str) else None
    visitor = visitor_of(request)
    check_csrf("" if visitor.new else visitor.form, token if not visitor.new else None)


def session_of(request: Request) -> Session:
    """The session of whoever asks. Raises ArenaRefusal (401) where there is none."""
    session = visitor_of(request).session
    if session is None:
        raise ArenaRefusal("Nobody is signed in here, or the session is over; sign in, or load the page again.", 401)
    return session


def named_person(request: Request, role: Role = "reader") -> Person:
    """The person who asks. Raises ArenaRefusal: 401 for a guest or nobody, 403 for a lower role."""
    visitor = visitor_of(request)
    if visitor.person is None or visitor.person.guest:
        raise ArenaRefusal("This page needs a name; sign in first.", 401)
    require(visitor.person, role)
    return visitor.person


def steward_of(request: Request) -> Person:
    """Raises ArenaRefusal: 401 for nobody, 403 for anybody else."""
    return named_person(request, "steward")


def client_of(request: Request) -> str:
    """The address that asks."""
    return request.client.host if request.client else ""


def sign(request: Request, response: Response, signed: SignedIn) -> None:
    """Gives the browser its session."""
    _give(request, response, SESSION, signed.cookie)


def give_form(request: Request, response: Response) -> None:
    """Gives a browser that has none the cookie that its forms are checked by."""
    visitor = getattr(request.state, "visitor", None)
    if isinstance(visitor, Visitor) and visitor.new:
        _give(request, response, FORM, visitor.form)


def _give(request: Request, response: Response, name: str, value: str) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, max_age=YEAR, httponly=True, samesite="lax", secure=secure)
