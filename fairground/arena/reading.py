"""A file of battles as columns: two million rows in seconds.

What pyarrow reads at once is held to the same rules as what `battles.py` reads row by row; whatever is odd is left to
the latter, which says where it stands.
"""

from __future__ import annotations

import csv
import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairground.arena.battles import (
    LONGEST_LINE,
    VOTER_COLUMNS,
    battle_of,
    model_columns,
    model_name,
    rows,
    voter_column,
    voter_name,
    winner_of,
)
from fairground.arena.columns import CODES, NO_STYLE, Battles, Ints
from fairground.arena.facts import COLUMNS, Fact, prompt_of, style_of, tags_of
from fairground.errors import DataError

Coded = tuple[Ints, list[Any]]  # a column [n] as places in a list of its values

_BATTLE = ("model_a", "model_b", "left", "right", "winner", *VOTER_COLUMNS)
_STRAY_QUOTE = re.compile(rb'"(?<![,\n"]")(?=[^",\r\n])')  # neither opens nor closes a cell, nor is one of two


def read_columns(path: str | Path, wanted: Collection[Fact] = ()) -> Battles:
    """The battles in a file, in its order, with the facts about them that are wanted, where it has them.

    The style of a battle of which it is not known is not a number.

    Raises DataError, naming file and line, for anything that is not a battle, and MissingExtra for a parquet file
    where pyarrow is not installed.
    """
    path = Path(path)
    named = dict.fromkeys(column for fact in wanted for column in COLUMNS[fact])
    if (found := _at_once(path, named)) is not None:
        return found
    return _by_row(path, wanted, named)


def _by_row(path: Path, wanted: Collection[Fact], named: Collection[str]) -> Battles:
    seen = _Seen()
    found: list[tuple[int, int, int, int]] = []
    styles: list[tuple[float, ...]] = []
    prompts: list[int] = []
    tagged: dict[str, list[int]] = {}
    for number, (where, cells) in enumerate(rows(path, named)):
        found.append(seen.codes(where, cells))
        if "style" in wanted:
            styles.append(style_of(cells) or NO_STYLE)
        if "prompt" in wanted:
            prompts.append(prompt_of(cells))
        if "category" in wanted or "language" in wanted:
            for tag in tags_of(cells, wanted):
                tagged.setdefault(tag, []).append(number)
    first, second, outcome, voter = np.array(found, dtype=np.int64).T
    models = list(seen.models)
    battles = _battles((first, models), (second, models), outcome, (voter, list(seen.voters)))
    tags = {tag: np.zeros(len(found), dtype=bool) for tag in sorted(tagged)}
    for tag, numbers in tagged.items():
        tags[tag][numbers] = True
    return replace(
        battles,
        prompt=np.array(prompts, dtype=np.int64) if "prompt" in wanted else battles.prompt,
        style=np.array(styles) if "style" in wanted and not np.isnan(styles).all() else None,
        tags=tags,
    )


class _Seen:
    """Names that were checked before, as most in a file were; whatever is new is checked by `battle_of`."""

    def __init__(self) -> None:
        self.models: dict[str, int] = {}
        self.voters: dict[str | None, int] = {}
        self._model_cells: dict[object, int] = {}
        self._voter_cells: dict[object, int] = {}
        self._winner_cells: dict[object, int] = {}
        self._columns: dict[tuple[str, ...], tuple[str, str, str | None]] = {}

    def codes(self, where: str, cells: Mapping[str, object]) -> tuple[int, int, int, int]:
        """First, second, outcome and voter of a row. Raises DataError."""
        columns = self._columns.get(tuple(cells))
        if columns is not None:
            left, right, who = columns
            said, voter = cells["winner"], None if who is None else cells[who]
            # Text alone: 1, 1.0 and True are one key in a dictionary, but not one voter.
            if type(said) is str and (type(voter) is str or voter is None):
                try:
                    a, b = self._model_cells[cells[left]], self._model_cells[cells[right]]
                    if a != b:
                        return a, b, self._winner_cells[said], self._voter_cells[voter]
                except (KeyError, TypeError):
                    pass
        battle = battle_of(where, cells)
        left, right = model_columns(where, cells)
        who = voter_column(cells)
        self._columns[tuple(cells)] = left, right, who
        a, b = (self.models.setdefault(name, len(self.models)) for name in (battle.model_a, battle.model_b))
        outcome, voter = CODES[battle.winner], self.voters.setdefault(battle.voter, len(self.voters))
        self._model_cells |= {cells[left]: a, cells[right]: b}
        self._winner_cells[cells["winner"]] = outcome
        self._voter_cells[None if who is None else cells[who]] = voter
        return a, b, outcome, voter


def _at_once(path: Path, facts: Collection[str]) -> Battles | None:
    """A plain file by pyarrow, where it is installed; None where it has facts that are wanted, or anything odd."""
    try:
        pyarrow = importlib.import_module("pyarrow")
        if path.suffix.lower() == ".csv":
            table = _csv_table(path, facts)
        elif path.suffix.lower() == ".parquet":
            table = _parquet_table(path, facts)
        else:
            return None
    except (ImportError, OSError, ValueError, csv.Error):  # pyarrow's own errors are ValueErrors
        return None
    if table is None or not len(table):
        return None
    try:
        a, b = model_columns(path.name, table.column_names)
        voter = voter_column(table.column_names)
        first, second = (_checked(pyarrow, table, name, partial(model_name, path.name, name)) for name in (a, b))
        winner, values = _checked(pyarrow, table, "winner", partial(winner_of, path.name))
        people = (
            (np.zeros(len(table), dtype=np.int64), [None])
            if voter is None
            else _checked(pyarrow, table, voter, partial(voter_name, path.name, voter))
        )
    except (DataError, ValueError):
        return None
    outcome = np.array([CODES[value] for value in values], dtype=np.int64)[winner]
    battles = _battles(first, second, outcome, people)
    return None if (battles.first == battles.second).any() else battles


def _csv_table(path: Path, facts: Collection[str]) -> Any:
    """The columns of a battle as text, of a csv file whose quotes stand where they must."""
    content = path.read_bytes()
    begin = content.find(b"\n")
    header = next(csv.reader([content[:begin].decode("utf-8-sig")], strict=True), [])
    header = [name.strip() for name in header]
    odd = b"\0" in content or content.count(b"\r") != content.count(b"\r\n") or content.count(b'"') % 2
    if odd or _STRAY_QUOTE.search(content, begin):
        return None
    if len(set(header)) < len(header) or not any(header) or not set(facts).isdisjoint(header):
        return None
    arrow, pyarrow = importlib.import_module("pyarrow.csv"), importlib.import_module("pyarrow")
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    kept = [name for name in _BATTLE if name in header]
    return arrow.read_csv(
        pyarrow.BufferReader(memoryview(content)[begin + 1 :]),
        arrow.ReadOptions(column_names=header, block_size=LONGEST_LINE),
        arrow.ParseOptions(newlines_in_values=b'"' in content),
        arrow.ConvertOptions(
            include_columns=kept, column_types=dict.fromkeys(kept, text), strings_can_be_null=False, check_utf8=True
        ),
    )


def _parquet_table(path: Path, facts: Collection[str]) -> Any:
    parquet = importlib.import_module("pyarrow.parquet")
    with parquet.ParquetFile(path) as file:
        there = file.schema_arrow.names
        if not set(facts).isdisjoint(there):
            return None
        return file.read(columns=[name for name in _BATTLE if name in there])


def _checked(pyarrow: ModuleType, table: Any, name: str, check: Callable[[object], Any]) -> Coded:
    """A column's values, each checked once; raises what the check raises."""
    column = table.column(name).combine_chunks()
    if not pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_encode(null_encoding="encode")
    if column.null_count:
        raise DataError(f"{name} has empty cells.")
    return column.indices.to_numpy().astype(np.int64), [check(value) for value in column.dictionary.to_pylist()]


def _battles(first: Coded, second: Coded, outcome: Ints, voter: Coded) -> Battles:
    models, (a, b) = _in_order(first, second)
    _, (person,) = _in_order(voter)
    return Battles(
        models=tuple(models),
        first=a,
        second=b,
        outcome=outcome.astype(np.int8),
        voter=person,
        prompt=np.full(len(outcome), -1, dtype=np.int64),
    )


def _in_order(*columns: Coded) -> tuple[list[str], list[NDArray[np.int32]]]:
    """The sorted names in some columns, and each column as places among them; None is -1."""
    names = sorted({value for codes, values in columns for value in values if value is not None})
    place: dict[str | None, int] = {None: -1} | {name: i for i, name in enumerate(names)}
    return names, [np.array([place[value] for value in values], dtype=np.int32)[codes] for codes, values in columns]
