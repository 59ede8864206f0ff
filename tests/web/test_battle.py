"""A battle, from the prompt to the entry in the log; and that nobody learns too early who answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_models import Writer
from visitors import Arena, Visitor, events

Make = Callable[..., Arena]


def test_a_vote_is_counted_and_only_then_are_the_models_named(arena: Make) -> None:
    site = arena(Writer("oak-1b", "A longer answer with **bold** words."), Writer("elm-2b", "Short."))
    someone = site.visitor()
    someone.get("/")
    talk = someone.open()
    told = someone.ask(talk)
    someone.get("/")
    someone.get(f"/talks/{talk['id']}/export.md"), someone.get(f"/talks/{talk['id']}/export.json")
    someone.get("/settings/my-data.json")
    someone.get("/votes")
    someone.post(f"/talks/{talk['id']}/share")
    for hidden in ("oak", "elm", "Forest", "Tree"):  # name, maker, family
        assert not [said for said in someone.said if hidden in said], hidden
    answers = {event["text"] for event in told if "html" in event}
    assert answers == {"A longer answer with **bold** words.", "Short."}
    assert told[-1]["votable"]

    answer = someone.vote(talk, "model_b", reasons=["clearer"], comment="because").json()
    assert sorted(answer["models"]) == ["elm-2b", "oak-1b"]
    assert "1.5 billion parameters" in answer["html"]
    assert "Apache-2.0" in answer["html"]
    (vote,) = site.votes()
    assert [vote["model_a"], vote["model_b"]] == answer["models"]
    assert vote["winner"] == "model_b"
    assert vote["reasons"] == ["clearer"]
    assert vote["mode"] == "battle"
    assert vote["tokens"] == {"a": 6, "b": 1} if answer["models"][0] == "oak-1b" else {"a": 1, "b": 6}
    assert vote["probability"] == 1.0  # of two models there is one pair
    assert abs(vote["style"][3]) == 0.5  # (1 - 0) / (1 + 0 + 1) bold passages
    assert "because" not in str(list(site.site.ledger.entries()))


def test_both_models_write_at_the_same_time(arena: Make) -> None:
    gate = threading.Semaphore(0)
    site = arena(Writer("oak-1b", "a a", gate=gate), Writer("elm-2b", "b b", gate=gate))
    someone = site.visitor()
    talk = someone.open()
    threading.Timer(0.05, lambda: gate.release(4)).start()
    told = someone.ask(talk)
    assert {event["side"] for event in told if "piece" in event} == {0, 1}
    assert all(len(writer.seen) == 1 for writer in site.writers.values())


def test_each_model_sees_its_own_answers_of_the_turns_before(arena: Make) -> None:
    site = arena(Writer("oak-1b", "Blue."), Writer("elm-2b", "Red."))
    someone = site.visitor()
    talk = someone.open()
    someone.ask(talk, "What colour is the sky?")
    someone.ask(talk, "Are you sure?")
    for writer, said in zip(site.writers.values(), ("Blue.", "Red."), strict=True):
        prompt = writer.seen[1].prompt
        assert [(message.role, message.content) for message in prompt] == [
            ("user", "What colour is the sky?"), ("assistant", said), ("user", "Are you sure?"),
        ]  # fmt: skip
    assert someone.vote(talk, "tie").status_code == 200
    assert site.votes()[0]["turns"] == 2
    assert "multi-turn" in site.votes()[0]["tags"]


def test_regenerating_drops_the_answers_and_says_so_in_the_log(arena: Make) -> None:
    site = arena()
    someone = site.visitor()
    talk = someone.open()
    someone.ask(talk)
    for _ in range(3):
        assert events(someone.post(f"/talks/{talk['id']}/regenerate"))[-1]["votable"]
    refused = someone.post(f"/talks/{talk['id']}/regenerate")
    assert refused.status_code == 409
    assert "3 new pairs" in refused.json()["error"]
    oak = site.writers["oak-1b"].seen
    assert len({request.sampling.seed for request in oak}) == 4
    assert len({request.prompt for request in oak}) == 1
    someone.vote(talk)
    assert site.votes()[0]["turns"] == 1
    assert "regenerated" in site.votes()[0]["tags"]


def test_an_engine_that_dies_sets_the_battle_aside_and_rests(arena: Make) -> None:
    site = arena(Writer("oak-1b", dies_after=2), Writer("elm-2b"), Writer("fir-3b"))
    someone = site.visitor()
    while True:
        talk = someone.open()
        told = someone.ask(talk)
        if "aside" in told[-1]:
            break
        assert "oak-1b" not in site.site.talks.of(talk["id"], _session(site, talk)).models
    assert "broke down" in told[-1]["aside"]
    assert "oak" not in str(told)
    refused = someone.vote(talk)
    assert refused.status_code == 409
    assert "broke down" in refused.json()["error"]
    assert not site.votes()
    assert [entry.body["why"] for entry in site.site.ledger.entries() if entry.kind == "set_aside"] == ["engine_died"]
    assert site.site.models.drawable() == ["elm-2b", "fir-3b"]


def test_a_conversation_that_is_too_long_for_a_model_names_it_not_and_stays_open(arena: Make) -> None:
    site = arena(Writer("oak-1b", longest=300), Writer("elm-2b"))
    someone = site.visitor()
    talk = someone.open()
    assert someone.ask(talk)[-1]["votable"]
    refused = someone.ask(talk, "x" * 1000)
    assert "cannot take a conversation this long" in refused[-1]["error"]
    assert "oak" not in str(refused)
    assert someone.vote(talk).status_code == 200
    assert site.votes()[0]["turns"] == 1
    chat = someone.open(mode="chat", models=["oak-1b"])
    assert someone.ask(chat, "x" * 1000)[-1]["error"].startswith("oak-1b sees 300")


def _session(site: Arena, talk: dict[str, Any]) -> str:
    return site.site.talks._talks[talk["id"]].session


@pytest.mark.parametrize("said", ["I am oak-1b, at your service.", "I was trained by OpenAI to help."])
def test_an_answer_that_reveals_its_maker_sets_the_battle_aside(arena: Make, said: str) -> None:
    site = arena(Writer("oak-1b", said), Writer("elm-2b"))
    someone = site.visitor()
    talk = someone.open()
    assert "not blind any more" in someone.ask(talk)[-1]["aside"]
    assert someone.vote(talk).status_code == 409
    assert someone.post(f"/talks/{talk['id']}/turns", {"prompt": "Go on"}).status_code == 409
    assert [entry.body["why"] for entry in site.site.ledger.entries() if entry.kind == "set_aside"] == ["revealed"]


def test_side_by_side_votes_are_kept_apart(arena: Make) -> None:
    site = arena()
    someone = site.visitor()
    talk = someone.open(mode="side_by_side", models=["elm-2b", "oak-1b"], system="Be brief.", temperature=0, seed=7)
    assert talk["names"] == ["elm-2b", "oak-1b"]
    told = someone.ask(talk)
    assert "tokens" in next(event["facts"] for event in told if "html" in event)
    assert someone.vote(talk, "both_bad").status_code == 200
    assert site.votes()[0]["mode"] == "side_by_side"
    assert site.votes()[0]["by"] == "choice"
    request = site.writers["elm-2b"].seen[0]
    assert (request.sampling.temperature, request.sampling.seed) == (0, 7)
    assert request.prompt[0].content == "Be brief."


def test_a_chat_is_stopped_and_exported(arena: Make) -> None:
    site = arena(Writer("oak-1b", "one two three", gate=threading.Semaphore(1)), Writer("elm-2b"))
    with site.serving() as address:
        someone, stopper = site.visitor(address), site.visitor(address)
        talk = someone.open(mode="chat", models=["oak-1b"])
        stopper.client.cookies.update(someone.client.cookies)
        threading.Timer(0.3, lambda: stopper.post(f"/talks/{talk['id']}/stop")).start()
        _stopped(someone, talk)


def _stopped(someone: Visitor, talk: dict[str, Any]) -> None:
    told = someone.ask(talk)
    assert told[-1]["said"] == "Stopped."
    assert not told[-1]["votable"]
    whole = next(event for event in told if "html" in event)
    assert whole["text"] == "one"
    assert "stopped" in whole["facts"]
    markdown = someone.get(f"/talks/{talk['id']}/export.md").text
    assert markdown.startswith("# Conversation with oak-1b")
    assert "## oak-1b\n\none" in markdown
    as_json = someone.get(f"/talks/{talk['id']}/export.json").json()
    assert as_json["turns"][0]["answers"][0]["finish"] == "cancelled"
    refused = someone.vote(talk)
    assert refused.status_code in (400, 409)


def test_a_conversation_is_shared_by_a_link_that_can_be_taken_back(arena: Make) -> None:
    site = arena(Writer("oak-1b", "See <script>alert(1)</script> **this**"), Writer("elm-2b"))
    someone, other = site.visitor(), site.visitor()
    talk = someone.open()
    someone.ask(talk, "<b>bold</b>?")
    assert someone.post(f"/talks/{talk['id']}/share").status_code == 409  # before the vote
    someone.vote(talk, "tie")
    html = someone.post(f"/talks/{talk['id']}/share").json()["html"]
    link = html.split("http://testserver")[1].split('"')[0]
    shown = other.get(link)
    assert shown.status_code == 200
    assert "Their verdict: a tie." in shown.text
    assert "<script>alert" not in shown.text
    assert "&lt;script&gt;" in shown.text
    assert "<strong>this</strong>" in shown.text
    assert "<b>bold" not in shown.text
    assert other.post(f"/talks/{talk['id']}/unshare").status_code in (401, 404)
    someone.post(f"/talks/{talk['id']}/unshare")
    assert other.get(link).status_code == 404
