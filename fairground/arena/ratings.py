"""Bradley-Terry ratings with intervals that stay true when one voter casts many votes.

The model (Bradley and Terry, 1952): P(i beats j) = 1 / (1 + exp(theta_j - theta_i)). `theta` is in logits; a rating is
1000 + (400 / ln 10) theta with the plain mean of all models' ratings at 1000, so that 400 points are odds of 10 to 1.

- A tie is half a win for each side.
- Both-bad ("neither answer was any good") is half a win each too, or with `both_bad="outside"` the choice of an option
  outside: the voter takes A, B or neither, with odds exp(theta_A) : exp(theta_B) : exp(theta_0) (Luce, 1959; McFadden,
  1974). The option then has a rating: where a voter is as likely to send both answers away as to prefer the first.
- Style control adds to the first's lead what the difference of the answers' styles is worth (LMSYS, 2024): length,
  headings, lists and bold, each as (a - b) / (a + b + 1), less its mean over all battles, in standard deviations. The
  mean is of the sides as they stood, so here alone it matters which answer stood on which.
- Intervals are in `fit.py` (sandwich, clustered by voter) and `bootstrap.py`.
- Where the maximum likelihood estimate does not exist (Ford, 1957: models split into two groups of which one never
  took a point from the other, as when a model won every battle), the likelihood is multiplied by Jeffreys' prior
  (Firth, 1993), whose maximum is always finite (Kosmidis and Firth, 2021). It acts as drawn games, one less than there
  are models in all, spread over the pairs that met by their leverage: one win in one battle is 1.5 to 0.5. `penalised`
  says so in every row; where the estimate exists it is the plain one, equal to everyone else's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fairground.arena.bootstrap import RESAMPLES, resampled
from fairground.arena.columns import BOTH_BAD, MODEL_A, MODEL_B, Battles, Floats, Ints, capped, columns
from fairground.arena.fit import Fit, fitted
from fairground.arena.groups import refuse_separate_groups
from fairground.arena.intervals import Intervals, bootstrap_intervals, sandwich_intervals
from fairground.arena.style import FEATURES
from fairground.arena.tally import BothBad, Tally, counted, tally
from fairground.errors import DataError
from fairground.types import Battle

ELO_PER_LOGIT = 400 / math.log(10)
ELO_MEAN = 1000.0
NEITHER = "neither (both are bad)"


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
    `outside`: this is no model but the option to take neither; `votes` are all battles, `win_rate` is how often it was
    taken, and its rank is where it would stand; models' ranks do not count it.
    `votes_to_flip`, `votes_to_drop`: see `robustness.py`; None where nobody asked, and in the last row.
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
    outside: bool = field(default=False, kw_only=True)
    votes_to_flip: int | None = field(default=None, kw_only=True)
    votes_to_drop: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class StyleEffect:
    """What it is worth, in points, that an answer's `style` differs by one standard deviation `unit` of (a - b) / (a +
    b + 1); with its 95% interval."""

    style: str
    points: float
    low: float
    high: float
    unit: float


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """All that a fit says: `rows`, best first; `effects` of style; the `battles` that were counted; and the `tally`
    and `fit` behind them, whose models are `battles.models`."""

    rows: list[Rating]
    effects: list[StyleEffect]
    battles: Battles
    tally: Tally
    fit: Fit


def rate(battles: Battles | Sequence[Battle]) -> list[Rating]:
    """Ratings of every model in `battles`, best first; equal ratings in order of name.

    The result does not depend, to the bit, on the order of the battles or on which side a model stood. Raises as
    `rated`, which has the options.
    """
    return rated(battles).rows


def rated(
    battles: Battles | Sequence[Battle],
    *,
    both_bad: BothBad = "tie",
    style: bool = False,
    ridge: float = 0.0,
    reweight: bool = False,
    intervals: Literal["sandwich", "bootstrap"] = "sandwich",
    prompt_cap: int | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Ratings:
    """What `rate` gives, with the fit behind it, the battles that were counted and the effects of style.

    With style, the result does not depend on the order of the battles, and on the sides a little. `ridge`: see
    `fitted`. `reweight`: see `tally`. `prompt_cap`: at most so many battles of one prompt, drawn by `seed`, which also
    draws the `resamples` of `intervals="bootstrap"`. Under style control, battles of unknown style (not a number) are
    left out.

    Raises DataError where there are no battles, a model meets itself, the models fall into groups that never met, or
    style cannot be controlled for.
    """
    if not isinstance(battles, Battles):
        battles = columns(battles)
    if prompt_cap is not None:
        battles = capped(battles, prompt_cap, seed)
    if style and battles.style is not None:
        unknown = np.isnan(battles.style[:, 0])
        battles = battles.only(~unknown) if unknown.any() else battles
    if not len(battles):
        raise DataError("There are no battles to rate, so no rating can be given; add at least one.")
    counts = tally(battles, both_bad, style, reweight)
    refuse_separate_groups(counts.choices, battles.models)
    fit = fitted(counts, ridge)
    if intervals == "bootstrap":
        around = bootstrap_intervals(fit, resampled(counts, seed, resamples))
    else:
        around = sandwich_intervals(fit)
    effects = [
        StyleEffect(
            style=FEATURES[which],
            points=float(ELO_PER_LOGIT * fit.style[k]),
            low=float(ELO_PER_LOGIT * around.style_low[k]),
            high=float(ELO_PER_LOGIT * around.style_high[k]),
            unit=counts.scale[k],
        )
        for k, which in enumerate(counts.coefficients)
    ]
    return Ratings(_rows(battles, fit, around), effects, battles, counts, fit)


def bradley_terry(first: Ints, second: Ints, points: Floats, cluster: Ints, names: Sequence[str]) -> Fit:
    """Fits B battles of n models given as arrays: the form for simulations.

    `first`, `second` [B]: indices into `names`. `points` [B]: what the first took, from 0 to 1. `cluster` [B]: any
    integers; equal ones belong together.

    Raises DataError where the models fall into groups that never met.
    """
    n = len(names)
    pair = np.minimum(first, second) * n + np.maximum(first, second)
    levels, level = np.unique(np.where(first < second, points, 1 - points), return_inverse=True)
    _, voter = np.unique(cluster, return_inverse=True)
    counts = counted(n, pair, level, np.stack([levels, 1 - levels]), voter, reweight=False)
    if len(counts.choices.first) < n * (n - 1) // 2:
        refuse_separate_groups(counts.choices, names)
    return fitted(counts)


def _rows(battles: Battles, fit: Fit, around: Intervals) -> list[Rating]:
    n = len(battles.models)
    outcome = battles.outcome.astype(np.int64)
    sides = (battles.first.astype(np.int64), battles.second.astype(np.int64))
    stood = [np.bincount(side * 4 + outcome, minlength=4 * n).reshape(n, 4) for side in sides]
    votes = (stood[0] + stood[1]).sum(axis=1)
    bad = stood[0][:, BOTH_BAD] + stood[1][:, BOTH_BAD]
    decided = stood[0][:, MODEL_A] + stood[1][:, MODEL_B]
    lost = stood[0][:, MODEL_B] + stood[1][:, MODEL_A]
    won = decided + (votes - decided - lost) / 2
    names = list(battles.models)
    if outside := len(fit.theta) > n:
        said = int((outcome == BOTH_BAD).sum())
        names.append(NEITHER)
        votes, bad, won = np.r_[votes, len(battles)], np.r_[bad, said], np.r_[won, said]

    better = around.surely[:n].sum(axis=0)
    worse = around.surely[:, :n].sum(axis=1)
    rating, low, high = (ELO_MEAN + ELO_PER_LOGIT * theta for theta in (fit.theta, around.low, around.high))
    rows = [
        Rating(
            model=name,
            rating=float(rating[i]),
            low=float(low[i]),
            high=float(high[i]),
            votes=int(votes[i]),
            rank_low=int(1 + better[i]),
            rank_high=int(n + (i == n) - worse[i]),
            win_rate=float(won[i] / votes[i]),
            both_bad=int(bad[i]),
            both_bad_share=float(bad[i] / votes[i]),
            penalised=fit.penalised,
            outside=outside and i == n,
        )
        for i, name in enumerate(names)
    ]
    # Rounded, so that models that are equal but for the last bits of a float stand in order of name.
    return sorted(rows, key=lambda row: (-round(row.rating, 6), row.model))
