"""Bradley-Terry ratings with intervals that stay true when one voter casts many votes.

The model (Bradley and Terry, 1952): P(i beats j) = 1 / (1 + exp(theta_j - theta_i)). `theta` is in logits; a rating is
1000 + (400 / ln 10) theta with the plain mean of all models' ratings at 1000, so that 400 points are odds of 10 to 1.

- A tie is half a win for each side.
- Both-bad ("neither answer was any good") is kept and counted. In this first slice it moves the ratings exactly as a
  tie does, and its number and share are reported beside each model; measuring it against an outside option, which is
  what voters mean by it, comes later.
- Intervals are 95% and from the sandwich covariance H^-1 M H^-1, where H is the information and M the sum over clusters
  of the outer products of their scores (White, 1982; Liang and Zeger, 1986). A cluster is a voter, or a single battle
  where no voter is given. M is multiplied by G / (G - 1) for G clusters, and the quantile is Student's with G - 1
  degrees of freedom (Cameron and Miller, 2015, section VI).
- The sandwich is blind where there is little to see: a model with a single tie has residual zero, and one voter alone
  has a score of zero. So no interval that concerns a model on which fewer than 30 clusters have a score other than zero
  (or any model, where there are no more clusters than models) is narrower than the model-based one, from H^-1, which
  bounds it from above where battles are independent, because a tie varies less than a win or a loss.
- Where the maximum likelihood estimate does not exist (Ford, 1957: models split into two groups of which one never
  took a point from the other, as when a model won every battle), the likelihood is multiplied by Jeffreys' prior
  (Firth, 1993), whose maximum is always finite (Kosmidis and Firth, 2021). It acts as drawn games, one less than there
  are models in all, spread over the pairs that met by their leverage: one win in one battle is 1.5 to 0.5. `penalised`
  says so in every row; where the estimate exists it is the plain one, equal to everyone else's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, log_expit, ndtri, stdtrit

from fairground.errors import DataError
from fairground.types import Battle, Winner

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ELO_PER_LOGIT = 400 / math.log(10)
ELO_MEAN = 1000.0
FEW_CLUSTERS = 30  # below 30 to 50 clusters a sandwich is too narrow (Cameron and Miller, 2015)

_POINTS: dict[Winner, float] = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "both_bad": 0.5}


@dataclass(frozen=True, slots=True)
class Rating:
    """One model's place among the others.

    `rating`, `low`, `high`: Elo scale, 95% interval of the distance from the mean of all models (1000).
    `votes`: battles it took part in, ties and both-bad included.
    `rank_low`: 1 + the number of models surely better; `rank_high`: the number of models - those surely worse. Surely
    means that the 95% interval of the difference of the two ratings, from their joint covariance, leaves out zero; two
    models' own intervals may overlap and their order still be sure. Each pair is judged by itself.
    `win_rate`: wins plus half the ties and half the both-bad, as a share of `votes`.
    `both_bad`, `both_bad_share`: how many of its battles ended so, and as a share of `votes`.
    `penalised`: whether the whole table needed Firth's penalty because the plain estimate is infinite.
    """

    model: str
    rating: float
    low: float
    high: float
    votes: int
    rank_low: int
    rank_high: int
    win_rate: float
    both_bad: int
    both_bad_share: float
    penalised: bool


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted Bradley-Terry model of n models, in logits.

    `theta` [n] has mean zero. `sandwich` and `model_based` [n, n] are covariances of `theta`; their rows sum to zero,
    so the diagonal is the variance of a model's distance from the mean. `floored` [n]: models whose intervals are never
    narrower than the model-based one. `clusters`: how many there were.
    """

    theta: Floats
    sandwich: Floats
    model_based: Floats
    floored: NDArray[np.bool_]
    clusters: int
    penalised: bool

    def half_widths(self) -> tuple[Floats, Floats]:
        """Half the 95% intervals, in logits: of each `theta` [n], and of each difference theta_i - theta_j [n, n]."""
        quantile = stdtrit(self.clusters - 1, 0.975) if self.clusters > 1 else 0.0
        floor = ndtri(0.975)
        either = self.floored[:, None] | self.floored[None, :]
        own = quantile * np.sqrt(np.diag(self.sandwich).clip(0))
        own_floor = floor * np.sqrt(np.diag(self.model_based).clip(0))
        pair = quantile * np.sqrt(_contrast_variance(self.sandwich))
        pair_floor = floor * np.sqrt(_contrast_variance(self.model_based))
        return (
            np.where(self.floored, np.maximum(own, own_floor), own),
            np.where(either, np.maximum(pair, pair_floor), pair),
        )


def rate(battles: Sequence[Battle]) -> list[Rating]:
    """Ratings of every model in `battles`, best first; equal ratings in order of name.

    The result does not depend, to the bit, on the order of the battles or on which side a model stood.

    Raises DataError where there are no battles, a model meets itself, or the models fall into groups that never met.
    """
    if not battles:
        raise DataError("There are no battles to rate, so no rating can be given; add at least one.")
    names = sorted({battle.model_a for battle in battles} | {battle.model_b for battle in battles})
    first, second, points, cluster, both_bad = _arrays(battles, names)
    fit = bradley_terry(first, second, points, cluster, names)

    n = len(names)
    votes = np.bincount(first, minlength=n) + np.bincount(second, minlength=n)
    bad = np.bincount(first[both_bad], minlength=n) + np.bincount(second[both_bad], minlength=n)
    won = np.bincount(first, points, minlength=n) + np.bincount(second, 1 - points, minlength=n)

    half, pair_half = fit.half_widths()
    lead = fit.theta[:, None] - fit.theta[None, :]
    surely_better = (lead < -pair_half).sum(axis=1)
    surely_worse = (lead > pair_half).sum(axis=1)
    rating = ELO_MEAN + ELO_PER_LOGIT * fit.theta
    half = ELO_PER_LOGIT * half
    rows = [
        Rating(
            model=name,
            rating=float(rating[i]),
            low=float(rating[i] - half[i]),
            high=float(rating[i] + half[i]),
            votes=int(votes[i]),
            rank_low=int(1 + surely_better[i]),
            rank_high=int(n - surely_worse[i]),
            win_rate=float(won[i] / votes[i]),
            both_bad=int(bad[i]),
            both_bad_share=float(bad[i] / votes[i]),
            penalised=fit.penalised,
        )
        for i, name in enumerate(names)
    ]
    # Rounded, so that models that are equal but for the last bits of a float stand in order of name.
    return sorted(rows, key=lambda row: (-round(row.rating, 6), row.model))


def bradley_terry(first: Ints, second: Ints, points: Floats, cluster: Ints, names: Sequence[str]) -> Fit:
    """Fits B battles of n models given as arrays: the form for simulations, and what `rate` calls.

    `first`, `second` [B]: indices into `names`. `points` [B]: what the first took, from 0 to 1. `cluster` [B]: any
    integers; equal ones belong together.

    Raises DataError where the models fall into groups that never met.
    """
    n = len(names)
    table = np.zeros((n, n))  # table[i, j]: points that i took from j; sums of halves, so exact in any order
    np.add.at(table, (first, second), points)
    np.add.at(table, (second, first), 1 - points)
    _refuse_separate_groups(table, names)
    groups, group = connected_components(table > 0, directed=True, connection="strong")
    penalised = groups > 1
    theta = _maximise(table, penalised)
    p = expit(theta[:, None] - theta[None, :])
    inverse = _laplacian_inverse((table + table.T) * p * (1 - p))

    labels, row = np.unique(cluster, return_inverse=True)
    residual = points - p[first, second]
    rows, columns = np.concatenate([row, row]), np.concatenate([first, second])
    scores = coo_array((np.concatenate([residual, -residual]), (rows, columns)), shape=(len(labels), n)).tocsr()
    meat = (scores.T @ scores).toarray() * (len(labels) / max(len(labels) - 1, 1))
    # A cluster whose score is zero (a tie of equals, a win and a loss that cancel) shows nothing of how votes scatter.
    seen_by = np.bincount(scores.indices[np.abs(scores.data) > 1e-9], minlength=n)

    sizes = np.bincount(group)
    # A model that never lost has residuals near zero whatever its true strength, so the sandwich says nothing of it.
    settled = sizes[group] == sizes.max() if (sizes == sizes.max()).sum() == 1 else np.zeros(n, dtype=bool)
    return Fit(
        theta=theta,
        sandwich=inverse @ meat @ inverse,
        model_based=inverse,
        floored=(seen_by < FEW_CLUSTERS) | ~settled | (len(labels) <= n),
        clusters=len(labels),
        penalised=penalised,
    )


def _arrays(battles: Sequence[Battle], names: Sequence[str]) -> tuple[Ints, Ints, Floats, Ints, NDArray[np.bool_]]:
    """first, second, points, cluster and both-bad, each [B], in an order that depends on the set of battles only."""
    index = {name: i for i, name in enumerate(names)}
    voters = {voter: i for i, voter in enumerate(sorted({b.voter for b in battles if b.voter is not None}))}
    a = np.array([index[battle.model_a] for battle in battles], dtype=np.int64)
    b = np.array([index[battle.model_b] for battle in battles], dtype=np.int64)
    if (a == b).any():
        name = names[a[np.argmax(a == b)]]
        raise DataError(f"{name!r} is set against itself in a battle, which says nothing; remove that battle.")
    points = np.array([_POINTS[battle.winner] for battle in battles])
    voter = np.array([-1 if battle.voter is None else voters[battle.voter] for battle in battles], dtype=np.int64)
    both_bad = np.array([battle.winner == "both_bad" for battle in battles])

    first, second, points = np.minimum(a, b), np.maximum(a, b), np.where(a < b, points, 1 - points)
    order = np.lexsort((both_bad, voter, points, second, first))
    voter = voter[order]
    cluster = np.where(voter < 0, len(voters) + np.arange(len(voter)), voter)
    return first[order], second[order], points[order], cluster, both_bad[order]


def _refuse_separate_groups(table: Floats, names: Sequence[str]) -> None:
    parts, part = connected_components((table + table.T) > 0, directed=False)
    if parts > 1:
        members = [names[int(np.argmax(part == k))] for k in range(min(parts, 8))]
        named = ", ".join(repr(name) for name in members) + (", ..." if parts > len(members) else "")
        raise DataError(
            f"The battles fall into {parts} groups of models that never met, so no scale joins them (one model of "
            f"each: {named}); rate each group alone, or add battles between them."
        )


def _laplacian_inverse(weights: Floats) -> Floats:
    """The Moore-Penrose inverse of diag(row sums) - weights [n, n]: the information on the space of mean zero.

    The null space of a connected graph's Laplacian is the constant vector; filling it with the Laplacian's own scale
    makes an invertible matrix, and taking the filling out again leaves the pseudo-inverse.
    """
    n = len(weights)
    scale = weights.sum() / n
    inverse: Floats = np.linalg.inv(np.diag(weights.sum(axis=1)) - weights + scale / n) - 1 / (scale * n)
    return (inverse + inverse.T) / 2


def _contrast_variance(covariance: Floats) -> Floats:
    """Variances of all differences, [n, n], from a covariance [n, n]; rounding below zero is cut off."""
    diagonal = np.diag(covariance)
    variance: Floats = diagonal[:, None] + diagonal[None, :] - 2 * covariance
    return variance.clip(0)


def _maximise(table: Floats, penalised: bool) -> Floats:
    """The (penalised) maximum likelihood estimate [n], mean zero, by Newton's method with step halving.

    Firth's adjusted score for a logit model is y - p + h (1/2 - p), h being the leverage; so each pair gets h drawn
    games, computed anew at every step (Firth, 1993, section 3; Heinze and Schemper, 2002, equation 3).
    """
    games = table + table.T
    n = len(table)

    def objective(theta: Floats) -> float:
        lead = theta[:, None] - theta[None, :]
        value = float((table * log_expit(lead)).sum())
        if penalised:
            weights = games * expit(lead) * expit(-lead)
            value += 0.5 * float(np.linalg.slogdet(np.diag(weights.sum(axis=1)) - weights + 1 / n)[1])
        return value

    theta = np.zeros(n)
    value = objective(theta)
    for _ in range(1000):
        p = expit(theta[:, None] - theta[None, :])
        weights = games * p * (1 - p)
        drawn = weights * _contrast_variance(_laplacian_inverse(weights)) if penalised else np.zeros_like(games)
        score = (table + drawn / 2 - (games + drawn) * p).sum(axis=1)
        step = _laplacian_inverse(weights + drawn * p * (1 - p)) @ score
        if np.abs(step).max() < 1e-10:  # logits: 2e-8 points
            return theta
        # A leap of many logits lands where the likelihood is flat to the last bit, and there is no way back.
        size = min(1.0, 2 / float(np.abs(step).max()))
        while (moved := objective(theta + size * step)) < value - 1e-12 * abs(value) and size > 1e-9:
            size /= 2
        theta = theta + size * step
        theta -= theta.mean()
        value = moved
    raise DataError(
        "The ratings did not settle in 1000 steps, so none is given; look for a damaged row in the battles."
    )
