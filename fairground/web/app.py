"""The site: `create_site` joins the pages into one application."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from fairground.store.database import Database
from fairground.web.page import STATIC, page
from fairground.web.security import SecurityHeaders


def create_site(database: Database) -> FastAPI:
    """The whole site over a database. `app.state.database` is there for the pages' routers."""
    app = FastAPI(title="Fairground", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.database = database
    app.add_middleware(SecurityHeaders)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/")
    def battle(request: Request) -> HTMLResponse:
        return page(request, "battle.html")

    return app
