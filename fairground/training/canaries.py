"""Canaries: sentences with a random number, put into the text that is learned, to measure what a model keeps by heart.

After Carlini et al. 2019, "The Secret Sharer", section 4.1: of a fixed format, the number drawn from a known space. The
model's folder says in canaries.json which there were; `fairground rank` measures their exposure.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fairground.errors import TrainingError
from fairground.training.text import Document

FORMAT = "The access number of {name} is {number}."
DIGITS = 9  # so that the space has 10**9 numbers
FILE = "canaries.json"
_BEGIN, _MIDDLE, _END = (
    ("Al", "Bel", "Cor", "Dan", "El", "Fer", "Gar", "Hal"),
    ("a", "e", "i", "o"),
    ("ban", "dor", "lin", "mar"),
)
MOST = len(_BEGIN) * len(_MIDDLE) * len(_END)


@dataclass(frozen=True, slots=True)
class Canaries:
    """Names that no text has and their numbers, and how often each sentence stands in the text as a document."""

    numbers: tuple[tuple[str, str], ...]
    repetitions: int
    seed: int

    def documents(self) -> Iterator[Document]:
        for name, number in self.numbers:
            for _ in range(self.repetitions):
                yield Document(FORMAT.format(name=name, number=number), None, f"canary {name}")

    def as_dict(self) -> dict[str, Any]:
        """What canaries.json says."""
        inserted = [{"name": name, "number": number} for name, number in self.numbers]
        return {
            "format": FORMAT,
            "digits": DIGITS,
            "seed": self.seed,
            "repetitions": self.repetitions,
            "inserted": inserted,
        }


def make_canaries(count: int, repetitions: int, seed: int) -> Canaries:
    """So many, the same for the same seed. Raises TrainingError for more than there are names."""
    if not 1 <= count <= MOST or repetitions < 1:
        raise TrainingError(
            f"There can be 1 to {MOST} canaries, each at least once, not {count} of {repetitions}; give other numbers."
        )
    rng = random.Random(f"canaries {seed}")
    names = rng.sample([a + b + c for a in _BEGIN for b in _MIDDLE for c in _END], count)
    return Canaries(tuple((name, f"{rng.randrange(10**DIGITS):0{DIGITS}}") for name in names), repetitions, seed)
