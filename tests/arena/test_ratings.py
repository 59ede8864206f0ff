"""Ratings against a textbook, a general-purpose optimiser, sandwiches worked out another way, and simulation."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm, t

from fairground.arena.ratings import ELO_PER_LOGIT, Rating, bradley_terry, rate
from fairground.errors import DataError
from fairground.types import Battle, Winner

POINTS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "both_bad": 0.5}
FLIPPED: dict[Winner, Winner] = {"model_a": "model_b", "model_b": "model_a", "tie": "tie", "both_bad": "both_bad"}

# Wins of the row over the column, American League East, 1987 (Agresti, Categorical Data Analysis, 2002, table 10.10).
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
BASEBALL = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]


def baseball() -> list[Battle]:
    return [
        Battle(TEAMS[i], TEAMS[j], "model_a")
        for i, row in enumerate(BASEBALL)
        for j, n in enumerate(row)
        for _ in range(n)
    ]


def by_name(rows: list[Rating]) -> dict[str, Rating]:
    return {row.model: row for row in rows}


def invented(seed: int = 0, battles: int = 1500, models: int = 6, voters: int = 80) -> list[Battle]:
    """Battles of models of different strength, by voters who lean to the left or right, with every kind of outcome."""
    chance = random.Random(seed)
    lean = [chance.gauss(0, 0.8) for _ in range(voters)]
    rows = []
    for _ in range(battles):
        i, j = chance.sample(range(models), 2)
        voter = chance.randrange(voters)
        winner: Winner = chance.choice(["tie", "both_bad"])
        if chance.random() < 0.7:
            winner = "model_a" if chance.random() < 1 / (1 + math.exp(0.4 * (j - i) - lean[voter])) else "model_b"
        rows.append(Battle(f"m{i}", f"m{j}", winner, f"v{voter}"))
    return rows


def arrays(battles: list[Battle]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Design [B, n], points [B], cluster [B], names, and the map [n, n - 1] from reference coding to mean zero."""
    names = sorted({b.model_a for b in battles} | {b.model_b for b in battles})
    design = np.zeros((len(battles), len(names)))
    for row, battle in enumerate(battles):
        design[row, names.index(battle.model_a)], design[row, names.index(battle.model_b)] = 1, -1
    points = np.array([POINTS[b.winner] for b in battles])
    clusters = [b.voter if b.voter is not None else f"battle {i}" for i, b in enumerate(battles)]
    full = np.vstack([np.zeros(len(names) - 1), np.eye(len(names) - 1)])
    return design[:, 1:], points, np.array(clusters), names, full - full.mean(axis=0)


def optimised(battles: list[Battle], penalised: bool = False) -> dict[str, float]:
    """Ratings by scipy's optimiser on the negative log-likelihood, the first model as reference."""
    design, points, _, names, centre = arrays(battles)

    def loss(beta: np.ndarray) -> float:
        lead = design @ beta
        value = float((np.logaddexp(0, lead) - points * lead).sum())
        if penalised:
            p = 1 / (1 + np.exp(-lead))
            value -= 0.5 * np.linalg.slogdet(design.T @ (design * (p * (1 - p))[:, None]))[1]
        return value

    found = minimize(loss, np.zeros(design.shape[1]), method="BFGS", options={"gtol": 1e-9})
    return dict(zip(names, 1000 + ELO_PER_LOGIT * (centre @ found.x), strict=True))


def sandwich(battles: list[Battle]) -> tuple[list[str], np.ndarray]:
    """Covariance [n, n] in logits, clustered, by logistic regression in reference coding and a plain loop."""
    design, points, clusters, names, centre = arrays(battles)
    truth = optimised(battles)
    theta = np.array([(truth[name] - 1000) / ELO_PER_LOGIT for name in names])
    p = 1 / (1 + np.exp(-(design @ (theta[1:] - theta[0]))))
    bread = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))
    meat = np.zeros_like(bread)
    groups = sorted(set(clusters))
    for group in groups:
        score = design[clusters == group].T @ (points - p)[clusters == group]
        meat += np.outer(score, score)
    meat *= len(groups) / (len(groups) - 1)
    return names, centre @ bread @ meat @ bread @ centre.T


def test_textbook_baseball() -> None:
    # Estimates against Baltimore: Agresti, table 10.11, as BradleyTerry2's own tests have them.
    rows = by_name(rate(baseball()))
    logits = {team: (rows[team].rating - rows["Baltimore"].rating) / ELO_PER_LOGIT for team in TEAMS}
    expected = {
        "Milwaukee": 1.58,
        "Detroit": 1.44,
        "Toronto": 1.29,
        "New York": 1.25,
        "Boston": 1.11,
        "Cleveland": 0.68,
    }
    assert {team: round(logits[team], 2) for team in expected} == expected
    assert [row.model for row in rate(baseball())] == [*expected, "Baltimore"]
    assert not rows["Boston"].penalised
    # "Standard errors are about 0.3": model-based, of the difference to Baltimore.
    ids = np.array([(i, j) for i, row in enumerate(BASEBALL) for j, n in enumerate(row) for _ in range(n)])
    fit = bradley_terry(ids[:, 0], ids[:, 1], np.ones(len(ids)), np.arange(len(ids)), TEAMS)
    v = fit.model_based
    errors = [math.sqrt(v[i, i] + v[6, 6] - 2 * v[i, 6]) for i in range(6)]
    assert [round(error, 1) for error in errors] == [0.3] * 6


def test_two_models_are_arithmetic() -> None:
    battles = [Battle("a", "b", "model_a")] * 75 + [Battle("b", "a", "model_a")] * 25
    best, worst = rate(battles)
    assert best.rating - worst.rating == pytest.approx(400 * math.log10(3), abs=1e-6)
    assert best.rating + worst.rating == pytest.approx(2000, abs=1e-6)
    # The sandwich of one proportion: sum of squared residuals / (n p q)^2, times n / (n - 1).
    error = math.sqrt(100 * 0.25 * 0.75 * 100 / 99) / (100 * 0.25 * 0.75)
    assert best.high - best.rating == pytest.approx(ELO_PER_LOGIT * error / 2 * t.ppf(0.975, 99), rel=1e-9)
    assert (best.votes, best.win_rate, best.rank_low, best.rank_high) == (100, 0.75, 1, 1)
    assert (worst.rank_low, worst.rank_high) == (2, 2)


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_general_optimiser(seed: int) -> None:
    battles = invented(seed)
    expected = optimised(battles)
    for row in rate(battles):
        assert row.rating == pytest.approx(expected[row.model], abs=1e-4)
    assert np.mean([row.rating for row in rate(battles)]) == pytest.approx(1000, abs=1e-9)


@pytest.mark.parametrize("by_voter", [True, False])
def test_sandwich_equals_logistic_regression_in_reference_coding(by_voter: bool) -> None:
    battles = invented(7)
    if not by_voter:
        battles = [replace(battle, voter=None) for battle in battles]
    names, covariance = sandwich(battles)
    clusters = len({battle.voter for battle in battles}) if by_voter else len(battles)
    rows = by_name(rate(battles))
    for i, name in enumerate(names):
        half = t.ppf(0.975, clusters - 1) * math.sqrt(covariance[i, i]) * ELO_PER_LOGIT
        assert rows[name].high - rows[name].rating == pytest.approx(half, rel=1e-5)
        assert rows[name].rating - rows[name].low == pytest.approx(half, rel=1e-5)
        lead = [(rows[other].rating - rows[name].rating) / ELO_PER_LOGIT for other in names]
        spread = [
            t.ppf(0.975, clusters - 1) * math.sqrt(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j])
            for j in range(len(names))
        ]
        assert rows[name].rank_low == 1 + sum(x > s for x, s in zip(lead, spread, strict=True))
        assert rows[name].rank_high == len(names) - sum(x < -s for x, s in zip(lead, spread, strict=True))


def test_clustered_intervals_equal_a_bootstrap_over_voters() -> None:
    battles = invented(11, battles=1200, models=4, voters=120)
    voters = sorted({str(battle.voter) for battle in battles})
    cast = {voter: [battle for battle in battles if battle.voter == voter] for voter in voters}
    chance = random.Random(1)
    drawn = []
    for _ in range(150):
        sample = [replace(b, voter=str(k)) for k in range(len(voters)) for b in cast[chance.choice(voters)]]
        rows = by_name(rate(sample))
        drawn.append([rows[f"m{i}"].rating for i in range(4)])
    rows = by_name(rate(battles))
    errors = [(rows[f"m{i}"].high - rows[f"m{i}"].low) / 2 / t.ppf(0.975, len(voters) - 1) for i in range(4)]
    assert np.std(drawn, axis=0, ddof=1) == pytest.approx(errors, rel=0.2)


def test_a_model_that_won_everything_has_a_finite_rating() -> None:
    best, worst = rate([Battle("a", "b", "model_a")] * 10)
    assert best.penalised
    assert best.rating - worst.rating == pytest.approx(400 * math.log10(10.5 / 0.5), abs=1e-6)  # half a win each added
    # Ten wins in ten: the exact (Clopper-Pearson) interval for p reaches down to 0.69, 140 points; ours is no tighter.
    assert best.low - 1000 < 70
    assert math.isfinite(best.high)

    only = rate([Battle("a", "b", "model_b")])
    assert only[0].rating - only[1].rating == pytest.approx(400 * math.log10(3), abs=1e-6)
    assert (only[0].rank_low, only[0].rank_high) == (1, 2)


def test_firth_equals_a_general_optimiser() -> None:
    unbeaten = [Battle("new", f"m{i}", "model_a") for i in (0, 1, 1)]
    hopeless = [Battle("m2", "old", "model_a"), Battle("m3", "old", "model_a")]
    battles = invented(3, battles=60, models=4) + unbeaten + hopeless
    expected = optimised(battles, penalised=True)
    rows = rate(battles)
    assert rows[0].model == "new"
    assert rows[-1].model == "old"
    for row in rows:
        assert row.rating == pytest.approx(expected[row.model], abs=1e-3)


def test_one_unbeaten_newcomer_hardly_moves_the_others_and_widens_only_itself() -> None:
    old = invented(5, battles=4000)
    before, after = by_name(rate(old)), by_name(rate([*old, *[Battle("new", "m0", "model_a", "x")] * 3]))
    shift = np.mean([after[m].rating - before[m].rating for m in before])
    for model in before:
        assert after[model].rating - before[model].rating == pytest.approx(shift, abs=2)
    assert after["new"].high - after["new"].low > 400
    # Order among the old ones is as sure as it was.
    assert sum(after[m].rank_high - after[m].rank_low for m in before) <= 6 + sum(
        before[m].rank_high - before[m].rank_low for m in before
    )


def test_little_evidence_is_never_certain() -> None:
    tie = rate([Battle("a", "b", "tie")])
    assert [row.rating for row in tie] == pytest.approx([1000, 1000])
    assert tie[0].high - tie[0].rating == pytest.approx(ELO_PER_LOGIT * norm.ppf(0.975) * 2 / 2)  # sd of a logit: 2
    for row in rate([Battle("a", "b", "tie")] * 40):
        assert row.high - row.rating == pytest.approx(ELO_PER_LOGIT * norm.ppf(0.975) / math.sqrt(40))
    one_voter = [replace(battle, voter="me") for battle in invented(2, battles=200, models=3)]
    for row in rate(one_voter):
        assert 20 < row.high - row.low < 300


def test_both_bad_moves_ratings_as_a_tie_and_is_counted() -> None:
    battles = invented(4)
    ties: list[Battle] = [replace(b, winner="tie") if b.winner == "both_bad" else b for b in battles]
    rows, as_ties = by_name(rate(battles)), by_name(rate(ties))
    for model, row in rows.items():
        bad = sum(b.winner == "both_bad" and model in (b.model_a, b.model_b) for b in battles)
        assert replace(row, both_bad=0, both_bad_share=0.0) == as_ties[model]
        assert (row.both_bad, row.both_bad_share) == (bad, bad / row.votes)
    assert sum(row.both_bad for row in rows.values()) == 2 * sum(b.winner == "both_bad" for b in battles)


def test_errors_are_sentences() -> None:
    with pytest.raises(DataError, match="no battles"):
        rate([])
    with pytest.raises(DataError, match="'a' is set against itself"):
        rate([Battle("a", "b", "tie"), Battle("a", "a", "tie")])
    with pytest.raises(DataError, match=r"2 groups .*'a', 'b' \| 'c', 'd'.* rate each group alone"):
        rate([Battle("a", "b", "tie"), Battle("c", "d", "model_a")])


NAMES = st.sampled_from("abcde")
BATTLES = st.lists(
    st.builds(
        Battle,
        NAMES,
        NAMES,
        st.sampled_from(["model_a", "model_b", "tie", "both_bad"]),
        st.one_of(st.none(), st.sampled_from("xyz")),
    ).filter(lambda battle: battle.model_a != battle.model_b),
    min_size=1,
    max_size=30,
)


def rated(battles: list[Battle]) -> list[Rating] | None:
    try:
        return rate(battles)
    except DataError:
        return None


@settings(max_examples=60, deadline=None)
@given(BATTLES, st.randoms(use_true_random=False))
def test_order_and_sides_do_not_matter_to_the_bit(battles: list[Battle], chance: random.Random) -> None:
    other = [
        Battle(b.model_b, b.model_a, FLIPPED[b.winner], b.voter) if chance.random() < 0.5 else b
        for b in chance.sample(battles, len(battles))
    ]
    assert rated(other) == rated(battles)


def same(rows: list[Rating] | None, others: list[Rating] | None, rename: Callable[[str], str] = str) -> None:
    assert (rows is None) == (others is None)
    if rows is None or others is None:
        return
    found = by_name(others)
    for row in rows:
        other = found[rename(row.model)]
        assert (other.rating, other.low, other.high) == pytest.approx((row.rating, row.low, row.high), abs=1e-4)
        assert other.votes == row.votes


@settings(max_examples=60, deadline=None)
@given(BATTLES, st.permutations("abcde"))
def test_names_do_not_matter(battles: list[Battle], names: list[str]) -> None:
    rename = dict(zip("abcde", names, strict=True)).__getitem__
    other = [Battle(rename(b.model_a), rename(b.model_b), b.winner, b.voter) for b in battles]
    same(rated(battles), rated(other), rename)


@settings(max_examples=60, deadline=None)
@given(BATTLES)
def test_every_result_is_in_order_and_finite(battles: list[Battle]) -> None:
    rows = rated(battles)
    if rows is None:
        return
    assert np.mean([row.rating for row in rows]) == pytest.approx(1000)
    for place, row in enumerate(rows, start=1):
        assert math.isfinite(row.low)
        assert row.low < row.rating < row.high
        assert 1 <= row.rank_low <= place <= row.rank_high <= len(rows)


def test_a_second_set_of_voters_of_one_mind_narrows_intervals_and_keeps_ratings() -> None:
    battles = invented(9)
    twice = battles + [replace(battle, voter=f"{battle.voter} again") for battle in battles]
    for row, other in zip(rate(battles), rate(twice), strict=True):
        assert other.rating == pytest.approx(row.rating, abs=1e-6)
        assert (other.high - other.low) / (row.high - row.low) == pytest.approx(math.sqrt(0.5), abs=0.01)
    # The same votes cast again by the same people are no new evidence.
    for row, other in zip(rate(battles), rate(battles + battles), strict=True):
        assert other.rating == pytest.approx(row.rating, abs=1e-6)
        assert other.high - other.low == pytest.approx(row.high - row.low, rel=1e-6)


def simulated(runs: int, voters: int, each: int, agreement: float) -> tuple[float, float, float, float]:
    """How often 95% intervals hold the truth over `runs`: (rating, difference, both again as if battles were alone).

    A voter's votes share a hidden leaning (a Gaussian copula with correlation `agreement`), which leaves each vote's
    own probability exactly Bradley-Terry's; a fifth of the votes near an even chance are ties.
    """
    chance = np.random.default_rng(20231109)
    theta = np.array([-1.0, -0.4, 0.0, 0.1, 0.5, 0.8])
    n, battles = len(theta), voters * each
    names, cluster = list("abcdef"), np.repeat(np.arange(voters), each)
    hits: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(runs):
        first = chance.integers(n, size=battles)
        second = (first + chance.integers(1, n, size=battles)) % n
        first, second = np.minimum(first, second), np.maximum(first, second)
        p = 1 / (1 + np.exp(theta[second] - theta[first]))
        hidden = math.sqrt(agreement) * np.repeat(chance.standard_normal(voters), each)
        u = norm.cdf(hidden + math.sqrt(1 - agreement) * chance.standard_normal(battles))
        drawn = 0.4 * np.minimum(p, 1 - p)  # the chance of a tie; the points' mean stays p
        points = np.where(u < p - drawn / 2, 1.0, np.where(u < p + drawn / 2, 0.5, 0.0))
        for clustered in hits:
            fit = bradley_terry(first, second, points, cluster if clustered else np.arange(battles), names)
            own, pair = fit.half_widths()
            off = fit.theta - theta + theta.mean()
            upper = np.triu_indices(n, 1)
            hits[clustered].append(
                (
                    float((np.abs(off) <= own).mean()),
                    float((np.abs(off[:, None] - off[None, :]) <= pair)[upper].mean()),
                )
            )
    right, naive = np.mean(hits[True], axis=0), np.mean(hits[False], axis=0)
    return float(right[0]), float(right[1]), float(naive[0]), float(naive[1])


@pytest.mark.verify
@pytest.mark.parametrize(("voters", "each"), [(300, 1), (50, 10), (100, 20)])
def test_intervals_cover_the_truth(voters: int, each: int) -> None:
    rating, difference, naive, _ = simulated(1500, voters, each, agreement=0.5)
    assert 0.93 <= rating <= 0.97
    assert 0.93 <= difference <= 0.97
    if each == 20:
        assert naive < 0.9  # so that the test can tell clustering from none
