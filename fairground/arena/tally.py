"""Battles counted: equal ones together, each with its voters, in an order that depends on what they say alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fairground.arena.columns import BOTH_BAD, MODEL_A, MODEL_B, POINTS, Battles, Floats, Ints, hashed
from fairground.arena.likelihood import Choices
from fairground.errors import DataError

BothBad = Literal["tie", "outside"]
LEAST_PAIR_COUNT = 50  # battles of a pair below which a smaller number gives them no more weight, as arena-rank has it

# What the first, the second and neither took, by outcome: model_a, model_b, tie, both_bad.
_TOOK = np.stack([POINTS, 1 - POINTS])
_TOOK_OUTSIDE = np.array([[1.0, 0.0, 0.5, 0.0], [0.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Observations and whose they are.

    `choices`: o observations; `count` [o]: how many battles each stands for. `alone` [o]: how many of those are a
    cluster of their own. `voters` [G, o]: how many of them were cast by each of the G voters who cast several.
    `coefficients` [k]: which of the styles given the rows of `choices.style` are; `scale` [k]: one unit of theirs, a
    standard deviation.
    """

    choices: Choices
    count: Ints
    alone: Ints
    voters: csr_array
    coefficients: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def clusters(self) -> int:
        return int(self.alone.sum() + self.voters.shape[0])


def tally(battles: Battles, both_bad: BothBad, style: bool, reweight: bool) -> Tally:
    """The battles counted, for a likelihood in which a both-bad vote is half a win each or the choice of neither.

    With `style`, each battle stands by itself. With `reweight`, each pair of models has the same say: a battle weighs
    1 / (battles of its pair, at least 50), scaled so that the mean weight is 1 (LMSYS's reweighting).

    Raises DataError where a model meets itself, or there is no style to control for.
    """
    n = len(battles.models)
    a, b = battles.first.astype(np.int64), battles.second.astype(np.int64)
    if (a == b).any():
        name = battles.models[a[np.argmax(a == b)]]
        raise DataError(f"{name!r} is set against itself in a battle, which says nothing; remove that battle.")
    turned = a > b
    outcome = battles.outcome.astype(np.int64)
    outcome = np.where(turned & (outcome <= MODEL_B), MODEL_A + MODEL_B - outcome, outcome)
    pair = np.where(turned, b * n + a, a * n + b)
    levels = _TOOK_OUTSIDE if both_bad == "outside" and (outcome == BOTH_BAD).any() else _TOOK
    if not style:
        return counted(n, pair, outcome, levels, battles.voter.astype(np.int64), reweight)

    if battles.style is None:
        raise DataError(
            "These battles do not say how long the answers are and how they are set, so their style cannot be "
            "controlled for; give conversation_a and conversation_b, or LMSYS's conv_metadata, or rate without style."
        )
    # Sorted by pair; within one by a hash of the rest, so that sums do not depend on the order of the rows.
    mixed = hashed(0, *battles.style.T, outcome, turned) >> np.uint64(24)
    order = np.argsort((pair.astype(np.uint64) << np.uint64(40)) | mixed)
    features, scale, known = _standardised(np.ascontiguousarray(battles.style[order].T))
    features *= np.where(turned[order], -1.0, 1.0)
    return _ordered(n, pair[order], outcome[order], levels, battles.voter[order], reweight, features, known, scale)


def counted(n: int, pair: Ints, level: Ints, levels: Floats, voter: Ints, reweight: bool) -> Tally:
    """Battles [B] without style, equal ones together.

    `pair`: smaller index * n + larger. `level`: columns of `levels` [2 or 3, L], what the first, the second and
    neither took. `voter`: equal numbers belong together; negative ones are each alone.
    """
    kinds = levels.shape[1]
    code = pair * kinds + level
    if n * n * kinds <= 8 * len(code) + 100_000:
        counts = np.bincount(code, minlength=n * n * kinds)
        present = np.flatnonzero(counts)
        place = np.cumsum(counts > 0) - 1
        cell, count = place[code], counts[present]
    else:
        present, cell, count = np.unique(code, return_inverse=True, return_counts=True)
    alone, voters = _by_voter(cell, voter, len(present))
    pairs, begins = np.unique(present // kinds, return_index=True)
    took = levels[:, present % kinds] * count
    battles = count.astype(np.float64)
    if reweight:
        weights = _pair_weights(battles, begins)
        took, battles = took * weights, battles * weights
    choices = Choices(n, pairs // n, pairs % n, begins, took, battles, took[:0])
    return Tally(choices, count, alone, voters)


def _ordered(
    n: int,
    pair: Ints,
    outcome: Ints,
    levels: Floats,
    voter: NDArray[np.int32],
    reweight: bool,
    features: Floats,
    known: tuple[int, ...],
    scale: tuple[float, ...],
) -> Tally:
    begins = np.flatnonzero(np.diff(pair, prepend=-1))
    took, battles = levels[:, outcome], np.ones(len(pair))
    if reweight:
        battles = _pair_weights(battles, begins)
        took = took * battles
    alone, voters = _by_voter(np.arange(len(pair)), voter.astype(np.int64), len(pair))
    choices = Choices(n, pair[begins] // n, pair[begins] % n, begins, took, battles, features)
    return Tally(choices, np.ones(len(pair), dtype=np.int64), alone, voters, known, scale)


def _pair_weights(battles: Floats, begins: Ints) -> Floats:
    """The weight of each observation's battles, of their numbers [o] and where the pairs begin."""
    of_pair = np.add.reduceat(battles, begins)
    weight = 1 / np.maximum(of_pair, LEAST_PAIR_COUNT)
    weight *= of_pair.sum() / (weight * of_pair).sum()
    return np.repeat(weight, np.diff(begins, append=len(battles)))


def _by_voter(cell: Ints, voter: Ints, cells: int) -> tuple[Ints, csr_array]:
    """How many battles of each cell are a cluster of their own [o], and how many each voter of several cast [G, o]."""
    votes = np.bincount(voter[voter >= 0])
    several = (voter >= 0) & (votes[voter] > 1) if len(votes) else np.zeros(len(voter), dtype=bool)
    alone = np.bincount(cell[~several], minlength=cells)
    row = (np.cumsum(votes > 1) - 1)[voter[several]]
    keys, cast = np.unique(row * cells + cell[several], return_counts=True)
    shape = (int((votes > 1).sum()), cells)
    begins = np.searchsorted(keys, np.arange(shape[0] + 1) * cells)
    return alone, csr_array((cast.astype(np.float64), keys % cells, begins), shape=shape)


def _standardised(style: Floats) -> tuple[Floats, tuple[float, ...], tuple[int, ...]]:
    """The styles [k, n] less their mean over their standard deviation, the deviations, and which ones vary at all."""
    mean, deviation = style.mean(axis=1), style.std(axis=1)
    known = np.flatnonzero(deviation > 1e-12)
    if not len(known):
        raise DataError(
            "The answers' styles do not differ in any battle, so they cannot be controlled for; rate without style."
        )
    return (
        (style[known] - mean[known, None]) / deviation[known, None],
        tuple(deviation[known].tolist()),
        tuple(known.tolist()),
    )
