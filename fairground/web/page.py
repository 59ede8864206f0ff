"""How pages are made: Jinja2 templates that escape everything, and what all of them are given."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from fairground import __version__
from fairground.web.visitor import Visitor, give_form

STATIC = Path(__file__).parent / "static"
NAVIGATION = (
    ("/", "Battle"),
    ("/side-by-side", "Side by side"),
    ("/chat", "Chat"),
    ("/leaderboard", "Leaderboard"),
    ("/runs", "Runs"),
    ("/votes", "My votes"),
    ("/methods", "Methods"),
)


@cache
def static(name: str) -> str:
    """The address of a static file, with a hash of what is in it, so that browsers may keep it."""
    return f"/static/{name}?{hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


templates = Environment(
    loader=PackageLoader("fairground.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.globals.update(static=static, navigation=NAVIGATION, version=__version__)


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page from a template of fairground/web/templates.

    Besides the context, templates know `person` (who is signed in, or None), `csrf` (the token that every form that
    posts must hold as a field of that name), and `here(address)`, whether the page belongs to an address of the
    navigation.
    """
    path = request.url.path

    def here(address: str) -> bool:
        return path == address or (address != "/" and path.startswith(f"{address}/"))

    response = HTMLResponse(templates.get_template(template).render(**known(request), here=here, **context), status)
    give_form(request, response)
    return response


def part(request: Request, template: str, **context: Any) -> str:
    """A part of a page, as HTML, for a script that puts it there."""
    return templates.get_template(template).render(**known(request), **context)


def known(request: Request) -> dict[str, Any]:
    visitor = getattr(request.state, "visitor", None)
    if not isinstance(visitor, Visitor):  # refused before anybody asked who it was
        return {"person": None, "csrf": ""}
    return {"person": visitor.person, "csrf": visitor.csrf}
