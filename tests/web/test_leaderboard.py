"""The leaderboard's pages over votes that were cast through the ledger: what they show, link to, and refuse."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import voting
from fastapi.testclient import TestClient
from visitors import Arena

from fairground.arena.record import ATTRIBUTION, record_ratings
from fairground.loop.ledger import Ledger
from fairground.loop.standings import Standings, View
from fairground.store import open_database
from fairground.store.runs import begin_run, finish_run
from fairground.web.board_rows import COLUMNS, order_of

HTML = {"accept": "text/html"}
NASTY = '<script>alert("x")</script>'


class Table(HTMLParser):
    """The first table of a page: its heads with their attributes and addresses, and the text of its cells by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.heads: list[dict[str, str | None]] = []
        self.rows: list[list[str]] = []
        self._where, self._done = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if self._done:
            return
        if tag in ("thead", "tbody"):
            self._where = tag
        elif tag == "tr" and self._where == "tbody":
            self.rows.append([])
        elif tag in ("th", "td") and self._where == "thead":
            self.heads.append(dict(attributes))
        elif tag in ("th", "td") and self._where == "tbody":
            self.rows[-1].append("")
        elif tag == "a" and self._where == "thead":
            self.heads[-1]["href"] = dict(attributes)["href"]

    def handle_endtag(self, tag: str) -> None:
        self._done = self._done or tag == "table"

    def handle_data(self, data: str) -> None:
        if self._where == "tbody" and self.rows and self.rows[-1] and not self._done:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with 240 votes, made once."""
    file = tmp_path_factory.mktemp("voted") / "fairground.db"
    with open_database(f"sqlite:///{file}") as database:
        ledger = Ledger(database)
        voting.offer(ledger)
        voting.cast(ledger, 240, people=6)
    return file


@pytest.fixture
def site(voted: Path, arena: Callable[..., Arena], tmp_path: Path) -> Arena:
    shutil.copy(voted, tmp_path / "fairground.db")
    return arena()


@pytest.fixture
def client(site: Arena) -> TestClient:
    return TestClient(site.app, headers=HTML)


def test_the_table_has_every_column_and_says_what_it_is_sorted_by(client: TestClient) -> None:
    page = client.get("/leaderboard")
    assert page.status_code == 200
    table = Table(page.text)
    assert len(table.heads) == len(COLUMNS)
    assert [head.get("aria-sort") for head in table.heads] == ["ascending"] + [None] * (len(COLUMNS) - 1)
    assert len(table.rows) == len(voting.MODELS)
    assert "preliminary" in table.rows[0][1]
    assert "240 votes on blind battles, by 6 people" in page.text
    assert "style=" not in re.sub(r'href="[^"]*"', "", page.text)  # the policy allows no style in attributes


def test_every_head_is_a_link_that_sorts_both_ways(client: TestClient, site: Arena) -> None:
    rows = site.app.state.live.board().prepared.rows
    for place, column in enumerate(COLUMNS):
        address = Table(client.get("/leaderboard").text).heads[place]["href"]
        for _ in range(2):
            table = Table(client.get(str(address)).text)
            falling = table.heads[place]["aria-sort"] == "descending"
            expected = [rows[i]["model"] for i in order_of(column, rows, falling)]
            assert [row[1].split(" ")[0] for row in table.rows] == expected
            address = table.heads[place]["href"]


def test_filters_are_addresses_and_make_other_leaderboards(client: TestClient, site: Arena) -> None:
    standings = Standings(site.site.ledger.entries())
    for query, view in (
        ("category=code", View(category="code")),
        ("language=en&style=1", View(language="en", style=True)),
        ("mode=side_by_side", View(mode="side_by_side")),
    ):
        page, found = client.get(f"/leaderboard?{query}"), client.get(f"/leaderboard.json?{query}")
        assert page.status_code == found.status_code == 200
        assert found.content == standings.to_json(view)
    page = client.get("/leaderboard?category=code&language=en&style=1").text
    assert 'value="code" selected' in page
    assert 'value="en" selected' in page
    assert "checked" in page
    for address in ("?category=cooking", "?language=xx", "?mode=chat", "?sort=colour", "?order=sideways"):
        assert client.get(f"/leaderboard{address}").status_code == 404


def test_downloads_hold_what_the_page_shows(client: TestClient, site: Arena) -> None:
    found = client.get("/leaderboard.json")
    assert found.content == Standings(site.site.ledger.entries()).to_json()
    assert "attachment" in found.headers["content-disposition"]
    models = json.loads(found.content)["models"]
    rows = list(csv.DictReader(io.StringIO(client.get("/leaderboard.csv").text)))
    assert [row["model"] for row in rows] == [model["model"] for model in models]
    assert [float(row["rating"]) for row in rows] == [model["rating"] for model in models]
    assert rows[0]["organisation"] == models[0]["organisation"]


def test_what_rank_measured_stands_beside_the_ratings(client: TestClient, site: Arena) -> None:
    add_run(site, "abc123")
    row = next(row for row in Table(client.get("/leaderboard").text).rows if row[1].startswith("smollm2 "))
    assert any(cell.startswith("41.2%38–45") for cell in row)
    assert any(cell.startswith("93.0%") for cell in row)
    assert "~317" in row


def test_a_vote_changes_the_leaderboard(client: TestClient, site: Arena) -> None:
    before = client.get("/leaderboard/now").json()
    assert before["rated"] == before["log"]
    voting.cast(site.site.ledger, 1, people=1, seed=9)
    assert client.get("/leaderboard/now").json()["rated"] > before["rated"]
    assert "241 votes on blind battles, by 7 people" in client.get("/leaderboard").text


def test_names_from_strangers_are_text(site: Arena, client: TestClient) -> None:
    ledger = site.site.ledger
    names = [NASTY, "=cmd|calc", "a\"b'c&d"]
    for name in names:
        ledger.offer_model(name, {"organisation": NASTY, "licence": NASTY}, "command")
    session = site.site.people.guest().session
    for a, b in zip(names, [*names[1:], "smollm2"], strict=True):
        opened = ledger.open_battle(session.person.id, a, b, session=session.id)
        ledger.vote(
            opened.id,
            opened.token,
            session.id,
            "model_a",
            facts=voting.facts_of(voting.random.Random(1), "smollm2", "smollm2#int4"),
        )
    for address in ("/leaderboard", "/leaderboard?sort=organisation"):
        page = client.get(address).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
    links = re.findall(r'href="(/models/[^"]*)"', client.get("/leaderboard").text)
    for link in links:
        page = client.get(link)
        assert page.status_code == 200, link
        assert "<script>alert" not in page.text
    cells = [row["model"] for row in csv.DictReader(io.StringIO(client.get("/leaderboard.csv").text))]
    assert "'=cmd|calc" in cells  # no formula for a spreadsheet


def test_a_model_has_a_page_with_its_card_ratings_and_what_may_be_shown(client: TestClient, site: Arena) -> None:
    add_run(site, "abc123")
    page = client.get("/models/smollm2").text
    assert "Apache-2.0" in page
    assert "Creative writing" in page
    assert "/runs/abc123" in page
    assert "No conversation with this model may be shown yet" in page
    assert client.get("/models/nobody").status_code == 404

    ledger = site.site.ledger
    session = site.site.people.guest().session
    for consent, words in ((False, "a secret question"), (True, f"a public question {NASTY}")):
        ledger.set_consent(session.person.id, consent)
        battle = ledger.open_battle(session.person.id, "smollm2", "commons-5gram", session=session.id)
        ledger.add_turn(battle.id, 1, words, f"an **answer** {NASTY}", "another")
        ledger.vote(battle.id, battle.token, session.id, "model_a")
    page = client.get("/models/smollm2").text
    assert "a public question" in page
    assert "a secret question" not in page
    assert "an <strong>answer</strong>" in page
    assert "<script>alert" not in page
    assert "another" not in page  # the other model's answer is on its own page


def test_runs_are_listed_and_have_a_report_that_lets_no_script_run_but_its_own(client: TestClient, site: Arena) -> None:
    assert "No run yet" in client.get("/runs").text
    add_run(site, "abc123")
    begin_run(site.site.ledger.database, "unfinished", "house", ["elm-2b,shots=0", "fir-3b,shots=5"])
    listed = client.get("/runs").text
    assert "/runs/abc123" in listed
    assert "interrupted" in listed
    assert "elm-2b, fir-3b,shots=5" in listed
    page = client.get("/runs/abc123").text
    assert "smollm2" in page
    assert NASTY not in page
    report = client.get("/runs/abc123/report.html")
    policy = report.headers["content-security-policy"]
    assert "script-src 'sha256-" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1]
    assert "frame-ancestors 'none'" in policy
    assert NASTY not in report.text
    assert client.get("/runs/unfinished").status_code == 200
    for address in ("/runs/unfinished/report.html", "/runs/nobody", "/runs/nobody/report.html"):
        assert client.get(address).status_code == 404


def test_the_record_is_shown_with_its_attribution(client: TestClient) -> None:
    page = client.get("/leaderboard/record").text
    assert ATTRIBUTION.split(" (")[0] in page.replace("&#39;", "'")
    assert "CC-BY-4.0" in page
    table = Table(page)
    assert [row[1] for row in table.rows] == [row.model for row in record_ratings()]


def test_methods_say_what_is_not_detected_and_show_the_simulations_tables(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairground.web import board_pages

    page = client.get("/methods").text
    assert "names and postal addresses are not" in " ".join(page.split())
    tables = [{"title": "Coverage", "note": NASTY, "columns": ["models", "covered"], "rows": [["20", "95.1%"]]}]
    monkeypatch.setattr(board_pages, "method_tables", lambda: tables)
    page = client.get("/methods").text
    assert "95.1%" in page
    assert "<script>alert" not in page


def test_my_votes_are_mine(site: Arena) -> None:
    stranger = site.visitor()
    assert "You have not voted" in stranger.get("/votes").text
    ledger = site.site.ledger
    signed = site.site.people.guest()
    client = TestClient(site.app, headers=HTML, cookies={"fairground": signed.cookie})
    session = signed.session
    for a, b, winner in (("smollm2", "commons-5gram", "model_a"), ("commons-llama-4m", "commons-gpt2-4m", "tie")):
        battle = ledger.open_battle(session.person.id, a, b, session=session.id)
        ledger.vote(battle.id, battle.token, session.id, winner)
    ledger.open_battle(session.person.id, "commons-gpt-j-4m", "smollm2#int4", session=session.id)
    page = client.get("/votes").text
    assert "your 2 votes alone" in page
    assert "Group 2" in page
    assert "smollm2 is better" in page
    assert "Model A" in page  # of the battle that is still open
    assert "commons-gpt-j-4m" not in page
    assert "You have not voted" in stranger.get("/votes").text


def test_half_a_log_is_no_answer(site: Arena, client: TestClient) -> None:
    live = site.app.state.live
    goes_on, entries = threading.Event(), live._entries

    def slowly(after: int) -> Iterator[Any]:
        for entry in entries(after):
            if entry.number == 100:
                goes_on.wait(20)
            yield entry

    live._entries = slowly
    live.start()
    addresses = ("/leaderboard", "/leaderboard.json", "/leaderboard.csv", "/models/commons-gpt2-4m")
    try:
        for address in addresses:
            answer = client.get(address)
            assert answer.status_code == 503, address
            assert "reads its log" in answer.text
        goes_on.set()
        end = time.monotonic() + 20
        while live.reading:
            assert time.monotonic() < end
            time.sleep(0.02)
        for address in addresses:
            assert client.get(address).status_code == 200, address
    finally:
        goes_on.set()
        live.stop()


def test_an_empty_arena_says_so(arena: Callable[..., Arena]) -> None:
    client = TestClient(arena().app, headers=HTML)
    page = client.get("/leaderboard").text
    assert "There are no votes yet." in page
    assert ">Start a battle</a>" in page
    of_code = client.get("/leaderboard?mode=side_by_side&category=code").text
    assert "There are no votes of this kind yet." in of_code
    assert 'href="/side-by-side">Compare two models</a>' in of_code
    assert 'href="/leaderboard?mode=side_by_side">Without filters</a>' in of_code
    assert client.get("/leaderboard?style=1").status_code == 200
    assert json.loads(client.get("/leaderboard.json").content)["models"] == []
    assert client.get("/votes").status_code == 200


def add_run(site: Arena, id_: str) -> None:
    """A finished run of `rank` in the store, as it keeps them."""

    def share(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.032, "high": value + 0.038, "n": 400}

    metrics = {"accuracy": share(0.412), "coherence": share(0.93), "ttft_ms": {"value": 84.1}}
    metrics["energy_j_per_1k_tokens"] = {"value": 317.0, "estimate": True}
    models = [
        {
            "model": name,
            "family": "llama",
            "parameters": 134_515_008,
            "precision": "bf16",
            "metrics": metrics,
            "tasks": {},
        }
        for name in ("smollm2", NASTY)
    ]
    run: dict[str, Any] = {"id": id_, "smallest_detectable_difference": {"accuracy": 0.085}}
    run |= {"suite": {"name": "house", "version": "2"}, "created": "2026-01-01T00:00:00+00:00"}
    database = site.site.ledger.database
    begin_run(database, id_, "house", [str(model["model"]) for model in models])
    finish_run(database, id_, json.dumps({"run": run, "models": models, "comparisons": []}), "")
