"""A suite's items, and the validation of every line that they are read from.

A line that is wrong raises SuiteError, which names the file and the line: a suite is either right or refused, since an
item that is silently dropped changes what every later number means.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairground.errors import SuiteError

NEAR_DUPLICATE = 0.75
"""Two questions whose sets of words have a larger Jaccard index than this are the same question."""

FEWEST_WORDS = 5
"""Shorter questions share most of their words by nature ("What is 8 plus 6?"), so only equality is refused there."""

SHOT = "-shot-"
"""An id with this in it marks a solved example for the prompt; it is never a test item."""


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A question with its choices. `gold` is the index of the right one.

    `fields` fill the task's prompt. `group` is whose solved examples it may be shown with. Items with the same
    `cluster` share a passage, so their outcomes are not independent.
    """

    id: str
    domain: str
    group: str
    cluster: str
    fields: Mapping[str, str] = field(hash=False)
    choices: tuple[str, ...]
    gold: int
    difficulty: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """Sentences in the order in which they make sense."""

    id: str
    domain: str
    sentences: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class OpenItem:
    """A prompt that has no single right answer."""

    id: str
    domain: str
    prompt: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON object of a file and where it stands (`FILE:LINE`)."""

    where: str
    data: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        return self.text("id")

    def error(self, what: str) -> SuiteError:
        return SuiteError(f"{self.where}: {what}.")

    def keys(self, required: Iterable[str], optional: Iterable[str]) -> None:
        """Refuses a line that lacks a required key or has one that nothing reads."""
        required, optional = set(required), set(optional)
        if missing := sorted(required - self.data.keys()):
            raise self.error(f"the key {', '.join(map(repr, missing))} is missing; add it")
        if extra := sorted(self.data.keys() - required - optional):
            raise self.error(
                f"the key {', '.join(map(repr, extra))} is not known here; correct or remove it "
                f"(known: {', '.join(sorted(required | optional))})"
            )

    def text(self, key: str, default: str | None = None) -> str:
        if default is not None and key not in self.data:
            return default
        return self._checked(key, self.data.get(key))

    def texts(self, key: str, at_least: int) -> tuple[str, ...]:
        """A list of distinct strings."""
        values = self.data.get(key)
        if not isinstance(values, list):
            raise self.error(f"{key!r} is {_kind(values)}, but must be a list of strings; correct it")
        texts = tuple(self._checked(f"{key}[{i}]", value) for i, value in enumerate(values))
        if len(texts) < at_least:
            raise self.error(f"{key!r} has {len(texts)} entries, but needs at least {at_least}; add what is missing")
        folded = Counter(text.strip() for text in texts)
        if repeated := [text for text, count in folded.items() if count > 1]:
            raise self.error(f"{key!r} has {repeated[0]!r} twice; make its entries distinct")
        return texts

    def index(self, key: str, count: int) -> int:
        value = self.data.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(f"{key!r} is {_kind(value)}, but must be a whole number; correct it")
        if not 0 <= value < count:
            raise self.error(
                f"{key!r} is {value}, but with {count} choices it must be from 0 to {count - 1}; correct it"
            )
        return value

    def _checked(self, key: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.error(f"{key!r} is {_kind(value)}, but must be a string; correct it")
        if not value.strip():
            raise self.error(f"{key!r} is empty; write it or remove the line")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(f"{key!r} holds half of a surrogate pair, which is no text; correct its escapes") from None
        return value


def read_lines(path: Path) -> list[Line]:
    """The JSON objects of a JSON-lines file, each with a string `id` that no other line of the file has.

    Raises SuiteError for a file that cannot be read or is empty, and for every line that is not a JSON object in
    strict JSON (no NaN, no repeated key).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SuiteError(
            f"{path} cannot be read ({error.strerror or error}); check the suite's 'file' entries."
        ) from None
    lines: list[Line] = []
    seen: dict[str, str] = {}
    # Only b"\n" ends a line: str.splitlines() would also split at U+2028, which may stand inside a JSON string.
    for number, text in enumerate(raw.removesuffix(b"\n").split(b"\n"), start=1):
        line = _line(f"{path}:{number}", text)
        if line.id in seen:
            raise line.error(f"the id {line.id!r} is already that of {seen[line.id]}; give each item its own")
        seen[line.id] = line.where
        lines.append(line)
    return lines


def _line(where: str, text: bytes) -> Line:
    if not text.strip():
        raise SuiteError(f"{where}: the line is empty, but each line is one JSON object; remove it.")
    try:
        value = json.loads(text.decode(), parse_constant=_no_constant, object_pairs_hook=_distinct_keys)
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{where}: this is not a line of JSON ({error}); correct it.") from None
    if not isinstance(value, dict):
        raise SuiteError(f"{where}: the line is {_kind(value)}, but must be a JSON object; put it in braces.")
    line = Line(where, value)
    line.text("id")
    return line


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {repeated!r} stands twice")
    return data


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a whole number"}
    return "missing" if value is None else names.get(type(value), "a number")


def choice_item(line: Line, *, fields: Sequence[str], group: str | None, task: str) -> ChoiceItem:
    """A multiple-choice item. `fields` are what the prompt asks for; `group` the key that parts its solved examples.

    A choice follows the prompt after one space, so one that begins or ends with space would be scored as another text.
    """
    required = {"id", "choices", "gold", *fields} | ({group} if group else set())
    line.keys(required, {"domain", "difficulty", "note"})
    choices = line.texts("choices", at_least=2)
    for choice in choices:
        if choice != choice.strip():
            raise line.error(f"the choice {choice!r} begins or ends with space; trim it")
    passage = line.text("passage") if "passage" in fields else ""
    return ChoiceItem(
        id=line.id,
        domain=line.text("domain", task),
        group=line.text(group) if group else "",
        cluster=f"passage {hashlib.sha256(passage.encode()).hexdigest()[:16]}" if passage else line.id,
        fields={key: line.text(key) for key in fields},
        choices=choices,
        gold=line.index("gold", len(choices)),
        difficulty=line.text("difficulty", ""),
        note=line.text("note", ""),
    )


def passage(line: Line, *, task: str) -> Passage:
    """A passage of at least three sentences: with two, "shuffled" and "swapped" would be the same test."""
    line.keys({"id", "sentences"}, {"domain", "note"})
    return Passage(line.id, line.text("domain", task), line.texts("sentences", at_least=3), line.text("note", ""))


def open_item(line: Line, *, task: str) -> OpenItem:
    """A prompt to answer freely."""
    line.keys({"id", "prompt"}, {"domain", "note"})
    return OpenItem(line.id, line.text("domain", task), line.text("prompt"), line.text("note", ""))


def refuse_near_duplicates(asked: Sequence[tuple[Line, str, str]]) -> None:
    """Raises SuiteError where two lines ask the same: `asked` holds (line, group, text).

    Equal texts of one group are refused whatever their length; texts of at least FEWEST_WORDS distinct words also where
    the Jaccard index of their word sets is above NEAR_DUPLICATE. Pairs are found by prefix filtering (Bayardo, Ma &
    Srikant 2007, "Scaling up all pairs similarity search"), so that a suite of thousands of items is read in a moment.
    """
    exact: dict[tuple[str, str], Line] = {}
    for line, group, text in asked:
        key = (group, " ".join(text.casefold().split()))
        if key in exact:
            raise line.error(f"{line.id!r} asks the same as {exact[key].id!r} ({exact[key].where}); remove one of them")
        exact[key] = line
    words = [frozenset(re.findall(r"\w+", text.casefold())) for _, _, text in asked]
    frequency = Counter(word for words_ in words for word in words_)
    index: dict[str, list[int]] = {}
    for i, own in enumerate(words):
        if len(own) < FEWEST_WORDS:
            continue
        rarest = sorted(own, key=lambda word: (frequency[word], word))
        prefix = rarest[: len(own) - math.ceil(NEAR_DUPLICATE * len(own)) + 1]
        for j in sorted({j for word in prefix for j in index.get(word, ())}):
            if len(own & words[j]) / len(own | words[j]) > NEAR_DUPLICATE:
                line, other = asked[i][0], asked[j][0]
                raise line.error(
                    f"{line.id!r} is nearly the same question as {other.id!r} ({other.where}); rewrite or remove one"
                )
        for word in prefix:
            index.setdefault(word, []).append(i)
