"""People's votes on pairs of answers, and verdicts that a judge has given on the same pairs before.

Votes: JSON lines or a table with `prompt`, `answer_a`, `answer_b` and `winner` (`model_a`, `model_b`, `tie` or
`both_bad`, a tie here; also `a`, `left`, `b`, `right`), a line a vote. Lines with the same `pair`, or without one the
same texts, are votes on one pair. Recorded verdicts: `pair` and `winner`, a line a pair. What else stands in a line is
ignored.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fairground.errors import DataError
from fairground.evaluation.judging import Judgement, Winner, pairwise
from fairground.evaluation.lines import Line, read_foreign

_WINNERS: dict[str, Winner] = {
    "model_a": "a",
    "left": "a",
    "a": "a",
    "model_b": "b",
    "right": "b",
    "b": "b",
    "tie": "tie",
    "tie (bothbad)": "tie",
    "bothbad": "tie",
    "both_bad": "tie",
}
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """Two answers to a question, and what people said of them."""

    id: str
    question: str = field(repr=False)
    a: str = field(repr=False)
    b: str = field(repr=False)
    votes: tuple[Winner, ...]

    def asked(self) -> tuple[Judgement, Judgement]:
        """What a judge is asked of the pair: with answer a first, and with answer b first."""
        return (
            pairwise(self.question, self.a, self.b, cluster=self.id),
            pairwise(self.question, self.b, self.a, cluster=self.id),
        )


def read_votes(path: str | Path, limit: int | None = None) -> list[JudgedPair]:
    """The pairs of a file with their votes; with a `limit`, so many of them, drawn by a fixed shuffle.

    Raises DataError or SuiteError, naming file and line, for anything that is no vote.
    """
    pairs: dict[str, JudgedPair] = {}
    for line in _lines(Path(path)):
        vote = _winner(line)
        texts = _text(line, "prompt"), _text(line, "answer_a"), _text(line, "answer_b")
        named = line.data.get("pair")
        id_ = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16] if named is None else str(named)
        if id_ not in pairs:
            pairs[id_] = JudgedPair(id_, *texts, (vote,))
        elif (pairs[id_].question, pairs[id_].a, pairs[id_].b) != texts:
            raise DataError(f"{line.where}: the pair {id_!r} had other texts before; give each pair a name of its own.")
        else:
            pairs[id_] = replace(pairs[id_], votes=(*pairs[id_].votes, vote))
    found = list(pairs.values())
    if limit is not None and limit < len(found):
        chosen = set(random.Random("votes").sample(range(len(found)), limit))
        found = [pair for i, pair in enumerate(found) if i in chosen]
    return found


def read_verdicts(path: str | Path, pairs: Sequence[JudgedPair]) -> dict[str, Winner]:
    """Recorded verdicts on these pairs, by pair; those on others are left out.

    Raises DataError or SuiteError for a line that is no verdict, a pair with two, or a file with none on these pairs.
    """
    known = {pair.id for pair in pairs}
    found: dict[str, Winner] = {}
    for line in _lines(Path(path)):
        if "pair" not in line.data:
            raise DataError(f"{line.where}: the key 'pair' is missing; name the pair that this verdict is on.")
        id_ = str(line.data["pair"])
        if id_ in found:
            raise DataError(f"{line.where}: the pair {id_!r} has a verdict already; keep one of them.")
        if id_ in known:
            found[id_] = _winner(line)
    if not found:
        raise DataError(f"{path} has no verdict on a pair of the votes; its 'pair' must be that of the votes' lines.")
    return found


def _lines(path: Path) -> list[Line]:
    if not path.is_file():
        raise DataError(f"There is no file {path}; check the name.")
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path} is named none of {', '.join(ENDINGS)}; rename or convert it.")
    return read_foreign(path, "vote")


def _winner(line: Line) -> Winner:
    said = line.data.get("winner")
    winner = _WINNERS.get(said.strip().lower()) if isinstance(said, str) else None
    if winner is None:
        raise DataError(f"{line.where}: winner is {said!r}, which is not known; write model_a, model_b or tie.")
    return winner


def _text(line: Line, key: str) -> str:
    """A text of the line; an answer may be empty."""
    value = line.data.get(key)
    if not isinstance(value, str):
        raise DataError(f"{line.where}: {key!r} is missing or no text; votes need prompt, answer_a, answer_b, winner.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{line.where}: {key!r} holds half of a surrogate pair, which is no text; correct it."
        ) from None
    return value
