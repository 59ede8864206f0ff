"""Simulated communities against sums done by hand; the tables' promises again, with fewer runs; the page as written."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fairground.arena.simulation import (
    POINTS,
    Attack,
    Community,
    adaptive_battles,
    climb,
    even_pairs,
    fit,
    outcomes,
    strengths,
)

PARTS = ["coverage", "clusters", "pairing", "replay", "honest", "caught", "attack_18", "attack_13", "attack_6"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def simulations() -> ModuleType:
    spec = importlib.util.spec_from_file_location("arena_simulations", ROOT / "benchmarks" / "arena_simulations.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_strengths() -> None:
    theta = strengths(20, 0.7)
    assert theta.mean() == pytest.approx(0)
    assert theta.std() == pytest.approx(0.7)
    assert (np.diff(theta) > 0).all()


def test_outcomes_have_the_stated_chances() -> None:
    rng = np.random.default_rng(0)
    n, lead, tie = 200_000, np.log(3), 0.4  # p = 3/4, so the weaker's quarter gives 0.1, and so does the stronger's
    votes = outcomes(np.full(n, lead), np.full(n, tie), np.full(n, 0.25), rng)
    np.testing.assert_allclose(np.bincount(votes) / n, [0.65, 0.15, 0.15, 0.05], atol=0.004)
    assert POINTS[votes].mean() == pytest.approx(0.75, abs=0.003)


def test_a_community_votes_as_it_says() -> None:
    rng = np.random.default_rng(1)
    community = Community(strengths(5, 1.0), taste=0.8, lean=0.6)
    n = 400_000
    first, second = even_pairs(5, n, rng)
    points = POINTS[community.votes(first, second, np.arange(n), rng)]
    taken, met = np.zeros((5, 5)), np.zeros((5, 5))
    np.add.at(taken, (first, second), points)
    np.add.at(met, (first, second), 1)
    sided = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose((taken / met.clip(1))[sided], community.expected_points()[sided], atol=0.012)
    ratings = fit(first, second, community.votes(first, second, np.arange(n), rng), np.arange(n), 5).theta
    np.testing.assert_allclose(ratings, community.ratings(), atol=0.015)
    assert np.abs(community.ratings()).max() < np.abs(community.theta).max()  # tastes blur the community's verdict


def test_climb_finds_the_vote_that_does_it() -> None:
    rng = np.random.default_rng(2)
    community = Community(strengths(8, 0.5))
    voter = np.repeat(np.arange(50), 40)
    first, second = even_pairs(8, len(voter), rng)
    crowd = first, second, community.votes(first, second, voter, rng)
    push = np.full(600, 2), (2 + rng.integers(1, 8, 600)) % 8, np.zeros(600, dtype=np.int64)

    def above(votes: int) -> int:
        together = [np.concatenate([a, b[:votes]]) for a, b in zip(crowd, push, strict=True)]
        theta = fit(*together, np.arange(len(together[0])), 8).theta
        return int((theta > theta[2]).sum())

    votes = climb(8, 2, 2, crowd, push)
    assert votes is not None
    assert above(votes) == above(0) - 2 or above(votes) < above(0) - 2
    assert above(votes - 1) > above(0) - 2
    assert climb(8, 2, 2, crowd, tuple(column[:3] for column in push)) is None


def test_a_model_joins() -> None:
    community = Community(strengths(4, 0.5), taste=0, lean=0)
    steps = list(adaptive_battles(community, 300, np.random.default_rng(0), refit=50, joins={3: 200}))
    assert [len(step[0]) for step in steps] == [50, 100, 150, 200, 250, 300]
    left, right, _, _ = steps[-1]
    assert 3 not in np.concatenate([left[:200], right[:200]])
    assert 3 in np.concatenate([left[200:], right[200:]])
    assert [len(step[3].theta) for step in steps] == [3, 3, 3, 3, 4, 4]


def test_the_page_shows_the_tables_of_the_command(simulations: ModuleType) -> None:
    parts = json.loads((ROOT / "fairground" / "web" / "methods.json").read_text())
    assert list(parts) == PARTS
    page = (ROOT / "docs" / "methods.md").read_text()
    assert simulations.written(page, parts) == page


def test_the_tables_hold_what_is_promised() -> None:
    figures = {key: part["figures"] for key, part in
               json.loads((ROOT / "fairground" / "web" / "methods.json").read_text()).items()}  # fmt: skip
    for part in ("coverage", "clusters"):
        for name, case in figures[part].items():
            assert case["runs"] == (3_000 if "adaptive" in name else 10_000)
            assert (0.93 if name == "adaptive_1000" else 0.94) <= case["ratings"] <= 0.96
    assert figures["pairing"]["widest_0.7"]["saved"] - figures["pairing"]["widest_0.7"]["error"] >= 0.25
    for key in ("honest", "long", "ties", "no_ties", "side"):
        assert figures["honest"][key]["alarms"] <= 0.01
    assert figures["caught"]["target_50"]["by_votes"] >= 0.90
    assert figures["caught"]["disguised_100"]["by_all"] >= 0.95
    assert all(figures[part]["cheapest"]["50"] >= 5 for part in PARTS if part.startswith("attack"))


@pytest.mark.verify
def test_coverage_again(simulations: ModuleType) -> None:
    """1,500 runs: the mean over 20 models is known to 0.2 points, and an interval of 93% or 97% would be found out."""
    rng = np.random.default_rng(11)
    truth, crowd, voter = strengths(20, 0.7), Community(strengths(20, 0.7)), np.repeat(np.arange(150), 20)
    alone = Community(truth, taste=0, lean=0)
    held = {"alone": [], "crowd": [], "adaptive": []}
    ratings = crowd.ratings()
    for _ in range(1_500):
        first, second = even_pairs(20, 3_000, rng)
        each = np.arange(3_000)
        fitted = fit(first, second, alone.votes(first, second, each, rng), each, 20)
        held["alone"].append(simulations.covered(truth, fitted)[0].mean())
        fitted = fit(first, second, crowd.votes(first, second, voter, rng), voter, 20)
        held["crowd"].append(simulations.covered(ratings, fitted)[0].mean())
    for _ in range(600):
        *_, (_, _, _, fitted) = adaptive_battles(alone, 3_000, rng, refit=500, together=True)
        held["adaptive"].append(simulations.covered(truth, fitted)[0].mean())
    for name, shares in held.items():
        # Adaptive pairing's intervals are a little too narrow, as the page says, and 600 runs tell them to 0.4 points.
        assert (0.935 if name == "adaptive" else 0.94) <= np.mean(shares) <= 0.96, name


@pytest.mark.verify
def test_adaptive_pairing_saves_a_quarter_of_the_votes_again() -> None:
    community = Community(strengths(20, 0.7), taste=0, lean=0)

    def widest(share: float, votes: int, seed: int) -> float:
        rng = np.random.default_rng(seed)
        *_, (_, _, _, fitted) = adaptive_battles(community, votes, rng, uniform_share=share)
        return float(fitted.half_widths()[0].max())

    adaptive = np.mean([widest(0.1, 1_500, seed) for seed in range(8)])
    even = np.mean([widest(1.0, 2_000, 100 + seed) for seed in range(8)])
    assert adaptive < even  # 1,500 votes do what 2,000 did


@pytest.mark.verify
def test_attackers_are_caught_and_honest_voters_are_not_again(simulations: ModuleType) -> None:
    rng = np.random.default_rng(12)
    community = Community(strengths(20, 0.7))
    base = simulations._community_fit(community, 200, 60, rng)
    for forced, honest, least, left_known in ((50, 0, 0.90, False), (50, 50, 0.95, True)):
        caught = []
        for target in [*range(20)] * 5:
            first, second, outcome = simulations._attacker(community, target, forced, honest, True, rng)
            cast = outcome != -1
            assert cast.sum() == forced + honest
            seen = (column if left_known else column[cast] for column in (first, second, outcome))
            caught.append(simulations.judge_voter(*seen, base.theta, variance=np.diag(base.sandwich)).suspect)
        assert np.mean(caught) >= least
    alarms = [verdict.suspect for verdict in simulations._honest_verdicts(community, 100, 1_000)]
    assert np.mean(alarms) <= 0.01


@pytest.mark.verify
def test_who_adapts_pays_five_times_again(simulations: ModuleType) -> None:
    community, target = Community(strengths(20, 0.7)), 7
    rng = np.random.default_rng(13)
    voter = np.repeat(np.arange(300), 60)
    first, second = even_pairs(20, len(voter), rng)
    crowd = first, second, community.votes(first, second, voter, rng)
    free, _ = simulations._cost(
        community, target, Attack(recognises=1.0, account_votes=2_000, wary=False), crowd, seed=0
    )
    for plan in (
        Attack(),
        Attack(elsewhere=0.1),
        Attack(elsewhere=0.5),
        Attack(rivals=3),
        Attack(rivals=3, elsewhere=0.2),
    ):
        votes, accounts = simulations._cost(community, target, plan, crowd, seed=1)
        assert votes + 50 * accounts >= 5 * free, plan


@pytest.mark.verify
def test_every_part_can_be_made(simulations: ModuleType) -> None:
    parts = {
        "coverage": simulations.coverage(True),
        "clusters": simulations.clusters(True),
        "pairing": simulations.pairing(True),
        "replay": simulations.replay(True, None),
        "honest": simulations.honest(True),
        "caught": simulations.caught(True),
        "attack_13": simulations.attack(True, 13),
    }
    stored = json.loads((ROOT / "fairground" / "web" / "methods.json").read_text())
    for key, part in parts.items():
        assert part["columns"] == stored[key]["columns"], key
        assert all(len(row) == len(part["columns"]) for row in part["rows"]), key
