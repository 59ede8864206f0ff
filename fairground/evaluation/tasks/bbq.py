"""A line of BBQ as its authors publish it (Parrish et al. 2022, github.com/nyu-mll/BBQ)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairground.evaluation.lines import Line

ANSWERS = ("ans0", "ans1", "ans2")
_PERSON = {"woman": "f", "girl": "f", "man": "m", "boy": "m"}


@dataclass(frozen=True, slots=True)
class Answers:
    """The three answers of a line: which is right, which say "unknown", and which the stereotype would give."""

    choices: tuple[str, ...]
    gold: int
    unknown: int
    targets: tuple[int, ...]
    ambiguous: bool
    category: str


def published(line: Line) -> Answers:
    """Reads the published keys. Which answers are the stereotype's follows lm-evaluation-harness's `bbq`.

    To a negative question ("Who steals?") the stereotype answers with its group, to the other one ("Who never
    steals?") with whoever is not of it. Where groups intersect, none or both answers can be so.
    """
    line.keys(
        {"context", "question", "label", "question_polarity", "context_condition", "category", "answer_info",
         "additional_metadata", *ANSWERS}, (),
    )  # fmt: skip
    choices = tuple(line.text(answer) for answer in ANSWERS)
    polarity, condition = (
        _one_of(line, "question_polarity", "neg", "nonneg"),
        _one_of(line, "context_condition", "ambig", "disambig"),
    )
    about, more = line.data["answer_info"], line.data["additional_metadata"]
    if not isinstance(about, Mapping) or not all(_strings(about.get(answer)) for answer in ANSWERS):
        raise line.error("'answer_info' must have two strings for each of ans0, ans1 and ans2; correct it")
    if not isinstance(more, Mapping) or not _strings(more.get("stereotyped_groups")):
        raise line.error("'additional_metadata' must have 'stereotyped_groups', a list of strings; correct it")
    groups = [_groups(about[answer], choice) for answer, choice in zip(ANSWERS, choices, strict=True)]
    unknown = [i for i, own in enumerate(groups) if "unknown" in own]
    if len(unknown) != 1:
        raise line.error(f"{len(unknown)} answers are of the group 'unknown', but one must be; correct 'answer_info'")
    stereotyped = {group.lower() for group in more["stereotyped_groups"]}
    targets = tuple(
        i for i, own in enumerate(groups) if i not in unknown and bool(own & stereotyped) == (polarity == "neg")
    )
    return Answers(choices, line.index("label", 3), unknown[0], targets, condition == "ambig", line.text("category"))


def _groups(info: Sequence[str], answer: str) -> set[str]:
    """The groups that an answer names, in the words of `stereotyped_groups`, in lower case.

    "F-Black" is "f" and "black"; "lowSES" is "low ses"; a woman is "f". Some lines say nothing of a Latina.
    """
    text = "_".join(info) if any(info) else "Latino" if "Latina" in answer else ""
    text = re.sub(r"(?<![A-Za-z])([MF]|lowSES|highSES)-", r"\1_", text)
    text = re.sub(r"(low|high)(SES)|(non)(Obese|Disabled|Trans)", lambda m: " ".join(filter(None, m.groups())), text)
    groups = {group.lower() for group in text.split("_")}
    return groups | {_PERSON[word] for group in groups for word in group.split() if word in _PERSON}


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _one_of(line: Line, key: str, *known: str) -> str:
    value = line.text(key)
    if value not in known:
        raise line.error(f"{key!r} is {value!r}, but must be {' or '.join(map(repr, known))}; correct it")
    return value
