"""Which two models meet: the pairing of fairground.arena, fed with the battles of the log so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairground.arena.pairing import Design, Floats, Ints, choose_pair, design
from fairground.arena.ratings import ELO_MEAN, ELO_PER_LOGIT
from fairground.errors import ArenaRefusal
from fairground.loop.live import Board

Z_95 = 1.959964  # half a 95% interval in standard errors


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of n models: `theta` [n], logits, and the `variance` [n] behind their intervals as published;
    `counts` [n, n], blind battles of each pair, symmetric.

    `number`: of the log's last entry that this is made of.
    """

    names: tuple[str, ...]
    theta: Floats
    variance: Floats
    counts: Ints
    number: int


def known(board: Board[Any] | None) -> Known:
    """What a leaderboard of all blind battles says; of None, that nothing is known yet."""
    if board is None or not board.data["models"]:
        return Known((), np.zeros(0), np.zeros(0), np.zeros((0, 0), dtype=np.int64), -1)
    rows = board.data["models"]
    rating, low, high = (np.array([row[name] for row in rows]) for name in ("rating", "low", "high"))
    return Known(
        tuple(row["model"] for row in rows),
        (rating - ELO_MEAN) / ELO_PER_LOGIT,
        np.square((high - low) / 2 / ELO_PER_LOGIT / Z_95),
        np.array(board.data["pairs"]["battles"], dtype=np.int64),
        board.number,
    )


@dataclass(frozen=True, slots=True)
class Drawn:
    """A pair as it stands, with what the log says of how it was drawn."""

    models: tuple[str, str]
    probability: float
    by: str


class Draw:
    """Draws pairs. Thread-safe.

    `known` gives what is known now; the design is made anew once that has changed, and follows what was opened since.
    """

    def __init__(self, known: Callable[[], Known], rng: np.random.Generator | None = None) -> None:
        self._known, self._rng = known, rng or np.random.default_rng()
        self._at: tuple[int, tuple[str, ...]] | None = None
        self._design: Design | None = None
        self._lock = threading.Lock()

    def pair(self, available: Sequence[str], uniform_share: float) -> Drawn:
        """Two of the available models. Raises ArenaRefusal (503) where there are fewer."""
        known = self._known()
        names = tuple(sorted({*known.names, *available}))
        place = {name: number for number, name in enumerate(names)}
        on = np.isin(names, list(available))
        if on.sum() < 2:
            raise ArenaRefusal("A battle needs two models, and fewer can answer now; come back in a minute.", 503)
        theta, variance = np.zeros(len(names)), np.full(len(names), np.nan)
        counts = np.zeros((len(names), len(names)), dtype=np.int64)
        at = [place[name] for name in known.names]
        theta[at], variance[at], counts[np.ix_(at, at)] = known.theta, known.variance, known.counts
        with self._lock:
            if self._design is None or self._at != (known.number, names):
                self._design, self._at = design(theta, counts, variance), (known.number, names)
            drawn = choose_pair(self._design, counts, rng=self._rng, available=on, uniform_share=uniform_share)
            self._design = self._design.after(drawn.a, drawn.b)
        return Drawn((names[drawn.a], names[drawn.b]), drawn.probability, drawn.by)
