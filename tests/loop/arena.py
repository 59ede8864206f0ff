"""An arena for tests: a database with people in it, a clock that is set by hand, and battles voted on in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from argon2 import PasswordHasher

from fairground.loop.conversations import Conversations
from fairground.loop.ledger import Ledger, OpenBattle, Receipt
from fairground.loop.people import People, Session
from fairground.store import Database, open_database

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
BEGINNING = 1_800_000_000.0  # seconds since the epoch


@dataclass
class Clock:
    now: float = BEGINNING

    def __call__(self) -> float:
        return self.now


@dataclass
class Arena:
    database: Database
    ledger: Ledger
    people: People
    conversations: Conversations
    clock: Clock = field(default_factory=Clock)

    def guest(self) -> Session:
        return self.people.guest().session

    def open(self, session: Session, a: str = "ada", b: str | None = "bob", **how: Any) -> OpenBattle:
        return self.ledger.open_battle(session.person.id, a, b, session=session.id, **how)

    def vote(self, session: Session, winner: str = "model_a", a: str = "ada", b: str = "bob", **said: Any) -> Receipt:
        battle = self.open(session, a, b)
        return self.ledger.vote(battle.id, battle.token, session.id, winner, **said)


@contextmanager
def opened(url: str, redact: Callable[[str], str] | None = None, patience: float = 5.0) -> Iterator[Arena]:
    clock = Clock()
    with open_database(url) as database:
        ledger = Ledger(database, clock=clock, redact=redact, patience=patience)
        yield Arena(database, ledger, People(ledger, hasher=QUICK), Conversations(ledger), clock)
