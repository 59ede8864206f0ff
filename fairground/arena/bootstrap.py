"""Fits of resampled votes: what another crowd of the same size might have said (Efron, 1979).

Whole clusters are drawn with replacement, all of a voter's votes together, as many as there are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fairground.arena.columns import Floats, Ints
from fairground.arena.likelihood import Choices, inverse, maximise, parts_that_met, strong_parts
from fairground.arena.tally import Tally
from fairground.errors import DataError

RESAMPLES = 1000
CLOSE = 1e-6  # logits: two ten-thousandths of a point
_CHORDS = 25


def resampled(tally: Tally, seed: int, resamples: int = RESAMPLES) -> Floats:
    """The parameters [resamples, size] of as many resamples, the models' mean zero; the same for the same seed.

    A resample in which the models fall apart has no estimate and is drawn anew.

    Raises DataError where that happens to more than half of them.
    """
    choices, whole = tally.choices, tally.choices.merged()
    draw = np.random.default_rng(seed)
    penalised = bool(strong_parts(whole).any())
    start = maximise(whole, penalised)
    bread = inverse(whole.products(whole.information_weights(whole.probabilities(start))), choices.nodes)
    found = np.empty((resamples, choices.size))
    done = refused = 0
    while done < resamples:
        share = _battles_drawn(tally, draw) / tally.count
        sample = replace(choices, took=choices.took * share, battles=choices.battles * share).merged()
        parameters = None if penalised else by_chords(sample, start, bread)
        if parameters is None and parts_that_met(sample).any():
            refused += 1
            if refused > resamples:
                raise DataError(
                    "There are too few battles to resample: in more than half of the resamples some models never met; "
                    "take sandwich intervals, or add battles."
                )
            continue
        found[done] = maximise(sample, bool(strong_parts(sample).any())) if parameters is None else parameters
        done += 1
    found[:, : choices.nodes] -= found[:, : choices.models].mean(axis=1, keepdims=True)
    return found


def _battles_drawn(tally: Tally, draw: np.random.Generator) -> Floats:
    """How many battles of each observation [o] are in a resample."""
    voters, alone = tally.voters.shape[0], int(tally.alone.sum())
    clusters = voters + alone
    of_voters = int(draw.binomial(clusters, voters / clusters))
    drawn = _drawn_alone(tally.alone, clusters - of_voters, draw)
    if voters:
        drawn = drawn + tally.voters.T @ np.bincount(draw.integers(voters, size=of_voters), minlength=voters)
    return drawn.astype(np.float64)


def _drawn_alone(alone: Ints, size: int, draw: np.random.Generator) -> Ints:
    if size == 0:
        return np.zeros_like(alone)
    if alone.max() > 1:
        return draw.multinomial(size, alone / alone.sum())
    there = np.flatnonzero(alone)  # a row each: drawing rows is faster than drawing their numbers
    return np.bincount(there[draw.integers(len(there), size=size)], minlength=len(alone))


def by_chords(sample: Choices, start: Floats, bread: Floats) -> Floats | None:
    """The estimate by steps with the whole's information, near enough for a resample; None where they do not settle."""
    parameters = start
    for _ in range(_CHORDS):
        step = bread @ sample.score(sample.took - sample.battles * sample.probabilities(parameters))
        parameters = parameters + step
        longest = float(np.abs(step).max())
        if longest < CLOSE:
            return parameters
        if longest > 5:
            return None
    return None
