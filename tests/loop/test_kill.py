"""Processes that vote are killed: what they acknowledged counts, nothing counts twice, and all can be recomputed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
from voting_process import THREADS

from fairground.arena.ratings import rate
from fairground.governance.chain import first_break
from fairground.loop.audit import audit
from fairground.loop.ledger import Ledger
from fairground.store import Database, open_database
from fairground.types import Battle

VOTES = 1_000  # that a process is about to cast when it is killed
LEADERBOARD = """
import json, sys
from dataclasses import asdict
from fairground.arena.ratings import rate
from fairground.loop.ledger import Ledger
from fairground.store import open_database
from fairground.types import Battle
with open_database(sys.argv[1]) as database:
    votes = [entry.body for entry in Ledger(database).entries() if entry.kind == "vote"]
battles = [Battle(vote["model_a"], vote["model_b"], vote["winner"], vote["voter"]) for vote in votes]
sys.stdout.write(json.dumps([asdict(row) for row in rate(battles)]))
"""


@dataclass
class Told:
    """What all processes told, as far as it was heard."""

    opened: dict[str, list[str]] = field(default_factory=dict)  # token, session, winner, models, by battle
    counted: dict[str, tuple[int, str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def hear(self, line: str) -> None:
        kind, battle, *words = line.split()
        if kind == "open":
            self.opened[battle] = words
        elif kind == "counted":
            assert battle not in self.counted, "acknowledged twice"
            self.counted[battle] = int(words[0]), words[1]
        else:
            assert words == ["409"]
            self.refused.add(battle)

    def left_open(self) -> dict[str, list[str]]:
        return {b: words for b, words in self.opened.items() if b not in self.counted and b not in self.refused}


def vote(url: str, seed: int, told: Told, *, kill_after: int | None) -> None:
    """A process votes, on what others left first; after so many of its acknowledgements it is killed."""
    command = [sys.executable, str(Path(__file__).with_name("voting_process.py")), url, str(seed), str(VOTES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(f"{b} {' '.join(words[:3])}\n" for b, words in told.left_open().items()))
        process.stdin.close()
        acknowledged = 0
        for line in process.stdout:
            told.hear(line)
            acknowledged += line.startswith("counted")
            if acknowledged == kill_after:
                process.kill()  # SIGKILL; what it still told before it died is heard too
                kill_after = None
        assert process.wait(60) in (0, -9)


def logged_votes(database: Database) -> dict[str, dict[str, str]]:
    votes = [dict(entry.body) for entry in Ledger(database).entries() if entry.kind == "vote"]
    by_battle = {body["battle"]: body for body in votes}
    assert len(by_battle) == len(votes), "counted twice"
    return by_battle


def leaderboard(url: str, hash_seed: str) -> bytes:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", LEADERBOARD, url], check=True, capture_output=True, env=environment
    ).stdout


@pytest.mark.verify
@pytest.mark.parametrize(("url", "kills"), [("sqlite", 50), ("postgresql", 8)], indirect=["url"])
def test_no_acknowledged_vote_is_lost_and_none_counts_twice(url: str, kills: int) -> None:
    chance, told = random.Random(kills), Told()
    with open_database(url) as database:
        Ledger(database).set_setting("guest_votes_per_day", 1_000_000, "tests")
        Ledger(database).set_setting("battles_per_day", 1_000_000, "tests")
        in_flight: set[str] = set()  # in the log, though the process died before it told
        for kill in range(kills):
            retried = set(told.left_open())
            vote(url, kill, told, kill_after=chance.randrange(1, 200))
            found = audit(database, dict(told.counted.values()))  # each acknowledged one is in the log, hash and all
            assert found.broken is None, found.broken
            logged = logged_votes(database)
            assert set(told.counted) <= set(logged) <= set(told.opened)
            # What was told of a vote on its way to a process that died is true: a vote tried again is refused if and
            # only if the first try is in the log.
            assert told.refused <= set(logged)
            assert {battle for battle in retried if battle in told.counted}.isdisjoint(told.refused)
            in_flight |= set(told.left_open()) & set(logged)
            assert len(told.left_open()) <= 2 * THREADS
        vote(url, kills, told, kill_after=None)
        assert told.left_open() == {}
        logged = logged_votes(database)
        assert told.counted.keys() | told.refused == set(told.opened) == set(logged)
        assert len(told.counted) > VOTES
        assert in_flight == told.refused
        for battle, body in logged.items():
            _, _, winner, a, b = told.opened[battle]
            assert (body["winner"], body["model_a"], body["model_b"]) == (winner, a, b)
        assert first_break(Ledger(database).entries()) is None
    # The same to the byte in processes whose sets and dicts are ordered otherwise, and from what the test itself heard.
    heard = [Battle(a, b, winner, logged[battle]["voter"]) for battle, (_, _, winner, a, b) in told.opened.items()]
    random.Random(0).shuffle(heard)
    expected = json.dumps([asdict(row) for row in rate(heard)]).encode()
    assert leaderboard(url, "1") == leaderboard(url, "2") == expected
