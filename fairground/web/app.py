"""The site: `create_site` joins the pages into one application, over a ledger and models."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from fairground import __version__
from fairground.loop.conversations import Conversations
from fairground.loop.ledger import Ledger
from fairground.loop.people import People
from fairground.loop.standings import ALL
from fairground.loop.watch import Watch
from fairground.serving.app import LOOPBACK, create_app
from fairground.serving.keys import Gate
from fairground.serving.metrics import Metrics
from fairground.serving.running import Limits, Running
from fairground.web import (
    account_pages,
    board_pages,
    model_pages,
    refusals,
    run_pages,
    shared_pages,
    steward_pages,
    talk_pages,
    vote_pages,
)
from fairground.web.board import Live, live_board
from fairground.web.draw import Draw, known
from fairground.web.models import Models, OnOffer
from fairground.web.page import STATIC
from fairground.web.rates import Rates
from fairground.web.security import API, Entrance
from fairground.web.site import Site
from fairground.web.visitor import visit

PAGES = (
    talk_pages,
    shared_pages,
    account_pages,
    steward_pages,
    board_pages,
    model_pages,
    run_pages,
    vote_pages,
)


def create_site(
    ledger: Ledger,
    models: Models,
    *,
    people: People | None = None,
    live: Live | None = None,
    rates: Rates | None = None,
    limits: Limits | None = None,
    hosts: Collection[str] | None = LOOPBACK,
    gate: Gate | None = None,
) -> FastAPI:
    """The whole site, with the OpenAI-compatible API under /v1.

    `live`: the ledger's leaderboards, which whoever made them starts and stops (default: some that stand still).
    `hosts`: the names it answers to; None: any. `gate`: whose keys the API wants. `app.state.site` is its Site;
    `app.state.running` is to be drained and ended before the event loop ends.
    """
    limits = limits or Limits()
    api = create_app(OnOffer(ledger, models.generators), limits=limits, hosts=hosts or LOOPBACK, gate=gate)
    own = Running(limits, Metrics())  # its counters are shown to nobody: they would tell who answers in a battle
    app = FastAPI(title="Fairground", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.running = _Both(own, api.state.running)
    app.state.live = live = live or live_board(ledger)
    app.state.site = Site(
        ledger,
        people or People(ledger),
        Conversations(ledger),
        models,
        Draw(lambda: known(live.ready(ALL))),
        Watch(ledger, live.standings),
        own,
        rates=rates or Rates(),
    )
    app.add_middleware(Entrance, hosts=hosts)
    refusals.install(app)
    for pages in PAGES:
        app.include_router(pages.router, dependencies=[Depends(visit)])
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    async def under_its_own_paths(scope: Scope, receive: Receive, send: Send) -> None:
        await api({**scope, "root_path": ""}, receive, send)

    app.mount(API, under_its_own_paths)
    return app


class _Both(Running):
    """Two that stop together."""

    def __init__(self, *each: Running) -> None:
        self._each = each

    def drain(self) -> None:
        for one in self._each:
            one.drain()

    def end(self) -> None:
        for one in self._each:
            one.end()
