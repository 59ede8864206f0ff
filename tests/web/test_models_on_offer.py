"""Models that are opened in the background, and how pairs of them are drawn."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fake_models import Writer, offers
from visitors import Arena

from fairground.errors import ArenaRefusal, UnknownModel
from fairground.loop.ledger import Ledger
from fairground.store.database import open_database
from fairground.types import Generator
from fairground.web.app import create_site
from fairground.web.draw import Draw, Known
from fairground.web.models import REST, Models, Offer, announce


def test_the_site_is_there_while_its_models_warm_up(tmp_path: Path) -> None:
    may_open = threading.Event()

    def slowly() -> Generator:
        may_open.wait(10)
        return Writer("elm-2b")

    def never() -> Generator:
        raise UnknownModel("fir-3b is not here; run 'fairground pull fir-3b'.")

    with open_database(f"sqlite:///{tmp_path / 'fairground.db'}") as database:
        ledger = Ledger(database)
        offered = [*offers(Writer("oak-1b")), Offer("fir-3b", never), Offer("elm-2b", slowly)]
        models = Models(offered, lambda offer, info: announce(ledger, offer, info))
        site = Arena(create_site(ledger, models, hosts=("testserver",)), {}, tmp_path)
        opening = models.start()
        someone = site.visitor()
        assert "Warming up" in someone.get("/").text
        assert someone.post("/talks", {"mode": "battle"}).status_code == 503
        may_open.set()
        opening.join(timeout=10)
        assert "Ask both models anything" in someone.get("/").text
        assert someone.get("/warming").json() == {"ready": 2, "warming": False}
        assert models.status("fir-3b").why.startswith("fir-3b is not here")
        assert {model.name for model in ledger.models()} == {"oak-1b", "elm-2b"}
        facts = ledger.models()[0].facts
        assert (facts["organisation"], facts["licence"], facts["parameters"]) == (None, "Apache-2.0", 1_500_000_000)
        models.close()
        assert models.ready() == []


def test_what_a_steward_said_of_a_model_outlives_a_restart(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path / 'fairground.db'}") as database:
        ledger = Ledger(database)
        (offer,) = offers(writer := Writer("oak-1b"))
        announce(ledger, offer, writer.info)
        ledger.offer_model("oak-1b", {"licence": "MIT"}, "steward", offered=False)
        announce(ledger, offer, writer.info)
        (model,) = ledger.models()
        assert (model.offered, model.facts["licence"]) == (False, "MIT")
        entries = ledger.head().number
        announce(ledger, offer, writer.info)  # and nothing new is nothing in the log
        assert ledger.head().number == entries


def test_a_model_that_failed_rests_for_a_minute() -> None:
    now = [0.0]
    models = Models(offers(Writer("oak-1b"), Writer("elm-2b")), clock=lambda: now[0])
    models.start().join()
    models.failed("oak-1b")
    assert models.drawable() == ["elm-2b"]
    now[0] = REST
    assert models.drawable() == ["oak-1b", "elm-2b"]


def test_pairs_are_drawn_as_published_among_those_that_can_answer() -> None:
    counts = np.array([[0, 80, 5], [80, 0, 5], [5, 5, 0]])
    known = Known(("a", "b", "c"), np.zeros(3), np.full(3, np.nan), counts, 1)
    # A design of its own for every draw, so that they are alike: by itself it follows what was opened.
    drawn = [Draw(lambda: known, np.random.default_rng(seed)).pair(["a", "b", "c", "d"], 0.2) for seed in range(2000)]
    met = Counter(frozenset(one.models) for one in drawn)
    share = {frozenset(one.models): one.probability for one in drawn}
    assert len(share) == 6
    assert sum(share.values()) == pytest.approx(1)
    for pair, probability in share.items():
        assert met[pair] / 2000 == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 2000) ** 0.5)
    assert share[frozenset("ab")] < share[frozenset("cd")]  # where little is known, a vote says more
    left = sum(one.models == tuple(sorted(one.models)) for one in drawn)
    assert left / 2000 == pytest.approx(0.5, abs=0.05)  # neither side is anybody's
    only = {frozenset(Draw(lambda: known).pair(["b", "c"], 0.2).models) for _ in range(20)}
    assert only == {frozenset("bc")}
    with pytest.raises(ArenaRefusal, match="needs two models"):
        Draw(lambda: known).pair(["a"], 0.2)


def test_battles_that_are_open_count_for_the_next_draw() -> None:
    nothing = Known((), np.zeros(0), np.zeros(0), np.zeros((0, 0), dtype=np.int64), -1)
    draw = Draw(lambda: nothing, np.random.default_rng(0))
    names = [f"m{number}" for number in range(8)]
    first = draw.pair(names, 0.0)
    again = [Draw(lambda: nothing, np.random.default_rng(seed)).pair(names, 0.0) for seed in range(1)]
    assert again[0].probability == pytest.approx(1 / 28)
    after = [draw.pair(names, 0.0) for _ in range(3)]
    assert any(one.probability != pytest.approx(1 / 28) for one in after), first
