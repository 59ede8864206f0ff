"""Lines of a suite's files: JSON objects or rows of a table, each checked key by key as it is read.

A line that is wrong raises SuiteError, which names the file and the line: a suite is either right or refused, since an
item that is silently dropped changes what every later number means.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairground.errors import SuiteError


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON object of a file, or one row of a table, and where it stands (`FILE:LINE`).

    `foreign`: of a data set that others made, or generated: it may hold more than anybody here reads.
    """

    where: str
    data: Mapping[str, Any] = field(repr=False)
    foreign: bool = False

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
        if not self.foreign and (extra := sorted(self.data.keys() - required - optional)):
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
        if not self.foreign and (repeated := [text for text, count in folded.items() if count > 1]):
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

    def gold(self, key: str, choices: Sequence[str]) -> int:
        """The index of the right choice; a table may name it by a digit or a letter, or by itself."""
        value = self.data.get(key)
        if self.foreign and isinstance(value, str):
            named = [str(i) for i in range(len(choices))], list("ABCDEFGHIJ"[: len(choices)]), list(choices)
            for names in named:
                if value.strip() in names:
                    return names.index(value.strip())
            raise self.error(f"{key!r} is {value!r}, which names none of the {len(choices)} choices; correct it")
        return self.index(key, len(choices))

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
    lines: list[Line] = []
    seen: dict[str, str] = {}
    # Only b"\n" ends a line: str.splitlines() would also split at U+2028, which may stand inside a JSON string.
    for number, text in enumerate(_read(path).removesuffix(b"\n").split(b"\n"), start=1):
        line = Line(f"{path}:{number}", _object(f"{path}:{number}", text))
        if line.id in seen:
            raise line.error(f"the id {line.id!r} is already that of {seen[line.id]}; give each item its own")
        seen[line.id] = line.where
        lines.append(line)
    return lines


def read_foreign(path: Path, prefix: str, columns: Sequence[str] = ()) -> list[Line]:
    """The lines of a data set that others made: JSON lines, a table (.csv or .tsv) with names in its first row, or one
    JSON array of objects (.json), whose "lines" are the objects, each at the line where it begins.

    `columns` names the columns of a table that has no such row. Each line's id is `prefix` and its number. Raises
    SuiteError for what cannot be read.
    """
    raw = _read(path)
    if path.suffix == ".json":
        objects = _array(path, raw)
    elif path.suffix not in (".csv", ".tsv"):
        texts = raw.removesuffix(b"\n").split(b"\n")
        objects = [(n, _object(f"{path}:{n}", text)) for n, text in enumerate(texts, start=1)]
    else:
        try:
            reader = csv.reader(
                io.StringIO(raw.decode("utf-8-sig"), newline=""), "excel" if path.suffix == ".csv" else "excel-tab"
            )
            rows = [(reader.line_num, row) for row in reader if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise SuiteError(f"{path} is no table in UTF-8 ({error}); correct it.") from None
        names = list(columns) if columns else rows.pop(0)[1] if rows else []
        for number, row in rows:
            if len(row) != len(names):
                raise SuiteError(f"{path}:{number}: the row has {len(row)} columns, not {len(names)}; correct it.")
        objects = [(number, dict(zip(names, row, strict=True))) for number, row in rows]
    if not objects:
        raise SuiteError(f"{path} holds no line; give it some.")
    return [Line(f"{path}:{n}", {**data, "id": f"{prefix}-{i}"}, True) for i, (n, data) in enumerate(objects, start=1)]


def _array(path: Path, raw: bytes) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a JSON array. A key that is there twice has its last value, as everywhere in Python."""
    decoder, number = json.JSONDecoder(parse_constant=_no_constant), 1
    objects: list[tuple[int, dict[str, Any]]] = []
    try:
        text = raw.decode("utf-8-sig")
        mark, expected, at = re.compile(r"\s*(.?)\s*"), "[", 0
        while True:
            found = mark.match(text, at)
            assert found is not None  # it matches nothing, too
            number = text.count("\n", 0, found.start(1)) + 1
            if found[1] not in tuple(expected):
                raise ValueError(f"{' or '.join(expected)} is missing")
            at = found.end()
            if found[1] == "]":
                break
            if found[1] == "[" and text.startswith("]", at):
                expected = "]"
                continue
            number = text.count("\n", 0, at) + 1
            value, at = decoder.raw_decode(text, at)
            if not isinstance(value, dict):
                raise ValueError(f"here is {_kind(value)}, not an object")
            objects.append((number, value))
            expected = ",]"
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{path}:{number}: this is no JSON array of objects ({error}); correct it.") from None
    return objects


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SuiteError(
            f"{path} cannot be read ({error.strerror or error}); check the suite's 'file' entries."
        ) from None


def _object(where: str, text: bytes) -> dict[str, Any]:
    if not text.strip():
        raise SuiteError(f"{where}: the line is empty, but each line is one JSON object; remove it.")
    try:
        value = json.loads(text.decode(), parse_constant=_no_constant, object_pairs_hook=_distinct_keys)
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{where}: this is not a line of JSON ({error}); correct it.") from None
    if not isinstance(value, dict):
        raise SuiteError(f"{where}: the line is {_kind(value)}, but must be a JSON object; put it in braces.")
    return value


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
