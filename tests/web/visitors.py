"""Visitors of a site under test: browsers without a window, that keep cookies and send what the pages' script sends."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_models import Writer
from fastapi import FastAPI
from httpx import Client, Response
from starlette.testclient import TestClient

from fairground.serving.server import Server, listen
from fairground.web.site import Site

HTML = {"accept": "text/html"}
PASSWORD = "correct horse battery"


@dataclass
class Arena:
    """A site, and the models behind it by name."""

    app: FastAPI
    writers: dict[str, Writer]
    file: Path

    @property
    def site(self) -> Site:
        site = self.app.state.site
        assert isinstance(site, Site)
        return site

    def visitor(self, address: str | None = None) -> Visitor:
        """A new one, of the application itself, or of the server that `serving` gave the address of."""
        return Visitor(Client(base_url=address) if address else TestClient(self.app, raise_server_exceptions=False))

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The site behind a free port of the loopback, which is its address."""
        with listen("127.0.0.1", 0) as bound:
            server = Server(self.app, shutdown_timeout=2)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
            thread.start()
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
            server.should_exit = True
            thread.join(timeout=10)
        assert not thread.is_alive()

    def votes(self) -> list[dict[str, Any]]:
        return [dict(entry.body) for entry in self.site.ledger.entries() if entry.kind == "vote"]

    def steward(self) -> Visitor:
        someone = self.visitor()
        link = self.site.people.first_steward_link()
        assert someone.fill("/sign-up", name="Stella", password=PASSWORD, link=link).status_code == 303
        return someone


@dataclass
class Visitor:
    """A browser. `said` is everything that the site has ever sent it, headers too."""

    client: Client
    said: list[str] = field(default_factory=list)

    def get(self, address: str, **headers: str) -> Response:
        return self._heard(self.client.get(address, headers={**HTML, **headers}, follow_redirects=False))

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" content="([0-9a-f]+)"', self.get("/sign-in").text)
        assert found
        return found[1]

    def fill(self, address: str, **fields: Any) -> Response:
        """Sends a form of a page."""
        data = {"csrf": self.csrf, **fields}
        return self._heard(self.client.post(address, data=data, headers=HTML, follow_redirects=False))

    def post(self, address: str, body: Any = None, **headers: str) -> Response:
        """Sends what a script sends."""
        given = {"accept": "application/json", "x-csrf-token": self.csrf, **headers}
        return self._heard(self.client.post(address, json={} if body is None else body, headers=given))

    def sign_up(self, name: str) -> Visitor:
        assert self.fill("/sign-up", name=name, password=PASSWORD).status_code == 303
        return self

    def open(self, **asked: Any) -> dict[str, Any]:
        answer = self.post("/talks", {"mode": "battle", **asked})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ask(self, talk: dict[str, Any], prompt: str = "What colour is the sky?") -> list[dict[str, Any]]:
        return events(self.post(f"/talks/{talk['id']}/turns", {"prompt": prompt}))

    def vote(self, talk: dict[str, Any], winner: str = "model_a", **more: Any) -> Response:
        return self.post(f"/talks/{talk['id']}/vote", {"token": talk["token"], "winner": winner, **more})

    def _heard(self, answer: Response) -> Response:
        self.said += [answer.text, str(answer.headers)]
        return answer


def events(answer: Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(part.removeprefix("data: ")) for part in answer.text.split("\n\n") if part]
