"""The answers of a suite's second, blind reading, which are kept beside its items (`second_reading.jsonl`).

Ranking does not read them: they are evidence about the suite, not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fairground.evaluation.lines import read_lines


@dataclass(frozen=True, slots=True)
class Reading:
    """What a second reader answered without seeing the gold: the index of a choice, and whether they were sure."""

    answer: int
    sure: bool
    comment: str


def read_second_reading(path: Path) -> dict[str, Reading]:
    """By item id, from lines of {"id", "answer", "sure", "comment"}; raises SuiteError, naming file and line."""
    readings: dict[str, Reading] = {}
    for line in read_lines(path):
        line.keys({"id", "answer", "sure"}, {"comment"})
        answer, sure, comment = line.data["answer"], line.data["sure"], line.data.get("comment", "")
        if not isinstance(answer, int) or isinstance(answer, bool) or answer < 0:
            raise line.error("'answer' must be the index of a choice; correct it")
        if sure not in ("yes", "mostly", "no"):
            raise line.error("'sure' must be 'yes', 'mostly' or 'no'; correct it")
        if not isinstance(comment, str):
            raise line.error("'comment' must be a string; correct it")
        readings[line.id] = Reading(answer, sure == "yes", comment)
    return readings
