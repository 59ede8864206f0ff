"""Standings: the same bytes from the same log, whatever was asked before, and numbers that a plain count gives too."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.arena.ratings import rate
from fairground.governance.chain import Entry
from fairground.loop.live import LiveStandings
from fairground.loop.measured import newest_measures
from fairground.loop.standings import PRELIMINARY, PROMPT_CAP, Standings, View, canonical_bytes
from fairground.types import Battle, Winner

WINNERS: tuple[Winner, ...] = ("model_a", "model_b", "tie", "both_bad")


def vote(dice: random.Random, number: int, models: int = 6, **fixed: Any) -> Entry:
    """A vote as the ledger logs it."""
    a, b = dice.sample(range(models), 2)
    style = [round(dice.uniform(-0.9, 0.9), 6) for _ in range(4)]
    chance = 1 / (1 + 2.718281828 ** (0.5 * (a - b) - 1.5 * style[0]))
    winner = "both_bad" if dice.random() < 0.1 else "tie" if dice.random() < 0.1 else None
    body = {
        "battle": f"{number:016x}", "model_a": f"m{a}", "model_b": f"m{b}",
        "winner": winner or ("model_a" if dice.random() < chance else "model_b"),
        "voter": f"v{dice.randrange(40)}", "mode": dice.choice(("battle", "battle", "side_by_side")),
        "probability": 0.1, "by": dice.choice(("uniform", "information")), "style": style,
        "tags": dice.sample(["code", "maths", "short", "regenerated"], 2), "language": dice.choice(("en", "de", None)),
        "prompt": f"{dice.getrandbits(64):016x}", "turns": 1, "reasons": [],
        "times": {side: {"first": 0.1, "whole": round(dice.uniform(1, 3), 3)} for side in "ab"}, "tokens": {},
    }  # fmt: skip
    return Entry(number, number, "vote", body | fixed, "", f"{number:064x}")


def other(number: int, kind: str, **body: Any) -> Entry:
    return Entry(number, number, kind, body, "", f"{number:064x}")


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    dice = random.Random(5)
    return [vote(dice, i) for i in range(3000)]


def views() -> Iterator[View]:
    yield View()
    yield View(style=True)
    yield View("side_by_side")
    yield View(category="code")
    yield View(category="maths", language="de", style=True)


def test_counts_are_those_of_a_plain_count(entries: list[Entry]) -> None:
    board = Standings(entries).leaderboard(View(category="code", language="en"))
    bodies = [e.body for e in entries if e.body["mode"] == "battle" and "code" in e.body["tags"]]
    bodies = [body for body in bodies if body["language"] == "en"]
    assert board["votes"] == len(bodies)
    assert board["voters"] == len({body["voter"] for body in bodies})
    assert board["outcomes"] == dict(Counter(body["winner"] for body in bodies))
    assert board["drawn_by"] == dict(sorted(Counter(body["by"] for body in bodies).items()))
    names = [row["model"] for row in board["models"]]
    points = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "both_bad": 0.5}
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            met = [body for body in bodies if {body["model_a"], body["model_b"]} == {a, b} and a != b]
            took = [points[m["winner"]] if m["model_a"] == a else 1 - points[m["winner"]] for m in met]
            assert board["pairs"]["battles"][i][j] == len(met)
            assert board["pairs"]["points"][i][j] == sum(took)
    for row in board["models"]:
        own = [
            body["times"][side]["whole"] for body in bodies for side in "ab" if body[f"model_{side}"] == row["model"]
        ]
        assert row["seconds"] == pytest.approx(median(own), abs=2e-3)
        assert row["votes"] == len(own)
        assert row["preliminary"] == (len(own) < PRELIMINARY)
    assert np.mean([row["average_win_rate"] for row in board["models"]]) == pytest.approx(0.5, abs=1e-4)


def test_ratings_are_those_of_the_same_battles(entries: list[Entry]) -> None:
    """Without both-bad votes, which battles from a list take as ties by default."""
    kept = [e for e in entries if e.body["winner"] != "both_bad"]
    kept = [Entry(i, i, "vote", e.body, "", e.hash) for i, e in enumerate(kept)]
    board = Standings(kept).leaderboard()
    bodies = [e.body for e in kept if e.body["mode"] == "battle"]
    rows = rate([Battle(b["model_a"], b["model_b"], b["winner"], b["voter"]) for b in bodies])
    for found, right in zip(board["models"], rows, strict=True):
        assert found["model"] == right.model
        assert [found[name] for name in ("rating", "low", "high")] == pytest.approx(
            [right.rating, right.low, right.high], abs=6e-4
        )
        assert (found["rank_low"], found["rank_high"]) == (right.rank_low, right.rank_high)
    assert board["outside"] is None


def test_style_control_finds_what_length_is_worth_and_both_bad_sets_a_bar(entries: list[Entry]) -> None:
    board = Standings(entries).leaderboard(View(style=True))
    length, *others = board["style"]
    assert length["style"] == "length"
    # 1.5 logits a unit were put in, in votes of which a fifth are no wins.
    worth = 1.5 * length["unit"] * 400 / np.log(10)
    assert 0.6 * worth < length["points"] < 1.1 * worth
    assert length["low"] > 0
    assert all(abs(effect["points"]) < length["points"] / 4 for effect in others)
    assert board["outside"]["model"].startswith("neither")
    assert not any(row["model"].startswith("neither") for row in board["models"])


@cache
def asked_once() -> tuple[list[Entry], dict[View, bytes]]:
    dice = random.Random(9)
    log = [vote(dice, i) for i in range(120)]
    once = Standings(log)
    return log, {view: once.to_json(view) for view in views()}


@settings(max_examples=2, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_same_log_gives_the_same_bytes_whatever_was_asked_before(dice: random.Random) -> None:
    log, right = asked_once()
    again = Standings()
    for entry in log:
        again.add(entry)
        if dice.random() < 0.03:
            again.to_json(dice.choice(list(right)))
            again.personal(f"v{dice.randrange(40)}")
    asked = list(right)
    dice.shuffle(asked)
    assert {view: again.snapshot().to_json(view) for view in asked} == right


def test_a_snapshot_stays_as_it_was_while_votes_come(entries: list[Entry]) -> None:
    standings = Standings(entries[:1023])  # columns grow at 1,024
    taken = standings.snapshot()
    before = taken.to_json()
    for entry in entries[1023:1300]:
        standings.add(entry)
    standings.add(other(1300, "quarantine", voter="v3", why="likelihood", by="tests"))
    assert taken.to_json() == before
    assert standings.to_json() != before


def test_voters_in_quarantine_do_not_count_until_they_are_released(entries: list[Entry]) -> None:
    with_all = Standings(entries[:2000])
    standings = Standings(entries[:2000])
    standings.add(other(2000, "quarantine", voter="v7", why="excess_wins", by="tests"))
    without = [e for e in entries[:2000] if e.body["voter"] != "v7"]
    reference = Standings(Entry(i, i, "vote", e.body, "", "") for i, e in enumerate(without)).leaderboard()
    board = standings.leaderboard()
    assert board["models"] == reference["models"]
    assert board["pairs"] == reference["pairs"]
    assert board["quarantined_votes"] == sum(
        e.body["voter"] == "v7" and e.body["mode"] == "battle" for e in entries[:2000]
    )
    standings.add(other(2001, "release", voter="v7", by="a steward"))
    assert standings.leaderboard()["models"] == with_all.leaderboard()["models"]


def test_models_that_never_met_the_others_are_named_and_not_ranked(entries: list[Entry]) -> None:
    dice = random.Random(3)
    log = [*entries[:300], vote(dice, 300, model_a="hermit", model_b="recluse", mode="battle")]
    board = Standings(log).leaderboard()
    assert board["apart"] == ["hermit", "recluse"]
    assert {row["model"] for row in board["models"]} == {f"m{i}" for i in range(6)}


def test_no_votes_make_an_empty_leaderboard() -> None:
    board = Standings(
        [other(0, "genesis", format=1), other(1, "model", model="m", facts={"licence": "MIT"})]
    ).leaderboard()
    assert (board["models"], board["votes"], board["outside"]) == ([], 0, None)
    assert json.loads(canonical_bytes(board)) == board


def test_style_is_not_controlled_for_where_too_few_votes_tell_what_it_is_worth() -> None:
    dice = random.Random(1)
    log = [vote(dice, i, mode="battle", model_a="a", model_b="b", style=[0.0] * 4) for i in range(3)]
    board = Standings(log).leaderboard(View(style=True))
    assert board["models"] == []
    assert "from 100 votes on; there are 3" in board["unrated"]
    assert Standings(log).leaderboard()["unrated"] is None


def test_a_missing_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="does not follow"):
        Standings([other(0, "genesis"), other(2, "genesis")])


def test_one_prompt_asked_very_often_counts_so_often_at_most() -> None:
    dice = random.Random(1)
    log = [vote(dice, i, prompt="ab" * 8, mode="battle", winner="model_a") for i in range(2 * PROMPT_CAP)]
    board = Standings(log).leaderboard()
    assert board["votes"] == 2 * PROMPT_CAP
    assert sum(row["votes"] for row in board["models"]) == 2 * PROMPT_CAP  # each of PROMPT_CAP battles has two models


def test_a_personal_leaderboard_is_finite_after_one_vote_and_apart_where_nothing_joins() -> None:
    dice = random.Random(1)
    me: dict[str, Any] = {"voter": "me", "mode": "battle", "winner": "model_a"}
    standings = Standings([vote(dice, 0, **me, model_a="a", model_b="b"), vote(dice, 1, voter="you")])
    personal = standings.personal("me")
    (group,) = personal["groups"]
    assert [row["model"] for row in group["models"]] == ["a", "b"]
    first, second = group["models"]
    assert all(np.isfinite([row["low"], row["rating"], row["high"]]).all() for row in group["models"])
    assert first["rank_low"] == second["rank_low"] == 1  # one vote makes nothing sure
    assert first["low"] < second["rating"] < first["rating"]
    standings.add(vote(dice, 2, **me, model_a="c", model_b="d"))
    assert [group["votes"] for group in standings.personal("me")["groups"]] == [1, 1]
    assert standings.personal("nobody") == {"votes": 0, "groups": []}


def test_what_the_log_knows_of_a_model_stands_beside_it() -> None:
    dice = random.Random(1)
    facts = {"organisation": "Oak & Co", "licence": "MIT", "parameters": 7}
    log = [other(0, "model", model="m0", facts=facts, offered=True), *(vote(dice, i) for i in range(1, 60))]
    log.append(other(60, "model", model="m0", facts=facts, offered=False))
    row = next(row for row in Standings(log).leaderboard()["models"] if row["model"] == "m0")
    assert {name: row[name] for name in facts} == facts
    assert row["offered"] is False


def test_live_boards_follow_the_log_and_what_is_beside_it(entries: list[Entry]) -> None:
    log = list(entries[:200])
    beside = [1]
    live = LiveStandings(
        lambda after: iter(log[after + 1 :]), lambda data: (data["votes"], beside[0]), lambda: beside[0]
    )
    first = live.board()
    assert (first.number, first.json) == (199, Standings(log).to_json())
    log.extend(entries[200:260])
    view = View(category="code")
    assert live.board(view).json == Standings(log).to_json(view)
    live.start()
    live.board()
    log.extend(entries[260:300])
    live.wake()
    for _ in range(400):
        if live.board().number == live.board(view).number == 299:
            break
        live._stop.wait(0.02)
    assert live.board().json == Standings(log).to_json()
    assert live.board(view).json == Standings(log).to_json(view)
    live.stop()


def test_the_online_rating_moves_at_once_and_stays_near_the_full_fit(entries: list[Entry]) -> None:
    log = list(entries[:2000])
    live = LiveStandings(lambda after: iter(log[after + 1 :]), lambda data: None)
    live.board()
    before = live.online()
    log.extend(entries[2000:2200])
    live.follow()
    after = live.online()
    right = {row["model"]: row["rating"] for row in Standings(log).leaderboard()["models"]}
    assert max(abs(after[name] - right[name]) for name in right) < 2
    assert max(abs(before[name] - right[name]) for name in right) > 4
    dice = random.Random(1)
    log.append(vote(dice, 2200, model_a="newcomer", model_b="m0", mode="battle", winner="model_a"))
    live.follow()
    assert live.online()["newcomer"] > live.online()["m0"]
    live.board()
    assert set(live.online()) == {*right, "newcomer"}


def test_of_each_model_the_newest_number_counts() -> None:
    def run(**metrics: Any) -> dict[str, Any]:
        return {"models": [{"model": "m", "metrics": metrics}]}

    found = newest_measures(
        [
            ("new", 2.0, run(accuracy={"value": 0.5, "low": 0.4, "high": 0.6}, energy_j_per_1k_tokens={"value": None})),
            ("old", 1.0, run(accuracy={"value": 0.1}, energy_j_per_1k_tokens={"value": 30.0, "estimate": True})),
        ]
    )["m"]
    assert (found["accuracy"].value, found["accuracy"].low, found["accuracy"].run) == (0.5, 0.4, "new")
    assert (found["energy_j_per_1k_tokens"].value, found["energy_j_per_1k_tokens"].estimate) == (30.0, True)
    assert "coherence" not in found
