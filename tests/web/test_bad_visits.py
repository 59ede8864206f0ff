"""What bad input gets on the site: a page or an error that says so, and nothing counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest
from fake_models import Writer
from visitors import HTML, Arena

from fairground.web.security import POLICY

Make = Callable[..., Arena]


@pytest.fixture
def site(arena: Make) -> Arena:
    return arena()


def test_votes_that_do_not_count(site: Arena) -> None:
    someone, other = site.visitor(), site.visitor()
    talk, others = someone.open(), other.open()
    early = someone.vote(talk)
    assert early.status_code == 409
    assert "regenerate" in early.json()["error"]
    someone.ask(talk), other.ask(others)
    forged = someone.vote({**talk, "token": "forged"})
    assert forged.status_code == 403
    assert "token" in forged.json()["error"]
    assert someone.vote({**talk, "token": others["token"]}).status_code == 403
    assert someone.vote(others).status_code == 404  # another's battle, with its token
    assert someone.vote({"id": "0123456789abcdef", "token": talk["token"]}).status_code == 404
    assert someone.vote(talk, "model_c").status_code == 400
    assert someone.vote(talk, reasons=["<script>"]).status_code == 400
    assert someone.vote(talk, comment="x" * 5000).status_code == 413
    assert someone.post(f"/talks/{talk['id']}/vote", {"winner": "tie"}).status_code == 400
    assert not site.votes()
    assert someone.vote(talk).status_code == 200
    twice = someone.vote(talk)
    assert twice.status_code == 409
    assert "voted on before" in twice.json()["error"]
    assert len(site.votes()) == 1


def test_a_vote_after_its_time(site: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    someone = site.visitor()
    talk = someone.open()
    someone.ask(talk)
    now = site.site.ledger.now()
    monkeypatch.setattr(site.site.ledger, "now", lambda: now + 121 * 60_000)
    late = someone.vote(talk)
    assert late.status_code == 410
    assert "time for a vote is over" in late.json()["error"]
    assert not site.votes()


def test_other_peoples_conversations_are_not_there(site: Arena) -> None:
    someone, other = site.visitor(), site.visitor()
    talk = someone.open()
    someone.ask(talk)
    other.open()
    for path in ("turns", "regenerate", "stop", "vote", "share", "unshare"):
        body = (
            {"prompt": "x"} if path == "turns" else {"token": talk["token"], "winner": "tie"} if path == "vote" else {}
        )
        assert other.post(f"/talks/{talk['id']}/{path}", body).status_code == 404, path
    assert other.get(f"/talks/{talk['id']}/export.md").status_code == 404
    assert other.get("/shared/nothing").status_code == 404
    nobody = site.visitor()
    assert nobody.post(f"/talks/{talk['id']}/turns", {"prompt": "x"}).status_code == 401
    assert nobody.get("/settings").status_code == 401


def test_posts_from_other_sites_are_refused(site: Arena) -> None:
    someone = site.visitor()
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        refused = someone.post("/talks", {"mode": "battle"}, **headers)
        assert refused.status_code == 403, headers
        assert "another site" in refused.json()["error"], headers
    assert someone.post("/talks", {"mode": "battle"}, origin="http://testserver").status_code == 200
    assert someone.post("/talks", {"mode": "battle"}, **{"x-csrf-token": "0" * 64}).status_code == 403
    assert someone.client.post("/talks", json={"mode": "battle"}).status_code == 403  # no token at all
    assert someone.get("/", host="evil.example").status_code == 400


def test_long_prompts(site: Arena) -> None:
    someone = site.visitor()
    talk = someone.open()
    long = someone.post(f"/talks/{talk['id']}/turns", {"prompt": "x" * 16_001})
    assert long.status_code == 413
    assert "16,001 characters" in long.json()["error"]
    huge = someone.post(f"/talks/{talk['id']}/turns", {"prompt": "x" * 10_000_000})
    assert huge.status_code == 413
    assert "10.0 MB" in huge.json()["error"]
    page = someone.client.post("/sign-in", content=b"x" * 10_000_000, headers=HTML)
    assert page.status_code == 413
    assert "<h1>That is too long</h1>" in page.text

    def unannounced() -> object:
        yield from [b"x" * 100_000] * 5

    cut = someone.client.post(
        f"/talks/{talk['id']}/turns", content=unannounced(),
        headers={"x-csrf-token": someone.csrf, "content-type": "application/json"},
    )  # fmt: skip
    assert cut.status_code == 413
    assert someone.post(f"/talks/{talk['id']}/turns", {"prompt": "  \n"}).status_code == 400
    assert someone.ask(talk)[-1]["votable"]  # and the battle goes on


def test_scripts_are_shown_and_never_run(arena: Make) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)> [x](javascript:alert(3)) ![p](https://evil.example/p.png)"
    site = arena(Writer("oak-1b", attack), Writer("elm-2b", attack))
    someone = site.visitor().sign_up("<b>Ada</b>")
    talk = someone.open(mode="side_by_side", models=["oak-1b", "elm-2b"], system=attack)
    html = [event["html"] for event in someone.ask(talk, attack) if "html" in event]
    for part in html:
        assert "<script" not in part
        assert "<img" not in part
        assert 'href="javascript' not in part
        assert "&lt;script&gt;" in part
    assert "<b>Ada" not in someone.get("/").text
    assert "&lt;b&gt;Ada" in someone.get("/").text
    shown = site.visitor().get(f"/join/{'%3Cscript%3E'}").text
    assert "<script>" not in shown
    assert someone.get("/").headers["content-security-policy"] == POLICY


def test_what_makes_no_sense(site: Arena) -> None:
    someone = site.visitor()
    for body in (
        {"mode": "chat"},
        {"mode": "chat", "models": ["nobody"]},
        {"mode": "side_by_side", "models": ["oak-1b", "oak-1b"]},
        {"mode": "battle", "models": ["oak-1b", "elm-2b"]},
        {"mode": "battle", "seed": 1},
        {"mode": "duel"},
        {"mode": "chat", "models": ["oak-1b"], "temperature": 7},
        {"mode": "chat", "models": ["oak-1b"], "max_tokens": 10**9},
        ["mode"],
    ):
        refused = someone.post("/talks", body)
        assert refused.status_code == 400, body
        assert refused.json()["error"].endswith("."), body
    missing = someone.get("/nowhere")
    assert missing.status_code == 404
    assert "<h1>There is nothing here</h1>" in missing.text
    assert someone.client.get("/nowhere").json()["error"].endswith(".")
    assert someone.client.put("/talks", headers={"x-csrf-token": someone.csrf}).status_code == 405
    assert someone.get("/steward/log?before=x").status_code in (400, 401)


def test_addresses_with_numbers_that_no_database_takes(site: Arena) -> None:
    steward = site.steward()
    for number in ("-1", str(2**63), "9" * 40, "x"):
        for address in (f"/votes?before={number}", f"/steward/log?before={number}"):
            assert steward.get(address).status_code in (200, 400), address


def test_a_locked_database_refuses_the_vote_and_the_vote_can_be_cast_again(site: Arena) -> None:
    someone = site.visitor()
    talk = someone.open()
    someone.ask(talk)
    lock = sqlite3.connect(site.file)
    lock.execute("BEGIN IMMEDIATE")
    refused = someone.vote(talk)
    assert refused.status_code == 503
    assert "vote again in a moment" in refused.json()["error"]
    lock.rollback()
    lock.close()
    assert someone.vote(talk).status_code == 200
    assert len(site.votes()) == 1


def test_after_a_restart_open_battles_are_over(arena: Make) -> None:
    before = arena()
    someone = before.visitor()
    talk = someone.open()
    someone.ask(talk)
    after = arena().visitor()
    after.client.cookies.update(someone.client.cookies)
    refused = after.vote(talk)
    assert refused.status_code == 404
    assert "restart" in refused.json()["error"]
    assert after.open()["names"] == ["Model A", "Model B"]  # the session goes on


def test_the_api_is_there_and_shows_no_counters_of_battles(site: Arena) -> None:
    someone = site.visitor()
    talk = someone.open()
    someone.ask(talk)
    client = someone.client
    assert {model["id"] for model in client.get("/v1/models", headers={"host": "127.0.0.1"}).json()["data"]} == {
        "oak-1b", "elm-2b",
    }  # fmt: skip
    asked = {"model": "oak-1b", "messages": [{"role": "user", "content": "Hi"}]}
    answer = client.post("/v1/chat/completions", json=asked, headers={"host": "127.0.0.1"}).json()
    assert answer["choices"][0]["message"]["content"] == "The **sky** is blue."
    assert client.get("/metrics").status_code == 404
    assert client.get("/v1/metrics").status_code == 404


def test_too_often_is_told_when_to_come_again(site: Arena) -> None:
    from fairground.web.rates import Rates

    object.__setattr__(site.site, "rates", Rates())
    someone = site.visitor()
    answers = [someone.fill("/sign-in", name="ada", password="not the right one") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert "try again in" in answers[-1].text
