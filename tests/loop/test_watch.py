"""Voters who vote for one model whatever it answers are found in a running arena, and honest ones are left alone."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairground.loop.ledger import Ledger
from fairground.loop.people import People
from fairground.loop.standings import Standings
from fairground.loop.watch import Watch
from fairground.store.database import open_database

STRENGTH = {"a": 1.0, "b": 0.4, "c": 0.0, "d": -0.4, "e": -1.0}


class Place:
    """An arena, its standings, and voters by what they favour."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.people, self.dice = ledger, People(ledger), random.Random(1)
        self.standings = Standings()
        self.watch = Watch(ledger, self.standings)

    def votes(self, count: int, favours: str | None = None) -> str:
        """Casts a new voter's votes; gives their pseudonym."""
        session = self.people.guest().session
        for _ in range(count):
            a, b = self.dice.sample(sorted(STRENGTH), 2)
            lead = STRENGTH[a] - STRENGTH[b]
            winner = "model_a" if self.dice.random() < 1 / (1 + math.exp(-lead)) else "model_b"
            if favours in (a, b):
                winner = "model_a" if a == favours else "model_b"
            battle = self.ledger.open_battle(session.person.id, a, b, session=session.id)
            self.ledger.vote(battle.id, battle.token, session.id, winner)
        return session.person.pseudonym

    def look(self) -> set[str]:
        for entry in self.ledger.entries(after=self.standings.number):
            self.standings.add(entry)
        return set(self.watch.look())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with open_database(f"sqlite:///{tmp_path / 'fairground.db'}") as database:
        ledger = Ledger(database)
        for name, value in (("guest_votes_per_day", 1000), ("battles_per_day", 1000)):
            ledger.set_setting(name, value, "test")
        yield Place(ledger)


def test_who_favours_a_model_is_found_and_honest_voters_are_not(place: Place) -> None:
    honest = {place.votes(25) for _ in range(8)}
    assert place.look() == set()
    attacker = place.votes(50, favours="e")
    assert place.look() == {attacker}
    assert not honest & set(place.ledger.quarantined())
    entry = place.ledger.quarantined()[attacker]
    assert entry.body["by"] == "tests"
    verdict = place.watch.verdict(attacker)
    assert verdict is not None
    assert verdict.suspect
    assert "'e'" in verdict.said
    # A steward's word stands: the same votes raise no alarm again.
    place.ledger.release(attacker, "steward")
    assert place.look() == set()
    assert not place.ledger.quarantined()


def test_the_first_voter_of_an_arena_is_compared_with_nobody(place: Place) -> None:
    alone = place.votes(40, favours="a")
    assert place.look() == set()
    assert place.watch.verdict(alone) is None
    place.votes(6)
    assert alone not in place.look()  # few others know little, so they accuse nobody
