"""Minimal pairs: two sentences that differ in one thing, one of them acceptable. Does the measure prefer that one?

In the manner of BLiMP (Warstadt et al. 2020, TACL 8:377-392), on pairs of our own (suites/acceptability/CARD.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from fairground.errors import SuiteError
from fairground.evaluation.acceptability import LEAD, mean_lp, slor
from fairground.evaluation.intervals import Floats, Interval, share
from fairground.evaluation.unigrams import Unigrams
from fairground.types import Generator

PAIRS = Path(__file__).parent / "suites" / "acceptability" / "pairs.jsonl"


@dataclass(frozen=True, slots=True)
class Pair:
    """An acceptable sentence and an unacceptable one that is as like it as can be."""

    id: str
    phenomenon: str
    good: str
    bad: str


@dataclass(frozen=True, slots=True)
class Preference:
    """How often each measure prefers the good sentence (a tie is half), and the pairs that SLOR gets wrong."""

    slor: Interval
    mean_lp: Interval
    by_phenomenon: dict[str, Interval]  # of SLOR
    wrong: tuple[str, ...]  # ids


def read_pairs(path: Path = PAIRS) -> list[Pair]:
    """The pairs of a JSON lines file. Raises SuiteError, naming file and line, for the first thing that is wrong."""
    names = [field.name for field in fields(Pair)]
    pairs: list[Pair] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise SuiteError(f"{path} cannot be read; give a file of minimal pairs in UTF-8.") from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            pair = Pair(**row)
        except (ValueError, TypeError, RecursionError):
            raise SuiteError(f"{path}, line {number}: not a JSON object of {', '.join(names)}; correct it.") from None
        texts = [getattr(pair, name) for name in names]
        if not all(isinstance(text, str) and text and text == text.strip() for text in texts) or pair.good == pair.bad:
            raise SuiteError(
                f"{path}, line {number}: {', '.join(names)} must be text without spaces at its ends, and the two "
                "sentences must differ; correct it."
            )
        if any(pair.id == other.id for other in pairs):
            raise SuiteError(f"{path}, line {number}: the id {pair.id!r} came before; give every pair its own.")
        pairs.append(pair)
    if not pairs:
        raise SuiteError(f"{path} holds no pairs; give one JSON line for each.")
    return pairs


def preference(scorer: Generator, pairs: Sequence[Pair], unigrams: Unigrams, *, lead: str = LEAD) -> Preference:
    """Both measures on the pairs, with Wilson's intervals. Raises as `acceptability.slor`."""
    both = [sentence for pair in pairs for sentence in (pair.good, pair.bad)]
    by_slor = _preferred(slor(scorer, both, unigrams, lead=lead))
    by_mean = _preferred(mean_lp(scorer, both, lead=lead))
    ids = [pair.id for pair in pairs]
    phenomena: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        phenomena.setdefault(pair.phenomenon, []).append(i)
    return Preference(
        share(by_slor, ids),
        share(by_mean, ids),
        {name: share([by_slor[i] for i in own], [ids[i] for i in own]) for name, own in phenomena.items()},
        tuple(id_ for id_, right in zip(ids, by_slor, strict=True) if right < 1),
    )


def _preferred(values: Floats) -> list[float]:
    """For good and bad in turn: 1 where good is above, 0.5 for a tie."""
    return [0.5 if good == bad else float(good > bad) for good, bad in values.reshape(-1, 2)]
