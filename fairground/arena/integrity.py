"""Tests of one voter's votes: does this person vote for (or against) one model, whatever it answers?

Five tests look at every model as a possible target, over the voter's whole life, vote by vote. Together they raise an
alarm about an honest voter with probability 1% at most, however often one looks. Nothing is deleted: an alarm is a
reason to put a voter's votes aside until a steward has looked.

An honest voter has tastes. For each model the log-odds that they prefer it are off the community's by a normal amount
of standard deviation `taste`; they may lean to the left or right answer, and call any share of battles a tie. With p
the chance that the left answer is preferred and l = min(p, 1 - p), they vote tie (or both-bad) with probability 2 t l,
else for what they prefer; so ties take as much from either side, and the expected points are p. The lean is normal,
the share t even on [0, 1], and both are integrated out.

- Likelihood ratio. Under the alternative, the log-odds for the target are off by 1.5 to 7 either way. Numerator and
  denominator are averages over what is unknown, so under the null the ratio is a martingale of mean 1, and exceeds
  1/a at any time with probability a at most (Ville, 1939; Robbins, 1970; Ramdas et al., 2023, section 3). Tastes for
  the target's opponents are left out of both, which is an approximation; they are many and cancel.
- Excess wins. The number of the target's wins is a sum of independent unequal coins (Poisson's binomial); its tail is
  exact, averaged over taste, and ties are taken to be possible but never used, which is the null with most wins. It is
  looked at after 5, 10, 20, 40, ... votes, the k-th look with 1/(k (k + 1)) of the alarm rate.
- Selection. An honest voter does not know who answers, so whether they vote in a battle that they opened hardly depends
  on whether the target is in it: their odds of voting are at most `SELECTION_ODDS` times as high. Beta mixtures over
  the best null likelihood are an e-process for every rate of voting (Wasserman, Ramdas and Balakrishnan, 2020,
  section 7).
- Both. The product of the likelihood ratio and the selection test's e-value: which battles a voter votes in, and what
  they say there, are evidence beside each other.
- Several. The same for two to five models at once, as where one is to rise and its rivals are to fall: the selection
  test for battles with any of them, and the mean of it and its product with their joint likelihood ratio. They are the
  models in whose battles the voter voted most often; the correction counts all sets of their size.

Each test has a fifth of the alarm rate, and each model an equal part of that (Bonferroni), or each set of a quarter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, expit, xlogy

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]
Test = Literal["likelihood ratio", "excess wins", "selection", "likelihood ratio and selection", "several models"]
Finding = tuple[float, Test, tuple[int, ...], float]  # p, corrected for all models, the test, models and statistic

ALARM_RATE = 0.01  # per honest voter, over their life
TASTE = 0.5  # logits: standard deviation of an honest voter's own preference for a model
SIDE_LEAN = 0.5  # logits: standard deviation of an honest voter's lean to the left answer
SELECTION_ODDS = 2.0
FIRST_LOOK = 5  # votes on a model, then twice as many, and so on
NO_VOTE = -1  # outcome of a battle that was opened and left

_BIASES = np.array([-7.0, -4.0, -2.5, -1.5, 1.5, 2.5, 4.0, 7.0])
_TESTS = 5
_SIZES = (2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests say of a voter.

    `suspect`: an alarm. `test`, `target`: the test that says most, and the model it says it of (an index, the first
    of several; -1 where there are no votes). `statistic`: the natural logarithm of the largest likelihood ratio or
    e-value, or the number of wins. `p`: valid at any time, corrected for all tests and models; an alarm is p <= the
    alarm rate. `said`: a sentence.
    """

    suspect: bool
    test: Test
    target: int
    statistic: float
    p: float
    said: str


def judge_voter(
    first: Ints,
    second: Ints,
    outcome: Ints,
    theta: Floats,
    *,
    variance: Floats | None = None,
    names: Sequence[str] | None = None,
    alarm_rate: float = ALARM_RATE,
    taste: float = TASTE,
    targets: Sequence[int] | None = None,
) -> Verdict:
    """Tests one voter's battles, in the order of voting.

    `first`, `second` [n]: who stood left and right, as indices into theta. `outcome` [n]: 0 left, 1 right, 2 tie,
    3 both bad, -1 opened and left without a vote (give these where they are known: the selection test needs them).
    `theta` [m]: logits, fitted without this voter (`theta_without`). `variance` [m]: of theta, so that a young
    leaderboard accuses nobody for its own errors. `names` [m]: for the sentence. `targets`: look at these models only
    (None: all that were voted on); p is corrected for all m either way.
    """
    m = len(theta)
    voted = outcome != NO_VOTE
    a, b, said = first[voted], second[voted], outcome[voted]
    met = np.unique(np.concatenate([a, b]))
    if targets is not None:
        met = np.intersect1d(met, np.asarray(targets))
    if not len(met):
        return Verdict(False, "likelihood ratio", -1, 0.0, 1.0, "There are no votes to test.")
    spread = np.sqrt(taste**2 * m / max(m - 1, 1) + (np.zeros(m) if variance is None else variance))
    lead = theta[a] - theta[b]
    plain = _log_likelihood(lead[:, None] + _LEAN, _TIE, (said == 0)[:, None], (said == 1)[:, None])
    life = np.cumsum(plain, axis=0) + _GRID_WEIGHT  # [votes, grid]
    found: list[Finding] = []
    for target in met:
        (at,) = np.nonzero((a == target) | (b == target))
        sign = np.where(a[at] == target, 1.0, -1.0)
        won, lost = said[at] == np.where(sign > 0, 0, 1), said[at] == np.where(sign > 0, 1, 0)
        biased, tasteful = _shifted(sign * lead[at], sign, won, lost, plain[at], float(spread[target]))
        ratio = _log_sum(life[at] + biased) - _log_sum(life[at] + tasteful)
        one = (int(target),)
        found.append(_finding("likelihood ratio", one, ratio, m))
        found.append(_excess_wins(one, sign * lead[at], won, float(spread[target]), m))
        if not voted.all():
            selection = _selection((first == target) | (second == target), voted)
            found.append(_finding("selection", one, selection, m))
            joint = ratio + selection[np.flatnonzero(voted)[at]]
            found.append(_finding("likelihood ratio and selection", one, joint, m))
    if not voted.all():
        found += _several(first, second, outcome, lead, plain, life, spread)
    p, test, models, statistic = min(found)
    p = min(1.0, p * _TESTS)
    sentence = _said(first, second, outcome, theta, models, names)
    return Verdict(
        p <= alarm_rate, test, models[0], statistic, p, f"{sentence}; {test}, p = {p:.2g} over the whole life."
    )


def _said(
    first: Ints, second: Ints, outcome: Ints, theta: Floats, models: tuple[int, ...], names: Sequence[str] | None
) -> str:
    """How the voter voted on these models, in numbers."""
    voted = outcome != NO_VOTE
    present = np.isin(first, models) | np.isin(second, models)
    called = ", ".join(f"model {model}" if names is None else repr(names[model]) for model in models)
    said = f"Of {int(voted.sum())} votes, {int((voted & present).sum())} are on {called}"
    if len(models) == 1:
        sign = ((first == models[0]).astype(np.int64) - (second == models[0]))[voted & present]
        lead = (theta[first] - theta[second])[voted & present]
        wins = int((outcome[voted & present] == np.where(sign > 0, 0, 1)).sum())
        said += f", which won {wins} where at most {expit(sign * lead).sum():.1f} were expected"
    if not voted.all():
        without = voted[~present].mean() if (~present).any() else 0
        them = "it" if len(models) == 1 else "any of them"
        said += f"; votes were cast in {voted[present].mean():.0%} of the battles with {them} "
        said += f"and in {without:.0%} of others"
    return said


def theta_without(theta: Floats, covariance: Floats, first: Ints, second: Ints, points: Floats) -> Floats:
    """The ratings without one voter's votes: one Newton step from the fit with them (Pregibon, 1981), [m] of mean zero.

    `theta` [m] and `covariance` [m, m] (model-based) are the fit's, with them; `points` [n] is what the first took. The
    step is exact to first order in the voter's share of the information. Models that nobody else voted on keep theirs.
    """
    m = len(theta)
    p = expit(theta[first] - theta[second])
    score, taken = np.zeros(m), np.zeros((m, m))
    np.add.at(score, first, points - p)
    np.add.at(score, second, p - points)
    np.add.at(taken, (first, second), p * (1 - p))
    taken += taken.T
    # (H - T)^-1 = C (I - T C)^-1 on the space of mean zero, where C is H's pseudo-inverse; least squares, because
    # H - T is singular where only this voter voted on a model.
    laplacian = np.diag(taken.sum(axis=1)) - taken
    step: Floats = covariance @ np.linalg.lstsq(np.eye(m) - laplacian @ covariance, score, rcond=1e-9)[0]
    moved: Floats = theta - step + step.mean()
    return moved


def poisson_binomial_tail(p: Floats, at_least: int) -> Floats:
    """P(at least so many successes) of independent coins `p` [..., n], exactly: [...]."""
    mass = np.zeros((*p.shape[:-1], p.shape[-1] + 1))
    mass[..., 0] = 1
    for i in range(p.shape[-1]):
        coin = p[..., i, None]
        mass[..., 1 : i + 2] = mass[..., 1 : i + 2] * (1 - coin) + mass[..., : i + 1] * coin
        mass[..., 0] *= 1 - coin[..., 0]
    tail: Floats = mass[..., at_least:].sum(axis=-1)
    return tail


def _normal(points: int) -> tuple[Floats, Floats]:
    """Nodes and weights of the standard normal (Gauss and Hermite)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    return nodes, weights / weights.sum()


def _unknowns() -> tuple[Floats, Floats, Floats]:
    """Lean and tie share on a grid [g], and its log weights [g]."""
    lean, lean_weight = _normal(5)
    tie, tie_weight = np.polynomial.legendre.leggauss(5)
    grid = np.meshgrid(SIDE_LEAN * lean, (1 + tie) / 2, indexing="ij")
    return grid[0].ravel(), grid[1].ravel(), np.log(np.outer(lean_weight, tie_weight / 2)).ravel()


_LEAN, _TIE, _GRID_WEIGHT = _unknowns()
_TASTE_NODE, _TASTE_WEIGHT = _normal(9)
_FINE_NODE, _FINE_WEIGHT = _normal(21)


def _log_likelihood(lead: Floats, tie: Floats, won: Bools, lost: Bools) -> Floats:
    """Of a vote, by the lead in logits of the model that `won` and `lost` are about; all broadcast together."""
    p, low = expit(lead), expit(-np.abs(lead))
    chance = np.where(won, p - tie * low, np.where(lost, 1 - p - tie * low, 2 * tie * low))
    logarithm: Floats = np.log(np.maximum(chance, 1e-12))
    return logarithm


def _finding(test: Test, models: tuple[int, ...], evidence: Floats, hypotheses: float) -> Finding:
    """One over the largest e-value of the voter's life, for one of so many hypotheses."""
    largest = float(evidence.max())
    return hypotheses * math.exp(-max(largest, 0.0)), test, models, largest


def _shifted(
    lead: Floats, sign: Floats, won: Bools, lost: Bools, plain: Floats, spread: float
) -> tuple[Floats, Floats]:
    """How much likelier (log) the votes on a target are with a bias, and with a taste, than without: twice [k, grid].

    After each of k votes. `lead` [k]: the target's; `sign` [k]: 1 where it stood left, -1 right; `plain` [k, grid]:
    the votes' log-likelihood without either.
    """
    off = np.concatenate([_BIASES, spread * _TASTE_NODE])
    shifted = (lead[:, None] + sign[:, None] * _LEAN)[:, :, None] + off
    likelihood = _log_likelihood(shifted, _TIE[:, None], won[:, None, None], lost[:, None, None])
    gain = np.cumsum(likelihood - plain[:, :, None], axis=0)
    biased, tasteful = gain[:, :, : len(_BIASES)], gain[:, :, len(_BIASES) :]
    return _log_sum(biased) - math.log(len(_BIASES)), _log_sum(tasteful + np.log(_TASTE_WEIGHT))


def _log_sum(logarithms: Floats) -> Floats:
    """log of the sum of exponentials along the last axis."""
    largest = logarithms.max(axis=-1, keepdims=True)
    summed: Floats = np.log(np.exp(logarithms - largest).sum(axis=-1)) + largest[..., 0]
    return summed


def _excess_wins(target: tuple[int, ...], lead: Floats, won: Bools, spread: float, hypotheses: float) -> Finding:
    """The smallest tail of a target's wins over the looks, corrected for looking more than once."""
    found: list[Finding] = [(hypotheses, "excess wins", target, float(won.sum()))]
    look, n = 1, FIRST_LOOK
    while n <= len(lead):
        wins = int(won[:n].sum())
        tail = float(_FINE_WEIGHT @ poisson_binomial_tail(expit(lead[:n] + spread * _FINE_NODE[:, None]), wins))
        found.append((tail * look * (look + 1) * hypotheses, "excess wins", target, float(wins)))
        look, n = look + 1, 2 * n
    return min(found)


def _several(
    first: Ints, second: Ints, outcome: Ints, lead: Floats, plain: Floats, life: Floats, spread: Floats
) -> list[Finding]:
    """Of two to five models at once. A vote on two of them counts for the one of lower index."""
    m, voted = len(spread), outcome != NO_VOTE
    a, b, said = first[voted], second[voted], outcome[voted]
    votes = np.bincount(a, minlength=m) + np.bincount(b, minlength=m)
    battles = np.bincount(first, minlength=m) + np.bincount(second, minlength=m)
    order = np.argsort(-(votes + 0.5) / (battles + 1), kind="stable")
    found: list[Finding] = []
    for size in (size for size in _SIZES if size < m - 1):
        models = tuple(sorted(int(model) for model in order[:size]))
        free = np.ones(len(a), dtype=bool)
        biased, tasteful = np.zeros_like(plain), np.zeros_like(plain)  # steps, vote by vote
        for target in models:
            (at,) = np.nonzero(free & ((a == target) | (b == target)))
            if not len(at):
                continue
            free[at] = False
            sign = np.where(a[at] == target, 1.0, -1.0)
            won, lost = said[at] == np.where(sign > 0, 0, 1), said[at] == np.where(sign > 0, 1, 0)
            own = _shifted(sign * lead[at], sign, won, lost, plain[at], float(spread[target]))
            for total, steps in zip((biased, tasteful), own, strict=True):
                total[at] = np.diff(steps, axis=0, prepend=0)
        selection = _selection(np.isin(first, models) | np.isin(second, models), voted)[voted]
        ratio = _log_sum(life + np.cumsum(biased, axis=0)) - _log_sum(life + np.cumsum(tasteful, axis=0))
        evidence = selection + np.logaddexp(0, ratio) - math.log(2)
        found.append(_finding("several models", models, evidence, math.comb(m, size) * len(_SIZES)))
    return found


def _selection(present: Bools, voted: Bools) -> Floats:
    """log e-value after each opened battle [n] against voting that hardly depends on the target's presence [n]."""
    v1, s1, v0, s0 = (
        np.cumsum(part) for part in (present & voted, present & ~voted, ~present & voted, ~present & ~voted)
    )
    mixture = betaln(v1 + 0.5, s1 + 0.5) + betaln(v0 + 0.5, s0 + 0.5) - 2 * betaln(0.5, 0.5)
    v, s, ratio = v1 + v0, s1 + s0, SELECTION_ODDS
    # The likeliest null: the free estimate where that is one; else odds(with) = ratio x and odds(without) = x, whose
    # score equation (v1 + s1) ratio x / (1 + ratio x) + (v0 + s0) x / (1 + x) = v is a quadratic in x.
    middle = (v1 + s1) * ratio + v0 + s0 - v * (ratio + 1)
    x = (-middle + np.sqrt(middle**2 + 4 * ratio * s * v)) / (2 * ratio * np.maximum(s, 1))
    free = v1 * s0 <= ratio * v0 * s1
    r1 = np.where(free, v1 / np.maximum(v1 + s1, 1), np.where(s > 0, ratio * x / (1 + ratio * x), 1))
    r0 = np.where(free, v0 / np.maximum(v0 + s0, 1), np.where(s > 0, x / (1 + x), 1))
    evidence: Floats = mixture - xlogy(v1, r1) - xlogy(s1, 1 - r1) - xlogy(v0, r0) - xlogy(s0, 1 - r0)
    return evidence
