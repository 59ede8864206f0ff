"""How few votes hold two neighbours in their order.

Dropping a battle moves a lead by about its influence, c' H^-1 s, where s is the battle's score and c the contrast of
the two models; so the battles are put in order of influence, as many are taken as together reach the lead, and the fit
without them says whether the order has really turned (Broderick, Giordano and Meager, 2020; of arenas: Huang, Shen,
Wei and Broderick, 2025). The number is thus an upper bound that was verified: so many votes are enough. An order that a
few votes in ten thousand turn is not to be leaned on, however narrow the intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from fairground.arena.bootstrap import CLOSE, by_chords
from fairground.arena.columns import Floats
from fairground.arena.likelihood import maximise, parts_that_met, strong_parts
from fairground.arena.ratings import Rating, Ratings
from fairground.arena.tally import Tally
from fairground.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class _Whole:
    """The fit of all votes: its tally, parameters [nodes] and their model-based covariance [nodes, nodes]."""

    tally: Tally
    parameters: Floats
    bread: Floats


def with_robustness(found: Ratings) -> list[Rating]:
    """The rows, each model's with what turns its order with the next model below it.

    `votes_to_drop`: so many votes, left out, put the next one above it. `votes_to_flip`: so many, had they gone the
    other way. None in the last row, and where no number does.

    Raises DataError for ratings under style control, whose votes are no longer alike.
    """
    tally = found.tally
    if len(tally.choices.style):
        raise DataError("Votes to flip are counted of ratings without style; leave out one of --style and --robust.")
    whole = _Whole(tally, found.fit.theta, found.fit.model_based)
    index = {name: i for i, name in enumerate(found.battles.models)}
    order = [row.model for row in found.rows if not row.outside]
    below = dict(pairwise(order))
    return [
        replace(
            row,
            votes_to_drop=votes_to_drop(whole, index[row.model], index[below[row.model]]),
            votes_to_flip=votes_to_flip(whole, index[row.model], index[below[row.model]]),
        )
        if row.model in below and not row.outside
        else row
        for row in found.rows
    ]


def votes_to_drop(whole: _Whole, upper: int, lower: int) -> int | None:
    """So many votes, left out, put `lower` (an index) above `upper`; None where no number does."""
    choices, count = whole.tally.choices, whole.tally.count
    away = -np.vstack([choices.took, choices.battles]) / count
    p = np.stack([choices.spread(row) for row in choices.merged().probabilities(whole.parameters)])
    return _fewest(whole, upper, lower, away, (choices.took - choices.battles * p) / count)


def votes_to_flip(whole: _Whole, upper: int, lower: int) -> int | None:
    """So many votes, had their winner been the loser, put `lower` above `upper`; None where no number does."""
    choices, count = whole.tally.choices, whole.tally.count
    turned = choices.took.copy()
    turned[:2] = choices.took[1::-1]
    change = (turned - choices.took) / count
    return _fewest(whole, upper, lower, np.vstack([change, np.zeros(len(count))]), -change)


def _fewest(whole: _Whole, upper: int, lower: int, change: Floats, push: Floats) -> int | None:
    """The fewest votes, the most influential first, whose change turns the order.

    `change` [3 or 4, o]: of `took` and then `battles`, by one vote of each observation. `push` [2 or 3, o]: what one
    vote's change takes from the score at its nodes.
    """
    choices, count = whole.tally.choices, whole.tally.count
    along = whole.bread[upper] - whole.bread[lower]
    at = (choices.first, choices.second, np.full_like(choices.first, choices.models))
    gain = np.zeros(len(count))
    for node, share in zip(at, push, strict=False):
        gain += choices.spread(along[node]) * share
    order = np.argsort(-gain, kind="stable")
    order = order[gain[order] > 1e-12]
    if not len(order):
        return None
    capacity = np.cumsum(count[order])
    lead = float(whole.parameters[upper] - whole.parameters[lower])
    reach = np.cumsum(count[order] * gain[order])

    def turned(votes: int) -> bool:
        taken = np.zeros(len(count))
        taken[order] = np.clip(votes - np.r_[0, capacity[:-1]], 0, count[order])
        changed = change * taken
        sample = replace(choices, took=choices.took + changed[:-1], battles=choices.battles + changed[-1]).merged()
        parameters = by_chords(sample, whole.parameters, whole.bread)
        if parameters is None:
            if parts_that_met(sample).any():
                return False
            parameters = maximise(sample, bool(strong_parts(sample).any()))
        return bool(parameters[upper] - parameters[lower] < -CLOSE)

    place = int(np.searchsorted(reach, lead))
    if place < len(order):
        before = float(reach[place - 1]) if place else 0.0
        taken = int(capacity[place - 1]) if place else 0
        guess = taken + max(1, int(np.ceil((lead - before) / gain[order[place]])))
    else:
        guess = int(capacity[-1])
    return _least(turned, min(guess, int(capacity[-1])), int(capacity[-1]))


def _least(holds: Callable[[int], bool], guess: int, most: int) -> int | None:
    """The least number from 1 to `most` from which on it holds, sought from a guess; None where it never does."""
    low, high, stride = 0, guess, max(1, guess // 50)
    while not holds(high):
        if high == most:
            return None
        low, high, stride = high, min(most, high + stride), stride * 2
    stride = max(1, high // 50)
    while low < high - 1:
        middle = max(low + 1, high - stride) if low == 0 else (low + high) // 2
        if holds(middle):
            high, stride = middle, stride * 2
        else:
            low = middle
    return high
