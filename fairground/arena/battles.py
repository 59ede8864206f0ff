"""Battles from a file: csv, jsonl or parquet.

Columns: `model_a` and `model_b` (or `left` and `right`), `winner`, and if there is one a voter (`voter`, `user`,
`worker` or `judge`, the first of these that is there). Other columns are ignored. `winner` is `model_a`, `left` or
`a`; `model_b`, `right` or `b`; `tie`; or `tie (bothbad)`, `bothbad` or `both_bad`, in any case.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from fairground.errors import DataError, MissingExtra
from fairground.types import Battle, Winner

Row = tuple[str, dict[str, object]]  # where it stands ("votes.csv, line 3"), and its cells by column

MODEL_COLUMNS = (("model_a", "model_b"), ("left", "right"))
VOTER_COLUMNS = ("voter", "user", "worker", "judge")
WINNERS: dict[str, Winner] = {
    "model_a": "model_a",
    "left": "model_a",
    "a": "model_a",
    "model_b": "model_b",
    "right": "model_b",
    "b": "model_b",
    "tie": "tie",
    "tie (bothbad)": "both_bad",
    "bothbad": "both_bad",
    "both_bad": "both_bad",
}
LONGEST_LINE = 16 * 2**20  # bytes: published battles carry whole conversations, but a file without newlines is no table
LONGEST_NAME = 256  # characters


def read_battles(path: str | Path) -> list[Battle]:
    """The battles in a file, in its order; the format is the name's ending (.csv, .jsonl, .ndjson or .parquet).

    Raises DataError, naming file and line, for anything that is not a battle, and MissingExtra for a parquet file
    where pyarrow is not installed.
    """
    return [battle_of(where, cells) for where, cells in rows(path)]


def rows(path: str | Path, facts: Collection[str] = ()) -> Iterator[Row]:
    """The rows of a file of battles, each with where it stands; of a parquet file only the columns of a battle and
    those named in `facts`. Raises what `read_battles` raises of a file."""
    path = Path(path)
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {
        ".csv": _csv_rows,
        ".jsonl": _json_rows,
        ".ndjson": _json_rows,
        ".parquet": lambda path: _parquet_rows(path, facts),
    }
    if path.suffix.lower() not in readers:
        raise DataError(
            f"{path.name}: battles are read from files named .csv, .jsonl, .ndjson or .parquet, and this is none of "
            "them; rename or convert it."
        )
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty; it needs columns model_a, model_b and winner, and a row a battle.")
        there_is_one = False
        for row in readers[path.suffix.lower()](path):
            there_is_one = True
            yield row
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise DataError(f"{path} cannot be read ({reason}); check the name and its permissions.") from error
    if not there_is_one:
        raise DataError(f"{path.name} holds no battles; add at least one row.")


def battle_of(where: str, cells: Mapping[str, object]) -> Battle:
    """The battle in a row. Raises DataError, beginning with `where`, for anything else."""
    model_a, model_b = model_columns(where, cells)
    a, b = model_name(where, model_a, cells[model_a]), model_name(where, model_b, cells[model_b])
    if a == b:
        raise DataError(f"{where}: {a!r} is set against itself, which says nothing of either; remove the row.")
    winner = winner_of(where, cells["winner"])
    column = voter_column(cells)
    return Battle(a, b, winner, None if column is None else voter_name(where, column, cells[column]))


def voter_column(columns: Collection[str]) -> str | None:
    """The column that says who voted, if there is one."""
    return next((name for name in VOTER_COLUMNS if name in columns), None)


def winner_of(where: str, said: object) -> Winner:
    """What a cell under `winner` means; DataError where that is not known."""
    winner = WINNERS.get(said.strip().lower()) if isinstance(said, str) else None
    if winner is None:
        raise DataError(
            f"{where}: winner is {_short(said)}, which is not known; write model_a, model_b, tie or tie (bothbad)."
        )
    return winner


def model_columns(where: str, columns: Iterable[str]) -> tuple[str, str]:
    """The names of the two model columns; DataError where one of them, or `winner`, is missing."""
    have = list(columns)
    pair = next((pair for pair in MODEL_COLUMNS if set(pair) <= set(have)), None)
    if pair and "winner" in have:
        return pair
    # The first missing one of the pair that is nearer to what is there.
    expected = pair or max(MODEL_COLUMNS, key=lambda names: len(set(names) & set(have)))
    missing = next(name for name in (*expected, "winner") if name not in have)
    raise DataError(
        f"{where}: there is no {missing}, only {_short(', '.join(have))}; battles need model_a, model_b (or left, "
        "right) and winner."
    )


def model_name(where: str, column: str, value: object) -> str:
    """A model's name, of a cell; DataError where it is none."""
    if not isinstance(value, str):
        raise DataError(f"{where}: {column} is {_short(value)}, which is not text; write the model's name in quotes.")
    return _name(where, column, value.strip(), "a model's name")


def voter_name(where: str, column: str, value: object) -> str | None:
    """Who voted: text or a whole number; empty or null is nobody, and such a battle stands by itself."""
    if isinstance(value, float) and (math.isnan(value) or value.is_integer()):
        value = None if math.isnan(value) else int(value)  # what pandas makes of whole numbers with gaps
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {column} is {_short(value)}; write text, a whole number, or nothing.")
    return _name(where, column, str(value).strip(), "a voter's name")


def _name(where: str, column: str, name: str, what: str) -> str:
    if not name:
        raise DataError(f"{where}: {column} is empty; write {what}.")
    if len(name) > LONGEST_NAME:
        raise DataError(
            f"{where}: {column} has {len(name):,} characters, and {what} has {LONGEST_NAME} at most; shorten it."
        )
    if not name.isprintable():  # it goes to terminals and pages as it is
        raise DataError(f"{where}: {column} is {_short(name)}, with characters that cannot be printed; remove them.")
    return name


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of text, from 1, checked before anything parses them."""
    name = path.name
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            where = f"{name}, line {number}"
            if len(raw) > LONGEST_LINE:
                raise DataError(
                    f"{where}: it is longer than {LONGEST_LINE // 2**20} MiB; check that the file is text with a "
                    "battle a line, and leave out columns that are not needed."
                )
            if b"\0" in raw:
                raise DataError(f"{where}: it holds a NUL byte, so it is not text; save the file as UTF-8 text.")
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{where}: byte {error.start + 1} is not UTF-8; save the file in UTF-8 and try again."
                ) from error


def _csv_rows(path: Path) -> Iterator[Row]:
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    header: list[str] | None = None
    file = path.name
    try:
        for cells in reader:
            where = f"{file}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [name.strip() for name in cells]
                twice = next((name for name in header if name and header.count(name) > 1), None)
                if twice is not None:
                    raise DataError(f"{where}: there are two columns {_short(twice)}; keep one of them.")
                model_columns(where, header)
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{where}: it has {len(cells)} cells, but the header has {len(header)}; look for a missing or "
                    "surplus comma, and put cells that hold commas in double quotes."
                )
            yield where, dict(zip(header, cells))  # noqa: B905 - their lengths are equal, and strictness costs time
    except csv.Error as error:
        raise DataError(
            f"{path.name}, line {reader.line_num}: it is not valid csv ({error}); check its quotes and line ends, and "
            "leave out columns that are not needed."
        ) from error
    if header is None:
        raise DataError(f"{path.name} has no header; its first line must name model_a, model_b and winner.")


def _json_rows(path: Path) -> Iterator[Row]:
    name = path.name
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            cells = json.loads(line)
        except RecursionError as error:
            raise DataError(f"{where}: its JSON is nested too deeply; write one flat object a line.") from error
        except ValueError as error:  # JSONDecodeError, or a number of more digits than Python takes
            raise DataError(f"{where}: it is not valid JSON ({error}); write one object a line.") from error
        if not isinstance(cells, dict):
            raise DataError(f"{where}: it is a JSON {type(cells).__name__}, not an object; write one object a line.")
        yield where, cells


def _parquet_rows(path: Path, facts: Collection[str]) -> Iterator[Row]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
        errors = importlib.import_module("pyarrow.lib").ArrowException
    except ImportError as error:
        raise MissingExtra(
            f"{path.name} is a parquet file, and reading one needs pyarrow, which is not installed; "
            "run `python -m pip install pyarrow`, or save the battles as csv or jsonl."
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            pair = model_columns(path.name, columns)
            wanted = [name for name in (*pair, "winner", *VOTER_COLUMNS, *facts) if name in columns]
            row = 0
            for batch in file.iter_batches(columns=wanted):
                for cells in batch.to_pylist():
                    row += 1
                    yield f"{path.name}, row {row}", cells
    except errors as error:
        raise DataError(f"{path.name} is not a sound parquet file ({_short(str(error))}); write it again.") from error
