"""Pairing against designs inverted anew, brute force over all pairs, and counts of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from fairground.arena import pairing
from fairground.arena.pairing import Design, choose_pair, design, expected_gain, pair_probabilities
from fairground.arena.simulation import Community, even_pairs, fit, strengths
from fairground.errors import DataError


def some_arena(seed: int = 0, models: int = 7, mean: float = 40.0) -> tuple[Design, np.ndarray]:
    rng = np.random.default_rng(seed)
    counts = np.triu(rng.poisson(mean, (models, models)), 1)
    counts += counts.T
    variance = rng.uniform(0.01, 0.2, models)
    return design(rng.normal(0, 1, models), counts, variance), counts


def test_covariance_is_that_of_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "PRIOR_BATTLES", 0.0)
    rng = np.random.default_rng(1)
    first, second = even_pairs(6, 900, rng)
    community = Community(strengths(6, 0.8))
    fitted = fit(first, second, community.votes(first, second, np.arange(900), rng), np.arange(900), 6)
    counts = np.zeros((6, 6), dtype=np.int64)
    np.add.at(counts, (first, second), 1)
    known = design(fitted.theta, counts + counts.T, fitted.half_widths()[0] ** 2)
    np.testing.assert_allclose(known.covariance, fitted.model_based, atol=1e-9)
    np.testing.assert_allclose(known.inflation * np.diag(known.covariance), fitted.half_widths()[0] ** 2, rtol=1e-9)


def test_rank_one_update_is_the_design_with_one_more_battle() -> None:
    known, counts = some_arena()
    for a, b in ((0, 1), (6, 2), (3, 5)):
        counts[a, b] += 1
        counts[b, a] += 1
        known = known.after(a, b)
    np.testing.assert_allclose(known.covariance, design(known.theta, counts).covariance, atol=1e-12)


def test_gain_is_how_much_the_weighted_variances_fall() -> None:
    known, _ = some_arena(2)
    variance = known.inflation * np.diag(known.covariance)
    weights = (variance / variance.max()) ** 8
    gain = expected_gain(known, np.ones(7, dtype=bool))
    for a in range(7):
        for b in range(7):
            after = known if a == b else known.after(a, b)
            fall = weights @ (variance - known.inflation * np.diag(after.covariance))
            assert gain[a, b] == pytest.approx(fall, rel=1e-4, abs=1e-9)


def test_draws_follow_the_published_probabilities_and_sides_are_even() -> None:
    known, counts = some_arena(3, models=5, mean=25.0)  # a model has about 100 battles: some are newcomers
    rng = np.random.default_rng(0)
    table = pair_probabilities(known, counts)
    assert np.triu(table).sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(table, table.T)
    assert table[~np.eye(5, dtype=bool)].min() >= pairing.UNIFORM_SHARE / 10 * (1 - 1e-6)
    drawn = [choose_pair(known, counts, rng=rng) for _ in range(8_000)]
    assert {pair.by for pair in drawn} == {"uniform", "information", "newcomer"}
    for pair in drawn[:100]:
        assert pair.probability == pytest.approx(table[pair.a, pair.b])
    often = np.zeros((5, 5))
    np.add.at(often, ([pair.a for pair in drawn], [pair.b for pair in drawn]), 1)
    sided = ~np.eye(5, dtype=bool)
    assert chisquare(often[sided], (table / 2)[sided] * (8_000 / table[sided].sum() * 2)).pvalue > 0.01
    shares = {name: np.mean([pair.by == name for pair in drawn]) for name in ("uniform", "newcomer")}
    assert shares["uniform"] == pytest.approx(0.1, abs=0.012)
    settled = int((counts.sum(axis=1) >= pairing.NEWCOMER_BATTLES).sum())
    assert 2 <= settled < 5
    even = 1 - settled * (settled - 1) / 20
    assert shares["newcomer"] == pytest.approx(0.9 * max(0.3, even), abs=0.02)


def test_a_young_arena_does_not_dwell_on_the_first_two_models() -> None:
    """Two models with a hundred battles and two with few: five of six pairs have a newcomer, and so much is theirs."""
    counts = np.array([[0, 95, 5, 0], [95, 0, 15, 0], [5, 15, 0, 0], [0, 0, 0, 0]])
    table = pair_probabilities(design(np.zeros(4), counts), counts, uniform_share=0.2)
    assert table[0, 1] == pytest.approx(1 / 6, abs=1e-6)


def test_same_generator_same_pairs() -> None:
    known, counts = some_arena()
    one, two = ([choose_pair(known, counts, rng=np.random.default_rng(5)) for _ in range(3)] for _ in range(2))
    assert one == two


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 12), st.integers(0, 10_000), st.floats(0.01, 1), st.floats(0, 0.9))
def test_newcomers_are_boosted_but_bounded(models: int, seed: int, uniform: float, boost: float) -> None:
    rng = np.random.default_rng(seed)
    counts = np.triu(rng.poisson(2_000, (models, models)), 1)
    newest = rng.random(models) < 0.3
    newest[:2] = False
    counts[newest] = counts[:, newest] = 0
    counts += counts.T
    here = rng.random(models) < 0.8
    here[:2] = True
    table = pair_probabilities(
        design(rng.normal(0, 1, models), counts), counts, available=here, uniform_share=uniform, newcomer_share=boost
    )
    assert np.isfinite(table).all()
    assert np.triu(table).sum() == pytest.approx(1, abs=1e-5)
    assert (table[~here] == 0).all()
    open_pairs = here[:, None] & here[None, :] & ~np.eye(models, dtype=bool)
    assert table[open_pairs].min() >= 2 * uniform / open_pairs.sum() * (1 - 1e-5)
    with_new = np.triu(open_pairs & (newest[:, None] | newest[None, :]))
    if with_new.any():
        even = with_new.sum() / np.triu(open_pairs).sum()
        assert table[with_new].sum() == pytest.approx(uniform * even + (1 - uniform) * max(boost, even), abs=1e-5)


def test_a_model_that_is_away_does_not_blind_the_draw() -> None:
    """Its variance is a thousand times the others', but no vote can lower it, so the others' widest interval counts."""
    counts = np.full((6, 6), 50_000)
    counts[5] = counts[:, 5] = 0
    counts[0], counts[:, 0] = 2_000, 2_000
    np.fill_diagonal(counts, 0)
    counts[0, 5] = counts[5, 0] = 0
    here = np.array([True, True, True, True, True, False])
    table = pair_probabilities(design(np.zeros(6), counts), counts, available=here)
    assert table[0].sum() > 0.9 * 0.99


def test_outages() -> None:
    known, counts = some_arena(models=4)
    rng = np.random.default_rng(0)
    here = np.array([True, False, True, True])
    drawn = [choose_pair(known, counts, rng=rng, available=here) for _ in range(300)]
    assert {pair.a for pair in drawn} == {pair.b for pair in drawn} == {0, 2, 3}
    pairs = np.zeros((4, 4), dtype=bool)
    pairs[1, 3] = pairs[3, 1] = True
    assert {choose_pair(known, counts, rng=rng, available=pairs).a for _ in range(50)} == {1, 3}
    assert choose_pair(known, counts, rng=rng, available=pairs).probability == pytest.approx(1)
    with pytest.raises(DataError, match="No two of the 4 models are available"):
        choose_pair(known, counts, rng=rng, available=np.array([True, False, False, False]))


def test_a_start_without_votes_is_even() -> None:
    counts = np.zeros((5, 5), dtype=np.int64)
    table = pair_probabilities(design(np.zeros(5), counts), counts)
    np.testing.assert_allclose(table[~np.eye(5, dtype=bool)], 0.1, rtol=1e-4)
