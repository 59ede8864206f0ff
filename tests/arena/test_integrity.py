"""Tests of voters: exact sums over all lives, refits, scipy's tails and optima, and communities from a seed."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.optimize import minimize_scalar
from scipy.special import betaln, expit
from scipy.stats import binom, norm

from fairground.arena import integrity
from fairground.arena.integrity import judge_voter, poisson_binomial_tail, theta_without
from fairground.arena.simulation import POINTS, Attack, Community, attacking_account, even_pairs, fit, strengths


def life(community: Community, battles: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = even_pairs(len(community.theta), battles, rng)
    return first, second, community.votes(first, second, np.zeros(battles, dtype=np.int64), rng)


def votes_for(
    target: int, votes: int, models: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    other = (target + rng.integers(1, models, votes)) % models
    left = rng.random(votes) < 0.5
    return np.where(left, target, other), np.where(left, other, target), np.where(left, 0, 1)


def test_poisson_binomial_tail() -> None:
    for n, k in ((1, 0), (12, 5), (40, 40), (200, 120)):
        assert poisson_binomial_tail(np.full(n, 0.55), k) == pytest.approx(binom.sf(k - 1, n, 0.55), rel=1e-9)
    coins = np.array([0.1, 0.5, 0.77, 0.9, 0.3])
    chances = dict.fromkeys(range(6), 0.0)
    for sides in product((0, 1), repeat=5):
        chances[sum(sides)] += float(np.prod(np.where(sides, coins, 1 - coins)))
    for k in range(6):
        assert poisson_binomial_tail(coins, k) == pytest.approx(sum(chances[wins] for wins in range(k, 6)), rel=1e-12)


def test_likelihood_ratio_has_mean_one_over_all_lives_of_an_honest_voter() -> None:
    """Every sequence of three votes, weighted by its chance from an integral that the test does for itself."""
    first, second = np.array([0, 2, 1]), np.array([1, 0, 0])
    theta, spread = np.array([0.3, -0.4, 0.1]), 0.5
    lean, tie, taste = np.linspace(-2.5, 2.5, 41), np.linspace(0, 1, 41), np.linspace(-2.5, 2.5, 41)
    prior = norm.pdf(lean, 0, 0.5)[:, None, None] * np.ones(41)[:, None] * norm.pdf(taste, 0, spread)
    total = mean = 0.0
    for outcome in product((0, 1, 2), repeat=3):
        likelihood = np.ones((41, 41, 41))
        for a, b, said in zip(first, second, outcome, strict=True):
            own = taste if a == 0 else -taste
            lead = theta[a] - theta[b] + lean[:, None, None] + own
            p, low = expit(lead), expit(-np.abs(lead))
            shares = (p - tie[:, None] * low, 1 - p - tie[:, None] * low, 2 * tie[:, None] * low)
            likelihood = likelihood * shares[said]
        chance = float(simpson(simpson(simpson(prior * likelihood, taste), tie), lean))
        said = np.array(outcome)
        sign = np.where(first == 0, 1.0, -1.0)
        lead = theta[first] - theta[second]
        plain = integrity._log_likelihood(
            lead[:, None] + integrity._LEAN, integrity._TIE, (said == 0)[:, None], (said == 1)[:, None]
        )
        won, lost = said == np.where(sign > 0, 0, 1), said == np.where(sign > 0, 1, 0)
        biased, tasteful = integrity._shifted(sign * lead, sign, won, lost, plain, spread)
        whole = plain.sum(axis=0) + integrity._GRID_WEIGHT
        total += chance
        mean += chance * float(
            np.exp(integrity._log_sum(whole + biased[-1]) - integrity._log_sum(whole + tasteful[-1]))
        )
    assert total == pytest.approx(1, abs=1e-4)
    assert mean == pytest.approx(1, abs=0.01)


def test_selection_evidence_has_mean_at_most_one_for_every_honest_rate() -> None:
    """All ways of voting or not in nine battles, at odds up to `SELECTION_ODDS` times as high with the target."""
    present = np.array([True, False, False, True, False, True, False, False, False])
    lives = np.array(list(product((False, True), repeat=9)))
    evidence = np.array([np.exp(integrity._selection(present, voted)) for voted in lives])  # [lives, battles]
    for rate in (0.02, 0.1, 0.3, 0.5, 0.8, 0.97):
        for ratio in (0.5, 1.0, integrity.SELECTION_ODDS):
            odds = rate / (1 - rate) * np.where(present, ratio, 1)
            chance = np.prod(np.where(lives, odds, 1) / (1 + odds), axis=1)
            assert chance.sum() == pytest.approx(1)
            assert (chance @ evidence <= 1 + 1e-9).all()
    selective = np.prod(np.where(lives == present, 0.95, 0.05), axis=1)
    assert (selective @ evidence)[-1] > 4


def test_selection_null_is_the_likeliest_one() -> None:
    present, voted = np.arange(60) % 6 == 0, np.arange(60) % 6 < 2
    v1, s1, v0, s0 = 10, 0, 10, 40

    def likelihood(logit: float) -> float:
        with_it, without = expit(logit + np.log(integrity.SELECTION_ODDS)), expit(logit)
        return float(v1 * np.log(with_it) + s1 * np.log(1 - with_it) + v0 * np.log(without) + s0 * np.log(1 - without))

    best = -minimize_scalar(lambda logit: -likelihood(logit), bounds=(-8, 8), method="bounded").fun
    mixture = betaln(v1 + 0.5, s1 + 0.5) + betaln(v0 + 0.5, s0 + 0.5) - 2 * np.log(np.pi)
    assert integrity._selection(present, voted)[-1] == pytest.approx(mixture - best, abs=1e-6)


def test_ratings_without_a_voter_are_near_the_refit() -> None:
    rng = np.random.default_rng(4)
    community = Community(strengths(8, 0.7))
    first, second = even_pairs(8, 2_000, rng)
    voter = np.repeat(np.arange(50), 40)
    outcome = community.votes(first, second, voter, rng)
    everyone = fit(first, second, outcome, voter, 8)
    for one in range(5):
        own, others = voter == one, voter != one
        refit = fit(first[others], second[others], outcome[others], voter[others], 8).theta
        step = theta_without(everyone.theta, everyone.model_based, first[own], second[own], POINTS[outcome[own]])
        moved = np.abs(refit - everyone.theta).max()
        assert np.abs(step - refit).max() < 0.05 * moved
        assert step.mean() == pytest.approx(0, abs=1e-12)


def test_only_this_voter_met_a_model() -> None:
    """What is left says nothing of model 2, so the step is finite and the others' ratings are those of the refit."""
    first, second = np.array([0] * 40 + [2, 2]), np.array([1] * 40 + [0, 1])
    outcome = np.array([0] * 25 + [1] * 15 + [0, 1])
    everyone = fit(first, second, outcome, np.arange(42), 3)
    step = theta_without(everyone.theta, everyone.model_based, first[40:], second[40:], POINTS[outcome[40:]])
    assert np.isfinite(step).all()
    assert step[0] - step[1] == pytest.approx(np.log(25 / 15), abs=0.01)


def test_one_who_votes_for_one_model_is_caught_and_told_why() -> None:
    rng = np.random.default_rng(0)
    theta = strengths(20, 0.7)
    first, second, outcome = votes_for(7, 50, 20, rng)
    verdict = judge_voter(first, second, outcome, theta, names=[f"m{i}" for i in range(20)])
    assert verdict.suspect
    assert verdict.target == 7
    assert verdict.p < 1e-5
    assert "Of 50 votes, 50 are on 'm7', which won 50 where at most 2" in verdict.said
    against = judge_voter(first, second, 1 - outcome, theta)
    assert against.suspect
    assert against.target == 7
    few = judge_voter(first[:3], second[:3], outcome[:3], theta)
    assert not few.suspect
    # Ratings that nobody knows yet accuse nobody.
    assert not judge_voter(first, second, outcome, theta, variance=np.full(20, 25.0)).suspect


def test_leaving_the_battles_without_the_target_is_evidence() -> None:
    """Eight votes that are no wonder by themselves, among 80 battles."""
    rng = np.random.default_rng(1)
    community = Community(strengths(20, 0.7))
    first, second, outcome = life(community, 120, rng)
    present = (first == 4) | (second == 4)
    alone = judge_voter(first[present], second[present], outcome[present], community.theta)
    left = judge_voter(
        first, second, np.where(present, outcome, -1), community.theta, names=[str(i) for i in range(20)]
    )
    assert not alone.suspect
    assert left.suspect
    assert left.target == 4
    assert "in 100% of the battles with it and in 0% of others" in left.said
    everywhere = judge_voter(first, second, np.where(rng.random(120) < 0.1, outcome, -1), community.theta)
    assert not everywhere.suspect


def test_no_votes() -> None:
    nothing = np.array([], dtype=np.int64)
    assert not judge_voter(nothing, nothing, nothing, np.zeros(3)).suspect
    assert not judge_voter(np.array([0]), np.array([1]), np.array([-1]), np.zeros(3)).suspect


def test_sides_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    community = Community(strengths(6, 0.7))
    first, second, outcome = life(community, 60, rng)
    mirrored = np.choose(outcome, [1, 0, 2, 3])
    one = judge_voter(first, second, outcome, community.theta)
    two = judge_voter(second, first, mirrored, community.theta)
    assert one.p == pytest.approx(two.p)


@pytest.mark.parametrize("kind", [{}, {"ties": (0.01, 10.0)}, {"ties": (20.0, 1.0)}, {"lean": 1.5}])
def test_honest_voters_are_left_alone(kind: dict[str, float]) -> None:
    """In 150 lives, 1% would be one or two; three or fewer by this seed."""
    rng = np.random.default_rng(3)
    community = Community(strengths(20, 0.7), **kind)
    assert sum(judge_voter(*life(community, 60, rng), community.theta).suspect for _ in range(150)) <= 3


def test_a_wary_attacker_stays_below_the_alarm() -> None:
    rng = np.random.default_rng(5)
    community = Community(strengths(20, 0.7))
    first, second, outcome = attacking_account(community, 7, Attack(elsewhere=0.2), rng)
    assert not judge_voter(first, second, outcome, community.theta, targets=[7]).suspect
    bold = attacking_account(community, 7, Attack(elsewhere=0.2, wary=False), rng)
    assert judge_voter(*bold, community.theta).suspect


def test_a_coalition_of_small_biases_is_seen_as_one() -> None:
    """Up with model 7 and down with 8 to 10, voting hardly anywhere else: no model alone is far from honest."""
    rng = np.random.default_rng(6)
    community = Community(strengths(20, 0.7))
    first, second, outcome = attacking_account(
        community, 7, Attack(rivals=3, wary=False, account_votes=26, recognises=1.0), rng
    )
    verdict = judge_voter(first, second, outcome, community.theta, names=[f"m{i}" for i in range(20)])
    assert verdict.suspect
    assert verdict.test == "several models"
    assert (
        "on 'm7', 'm8', 'm9', 'm10'; votes were cast in 100% of the battles with any of them and in 0% of others"
        in verdict.said
    )
