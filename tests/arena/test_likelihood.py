"""Style, the outside option, weights and Firth's penalty against scipy's optimiser on a likelihood written plainly."""

from __future__ import annotations

from dataclasses import replace

import lmsys_shaped as shaped
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from fairground.arena.columns import Battles
from fairground.arena.ratings import ELO_PER_LOGIT, rated

TOOK = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]])


def some(n: int = 1500, models: int = 6, seed: int = 0, voters: int = 0) -> Battles:
    whole = shaped.battles("33k")
    dice = np.random.default_rng(seed)
    kept = np.zeros(len(whole), dtype=bool)
    kept[dice.choice(np.flatnonzero((whole.first < models) & (whole.second < models)), n, replace=False)] = True
    found = whole.only(kept)
    return replace(found, voter=dice.integers(voters, size=n).astype(np.int32)) if voters else found


def plainly(
    battles: Battles, *, outside: bool, style: bool, weights: np.ndarray | None = None, penalised: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Ratings [m, or m + 1 with the option last] and points of style [k], each battle by itself, model 0 at zero."""
    n, m, k = len(battles), len(battles.models), 4 if style else 0
    weight = np.ones(n) if weights is None else weights
    took = TOOK[battles.outcome].copy()
    if not outside:
        took[battles.outcome == 3] = [0.5, 0.5, 0]
    x = np.zeros((n, 3, m + 1 + k))  # utilities' design: of a, of b, of neither
    x[np.arange(n), 0, battles.first] = x[np.arange(n), 1, battles.second] = x[:, 2, m] = 1
    if style:
        z = (battles.style - battles.style.mean(axis=0)) / battles.style.std(axis=0)  # type: ignore[union-attr,operator]
        x[:, 0, m + 1 :], x[:, 1, m + 1 :] = z / 2, -z / 2
    free = np.r_[1:m, [m] if outside else [], m + 1 : m + 1 + k].astype(int)
    choices = slice(None) if outside else slice(0, 2)
    x, took = x[:, choices][:, :, free], took[:, choices]

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        u = x @ beta
        logs = u - logsumexp(u, axis=1, keepdims=True)
        p = np.exp(logs)
        value = -float((weight[:, None] * took * logs).sum())
        slope = -np.einsum("nc,ncd->d", weight[:, None] * (took - p), x)
        if penalised:
            mean = np.einsum("nc,ncd->nd", p, x)
            information = np.einsum("nc,ncd,nce->de", p, x, x) - mean.T @ mean
            value -= 0.5 * np.linalg.slogdet(information)[1]
            return value, slope
        return value, slope

    if penalised:
        found = minimize(lambda b: loss(b)[0], np.zeros(len(free)), method="BFGS", options={"gtol": 1e-7}).x
    else:
        found = minimize(loss, np.zeros(len(free)), jac=True, method="BFGS", options={"gtol": 1e-9}).x
        for _ in range(3):  # BFGS stops at rounding; Newton's steps with differences of the slope end it
            hessian = np.stack([(loss(found + d)[1] - loss(found - d)[1]) / 2e-5 for d in 1e-5 * np.eye(len(free))])
            found = found - np.linalg.solve(hessian, loss(found)[1])
    theta = np.r_[0, found[: m - 1 + outside]]
    return 1000 + ELO_PER_LOGIT * (theta - theta[:m].mean()), ELO_PER_LOGIT * found[m - 1 + outside :]


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("style", [False, True])
@pytest.mark.parametrize("reweight", [False, True])
def test_the_optimum_is_scipys(outside: bool, style: bool, reweight: bool) -> None:
    battles = some()
    weights = None
    if reweight:
        pair = np.minimum(battles.first, battles.second) * 99 + np.maximum(battles.first, battles.second)
        _, where, count = np.unique(pair, return_inverse=True, return_counts=True)
        weights = 1 / np.maximum(count[where], 50)
        weights /= weights.mean()
    ratings, points = plainly(battles, outside=outside, style=style, weights=weights)
    found = rated(battles, both_bad="outside" if outside else "tie", style=style, reweight=reweight)
    rows = {row.model: row for row in found.rows}
    for name, rating in zip(battles.models, ratings, strict=False):
        assert rows[name].rating == pytest.approx(rating, abs=1e-6)
    if outside:
        (option,) = (row for row in found.rows if row.outside)
        assert option.rating == pytest.approx(ratings[-1], abs=1e-6)
        assert (option.votes, option.both_bad) == (len(battles), int((battles.outcome == 3).sum()))
        assert option.low < option.rating < option.high
    assert [effect.points for effect in found.effects] == pytest.approx(points, abs=1e-6)


@pytest.mark.parametrize("outside", [False, True])
def test_firths_penalty_is_jeffreys_prior(outside: bool) -> None:
    battles = some(120, models=4)
    won = battles.first == 0  # model 0 never loses, and is never sent away
    outcome = np.where(won, 0, np.where(battles.second == 0, 1, battles.outcome)).astype(np.int8)
    battles = replace(battles, outcome=outcome)
    ratings, _ = plainly(battles, outside=outside, style=False, penalised=True)
    found = rated(battles, both_bad="outside" if outside else "tie")
    assert found.fit.penalised
    rows = {row.model: row.rating for row in found.rows}
    for name, rating in zip(battles.models, ratings, strict=False):
        assert rows[name] == pytest.approx(rating, abs=2e-3)


def test_two_models_and_neither_are_arithmetic() -> None:
    counts = [30, 20, 10, 40]  # a, b, tie, both bad
    battles = Battles(
        ("a", "b"),
        np.zeros(100, dtype=np.int32),
        np.ones(100, dtype=np.int32),
        np.repeat(np.arange(4), counts).astype(np.int8),
        np.full(100, -1, dtype=np.int32),
        np.full(100, -1, dtype=np.int64),
    )
    rows = {row.model: row for row in rated(battles, both_bad="outside").rows}
    a, b, neither = (rows[name].rating for name in ("a", "b", "neither (both are bad)"))
    assert a - b == pytest.approx(400 * np.log10(35 / 25), abs=1e-6)
    assert a - neither == pytest.approx(400 * np.log10(35 / 40), abs=1e-6)
    assert a + b == pytest.approx(2000, abs=1e-6)


@pytest.mark.parametrize("both_bad", ["tie", "outside"])
def test_style_does_not_depend_on_the_order_of_battles(both_bad: str) -> None:
    battles = some(voters=90)
    order = np.random.default_rng(1).permutation(len(battles))
    columns = {
        name: getattr(battles, name)[order] for name in ("first", "second", "outcome", "voter", "prompt", "style")
    }
    other = replace(battles, **columns)
    kinds = {"both_bad": both_bad, "style": True}
    assert rated(battles, **kinds).rows == rated(other, **kinds).rows  # type: ignore[arg-type]
    assert rated(battles, **kinds).effects == rated(other, **kinds).effects  # type: ignore[arg-type]


@pytest.mark.parametrize("style", [False, True])
@pytest.mark.parametrize("both_bad", ["tie", "outside"])
def test_the_clustered_sandwich_equals_a_bootstrap_over_voters(style: bool, both_bad: str) -> None:
    battles = some(2000, models=8, voters=150)
    kinds = {"both_bad": both_bad, "style": style}
    sandwich = rated(battles, **kinds)  # type: ignore[arg-type]
    drawn = rated(battles, **kinds, intervals="bootstrap", resamples=400)  # type: ignore[arg-type]
    for row, other in zip(sandwich.rows, drawn.rows, strict=True):
        assert other.rating == row.rating
        assert other.high - other.low == pytest.approx(row.high - row.low, rel=0.2)
    for effect, other_effect in zip(sandwich.effects, drawn.effects, strict=True):
        assert other_effect.high - other_effect.low == pytest.approx(effect.high - effect.low, rel=0.25)
    assert drawn.rows == rated(battles, **kinds, intervals="bootstrap", resamples=400).rows  # type: ignore[arg-type]
