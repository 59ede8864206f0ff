"""Which two models meet next: the pair whose vote is expected to shrink the widest intervals most, and chance.

A vote on models i and j adds w x x' to the information H of a Bradley-Terry model, with x = e_i - e_j and
w = p (1 - p), p being the chance that i beats j. By Sherman and Morrison (1950) the covariance C = H^-1 becomes
C - w (C x)(C x)' / (1 + w x'Cx), so the weighted sum of the ratings' variances, sum_k d_k C_kk, falls by

    gain(i, j) = w |sqrt(d) C x|^2 / (1 + w x'Cx).

Always taking the largest gain is the greedy algorithm of optimal experimental design (Fedorov, 1972; Chernoff, 1953,
for models that are not linear, whose design is the optimal one at the current estimate). With all weights 1 it lowers
the mean variance (A-optimality). We take d_k = (v_k / max v)^8, v_k being the variance behind model k's interval as it
is reported: nearly the gradient of the largest variance, so votes go where the intervals are widest.

Taking the largest would make the next pair predictable, and a voter must not know who is behind the answers. So a
pair is drawn: with the published probability `uniform_share` evenly from all that are available, else in proportion to
gain^4. Every available pair thus has a known probability above zero, which is returned to be logged.

A newcomer has the widest interval of all and would be in every battle. Its boost is bounded: of the battles that are
not drawn evenly, pairs with a newcomer get `newcomer_share`, or what an even draw would give them where that is more,
as in a young arena of which most models are new.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairground.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
By = Literal["uniform", "information", "newcomer"]

UNIFORM_SHARE = 0.1
NEWCOMER_SHARE = 0.3
NEWCOMER_BATTLES = 100  # a model with fewer is a newcomer
PRIOR_BATTLES = 1.0  # each model's share of drawn games before the first vote, spread evenly over the others


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two models for a battle: `a` stands on the left. Indices.

    `probability`: of this pair, on either side, under the rule that drew it; log it with the battle.
    `by`: "uniform" where it was drawn evenly, "newcomer" where from pairs with a newcomer, else "information".
    """

    a: int
    b: int
    probability: float
    by: By


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """What n models' ratings are known by now, in logits.

    `theta` [n]; `covariance` [n, n], rows summing to zero; `information` [n, n]: p (1 - p) of each pair, zero on the
    diagonal. `inflation` [n]: by how much the variance behind each reported interval exceeds the covariance's diagonal.
    """

    theta: Floats
    covariance: Floats
    information: Floats
    inflation: Floats

    def after(self, a: int, b: int) -> Design:
        """The design once a vote on this pair is in, its outcome unknown: a rank-one update, in O(n^2).

        Use it when a battle is opened: battles that are opened together then do not all go to one pair.
        """
        column = self.covariance[:, a] - self.covariance[:, b]
        information = self.information[a, b]
        scale = information / (1 + information * (column[a] - column[b]))
        return replace(self, covariance=self.covariance - scale * np.outer(column, column))


def design(theta: Floats, counts: Ints, variance: Floats | None = None) -> Design:
    """The design after a fit. In O(n^3), so once a fit and not once a battle.

    `theta` [n]: logits; 0 for a model that has none yet. `counts` [n, n]: battles of each pair, symmetric.
    `variance` [n]: of the ratings as they are reported, squared half width over squared quantile (`Fit.half_widths`);
    where it is None or a model has no finite positive one, the model-based variance stands.

    Each model is taken to have drawn one more game, spread over the others, so that a start without votes is defined.
    """
    n = len(theta)
    p = expit(theta[:, None] - theta[None, :])
    information = np.maximum(p * (1 - p), 1e-6)  # above zero in single precision, whatever the lead
    np.fill_diagonal(information, 0)
    weights = (counts + PRIOR_BATTLES / max(n - 1, 1)) * information
    fill = weights.sum() / n**2
    covariance = np.linalg.inv(np.diag(weights.sum(axis=1)) - weights + fill) - 1 / (fill * n * n)
    covariance = (covariance + covariance.T) / 2
    inflation = np.ones(n)
    if variance is not None:
        known = np.isfinite(variance) & (variance > 0)
        inflation[known] = variance[known] / np.diag(covariance)[known]
    return Design(np.asarray(theta, dtype=np.float64), covariance, information, inflation)


def expected_gain(now: Design, models: Bools) -> Floats:
    """How much a vote on each pair of these `models` [n] is expected to shrink the weighted sum of their variances.

    [n, n]; zero elsewhere. In single precision, which is twice as fast; only ratios of gains matter.
    """
    variance = now.inflation * np.diag(now.covariance)
    weights = np.where(models, variance / variance[models].max(), 0) ** 8 * now.inflation
    covariance = now.covariance.astype(np.float32)
    information = now.information.astype(np.float32) * (models[:, None] & models[None, :])
    rows = covariance * np.sqrt(weights).astype(np.float32)[:, None]
    gain: Floats = information * _between(rows.T @ rows) / (1 + information * _between(covariance))
    return gain


def choose_pair(
    now: Design,
    counts: Ints,
    *,
    rng: np.random.Generator,
    available: Bools | None = None,
    uniform_share: float = UNIFORM_SHARE,
    newcomer_share: float = NEWCOMER_SHARE,
    newcomer_battles: int = NEWCOMER_BATTLES,
) -> Pairing:
    """Draws the next pair and which of the two stands on the left; the same `rng` state draws the same.

    `counts` [n, n]: battles of each pair, symmetric. `available` [n]: models that can answer now (None: all); or
    [n, n], symmetric: pairs that can meet.

    Raises DataError where no two models are available.
    """
    parts = _parts(now, counts, available, uniform_share, newcomer_share, newcomer_battles)
    by, _, sided = parts[_draw(np.array([share for _, share, _ in parts]), rng)]
    a, b = divmod(_draw(sided.ravel(), rng), len(now.theta))
    probability = 2 * sum(share * float(part[a, b]) for _, share, part in parts)  # on either side
    return Pairing(a, b, probability, by)


def pair_probabilities(
    now: Design,
    counts: Ints,
    *,
    available: Bools | None = None,
    uniform_share: float = UNIFORM_SHARE,
    newcomer_share: float = NEWCOMER_SHARE,
    newcomer_battles: int = NEWCOMER_BATTLES,
) -> Floats:
    """The probability of each pair in the next draw of `choose_pair`: [n, n], symmetric; its upper triangle sums to 1.

    Raises DataError where no two models are available.
    """
    parts = _parts(now, counts, available, uniform_share, newcomer_share, newcomer_battles)
    table: Floats = np.asarray(2 * sum(share * sided for _, share, sided in parts), dtype=np.float64)
    return table


def _parts(
    now: Design,
    counts: Ints,
    available: Bools | None,
    uniform_share: float,
    newcomer_share: float,
    newcomer_battles: int,
) -> list[tuple[By, float, Floats]]:
    """The rule's parts: their shares of the draws, and in each the probability of (left, right) [n, n]."""
    n = len(now.theta)
    on = np.ones(n, dtype=bool) if available is None else available
    all_open = (on if on.ndim == 2 else on[:, None] & on[None, :]) & ~np.eye(n, dtype=bool)
    in_play: Bools = np.asarray(all_open.any(axis=1))
    if not in_play.any():
        raise DataError(
            f"No two of the {n} models are available, and a battle needs two; wait for an engine, or add a model."
        )
    parts: list[tuple[By, float, Floats]] = [("uniform", uniform_share, all_open / float(all_open.sum()))]
    settled: Bools = in_play & (counts.sum(axis=1) >= newcomer_battles)
    among_settled = all_open & settled[:, None] & settled[None, :]
    if among_settled.any() and not settled[in_play].all():
        share = max(newcomer_share, 1 - float(among_settled.sum() / all_open.sum()))
        with_new = _sharpened(expected_gain(now, in_play), all_open & ~among_settled)
        informative = _sharpened(expected_gain(now, settled), among_settled)
        parts.append(("information", (1 - uniform_share) * (1 - share), informative))
        parts.append(("newcomer", (1 - uniform_share) * share, with_new))
    else:
        parts.append(("information", 1 - uniform_share, _sharpened(expected_gain(now, in_play), all_open)))
    return parts


def _sharpened(gain: Floats, where: Bools) -> Floats:
    """Probabilities [n, n] in proportion to gain^4, of these pairs."""
    gain = gain * where
    sharp = np.square(np.square(gain / gain.max()))
    probabilities: Floats = sharp / float(sharp.sum())
    return probabilities


def _draw(weights: NDArray[Any], rng: np.random.Generator) -> int:
    reached = np.cumsum(weights, dtype=np.float64)
    return int(np.searchsorted(reached, rng.random() * reached[-1], side="right"))


def _between(matrix: NDArray[Any]) -> NDArray[Any]:
    """x' matrix x for every pair, x = e_i - e_j."""
    diagonal = np.diag(matrix)
    between: NDArray[Any] = diagonal[:, None] + diagonal[None, :] - 2 * matrix
    return between
