"""Battles in columns: the form in which millions of them are rated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairground.arena.style import FEATURES
from fairground.types import Battle, Winner

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OUTCOMES: tuple[Winner, ...] = ("model_a", "model_b", "tie", "both_bad")  # an outcome's code is its place here
CODES: Mapping[str, int] = {name: code for code, name in enumerate(OUTCOMES)}
MODEL_A, MODEL_B, TIE, BOTH_BAD = range(4)
POINTS = np.array([1.0, 0.0, 0.5, 0.5])  # what the first took, by code; both-bad as a tie
NO_STYLE = (np.nan,) * len(FEATURES)


@dataclass(frozen=True, slots=True, eq=False)
class Battles:
    """n battles of m models, a row each.

    `models` [m]: sorted names. `first`, `second` int32 [n]: indices of model_a and model_b as they stood. `outcome`
    int8 [n]: codes of `OUTCOMES`. `voter` int32 [n]: equal where the same person voted, -1 where nobody is known.
    `prompt` int64 [n]: equal where the prompt was the same, -1 where it is not known. `style` [n, 4]: (a - b) / (a + b
    + 1) of what `FEATURES` names, a and b being counts in the two answers; None where they are not known. `tags`: for
    each tag ("code", "language:en") which battles [n] carry it.
    """

    models: tuple[str, ...]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    outcome: NDArray[np.int8]
    voter: NDArray[np.int32]
    prompt: NDArray[np.int64]
    style: Floats | None = None
    tags: Mapping[str, Bools] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.outcome)

    def only(self, kept: Bools) -> Battles:
        """The battles of a mask [n]; models that no battle is left of are left out."""
        first, second = self.first[kept], self.second[kept]
        there = np.zeros(len(self.models), dtype=bool)
        there[first] = there[second] = True
        index = (np.cumsum(there) - 1).astype(np.int32)
        return Battles(
            models=tuple(name for name, stays in zip(self.models, there, strict=True) if stays),
            first=index[first],
            second=index[second],
            outcome=self.outcome[kept],
            voter=self.voter[kept],
            prompt=self.prompt[kept],
            style=None if self.style is None else self.style[kept],
            tags={name: tagged[kept] for name, tagged in self.tags.items()},
        )


def columns(battles: Sequence[Battle]) -> Battles:
    """Battles in columns, in their order."""
    models = sorted({battle.model_a for battle in battles} | {battle.model_b for battle in battles})
    voters = sorted({battle.voter for battle in battles if battle.voter is not None})
    index = {name: i for i, name in enumerate(models)}
    person: dict[str | None, int] = {None: -1} | {name: i for i, name in enumerate(voters)}
    return Battles(
        models=tuple(models),
        first=np.array([index[battle.model_a] for battle in battles], dtype=np.int32),
        second=np.array([index[battle.model_b] for battle in battles], dtype=np.int32),
        outcome=np.array([CODES[battle.winner] for battle in battles], dtype=np.int8),
        voter=np.array([person[battle.voter] for battle in battles], dtype=np.int32),
        prompt=np.full(len(battles), -1, dtype=np.int64),
    )


def capped(battles: Battles, cap: int, seed: int) -> Battles:
    """At most `cap` battles of any one prompt, drawn by `seed`; battles whose prompt is not known all stay.

    Which stay depends on what the battles say and not on their order.
    """
    mixed = hashed(seed, battles.first, battles.second, battles.outcome, battles.voter)
    if battles.style is not None:
        mixed = hashed(seed, mixed, *battles.style.T)
    order = np.lexsort((mixed, battles.prompt))
    prompt = battles.prompt[order]
    begins = np.flatnonzero(np.r_[True, prompt[1:] != prompt[:-1]]) if len(prompt) else np.zeros(0, dtype=np.int64)
    place = np.arange(len(prompt)) - np.repeat(begins, np.diff(np.r_[begins, len(prompt)]))
    kept = np.zeros(len(prompt), dtype=bool)
    kept[order] = (place < cap) | (prompt < 0)
    return battles.only(kept)


def hashed(seed: int, *parts: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash [n] of the rows of some columns [n]: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    mixed = np.full(len(parts[0]), seed, dtype=np.uint64)
    for part in parts:
        bits = (part + 0.0).view(np.uint64) if part.dtype == np.float64 else part.astype(np.uint64)  # -0.0 as 0.0
        mixed = (mixed ^ bits) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed
