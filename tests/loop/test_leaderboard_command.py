"""`fairground leaderboard`: the ratings of the log, as the site gives them."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from command import COMMAND

from fairground.loop.ledger import Ledger
from fairground.loop.people import People
from fairground.loop.standings import Standings, View
from fairground.store import open_database


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a database with 60 votes on three models."""
    url = f"sqlite:///{tmp_path_factory.mktemp('voted') / 'fairground.db'}"
    dice = random.Random(1)
    with open_database(url) as database:
        ledger = Ledger(database)
        sessions = [People(ledger).guest().session for _ in range(3)]
        for i in range(60):
            session = sessions[i % 3]
            a, b = dice.sample(("oak", "elm", "fir"), 2)
            battle = ledger.open_battle(session.person.id, a, b, session=session.id)
            winner = dice.choice(("model_a" if a < b else "model_b", "tie", "model_a"))
            tags = ["code"] if i % 2 else ["maths"]
            facts = {"tags": tags, "language": "en", "style": [dice.uniform(-1, 1) for _ in range(4)]}
            ledger.vote(battle.id, battle.token, session.id, winner, facts=facts)
    return url


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), "leaderboard", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_json_is_the_log_s_leaderboard_to_the_byte(voted: str) -> None:
    with open_database(voted) as database:
        standings = Standings(Ledger(database).entries())
    assert run("--json", "--database", voted).stdout.encode() == standings.to_json()
    found = run("--json", "--category", "code", "--language", "en", "--database", voted)
    assert found.stdout.encode() == standings.to_json(View(category="code", language="en"))


def test_the_table_says_what_it_is_of(voted: str) -> None:
    found = run("--category", "code", "--database", voted)
    assert found.returncode == 0, found.stderr
    assert "The arena: blind battles, code" in found.stdout
    assert "30 votes by 3 people" in found.stdout
    assert "Preliminary, with fewer than 300 votes: all of them." in found.stdout
    assert all(name in found.stdout for name in ("oak", "elm", "fir"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--category", "cooking"), "choose one of code"),
        (("--language", "xx"), "no language"),
        (("--style",), "from 100 votes on"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(voted: str, arguments: tuple[str, ...], said: str) -> None:
    found = run(*arguments, "--database", voted)
    assert found.returncode == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_without_a_database_it_says_what_makes_one(tmp_path: Path) -> None:
    found = run("--database", f"sqlite:///{tmp_path / 'none.db'}")
    assert found.returncode == 2
    assert "fairground up" in found.stderr
    assert not (tmp_path / "none.db").exists()
