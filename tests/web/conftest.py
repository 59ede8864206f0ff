"""A site over fast models that are no models, with a database of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fake_models import Writer, offers
from visitors import Arena

from fairground.loop.ledger import Ledger
from fairground.loop.people import People
from fairground.store.database import open_database
from fairground.web.app import create_site
from fairground.web.models import Models, announce
from fairground.web.rates import Rates

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Callable[..., Arena]]:
    """Makes sites: `arena(Writer("quick"), Writer("slow", pause=0.1))`; each has the same database.

    `public`: as where other machines reach it."""
    opened = []

    def make(*writers: Writer, public: bool = False) -> Arena:
        writers = writers or (Writer("oak-1b"), Writer("elm-2b"))
        within = open_database(f"sqlite:///{tmp_path / 'fairground.db'}")
        database = within.__enter__()
        opened.append(within)
        ledger = Ledger(
            database, patience=0.2, redact=lambda text: text.replace("secret@example.org", "<EMAIL>"), public=public
        )
        models = Models(offers(*writers), partial(announce, ledger))
        models.start().join()
        people = People(ledger, hasher=QUICK)
        app = create_site(ledger, models, people=people, rates=Rates(1000), hosts=("testserver", "127.0.0.1"))
        return Arena(app, {writer.info.name: writer for writer in writers}, tmp_path / "fairground.db")

    yield make
    for within in opened:
        within.__exit__(None, None, None)
