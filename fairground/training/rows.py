"""Rows of JSON to train on, from files that are checked line by line before any work begins."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fairground.errors import DataError, MissingExtra

ROWS = (".jsonl", ".jsonl.gz", ".parquet")
MAX_LINE = 1_000_000  # characters; longer ones are data in disguise, and no tokenizer cuts them in reasonable time
AT_ONCE = 1024  # rows of a parquet file


def files(path: Path, endings: Sequence[str]) -> list[Path]:
    """The file itself, or all files below a folder that end so, sorted by name. Raises DataError where there is none.

    In a folder of model or data repositories other files may lie beside them; those are passed over.
    """
    listed = ", ".join(endings)
    if os.path.isdir(path):  # unlike Path's own, says no to names that no disk can have
        found = sorted(
            file for file in path.rglob("*") if file.name.lower().endswith(tuple(endings)) and file.is_file()
        )
        if not found:
            raise DataError(f"{path} holds no text, for no file in it ends in {listed}; give another folder.")
        return found
    if not os.path.exists(path):
        raise DataError(f"{path} does not exist; check the name, or give another file or folder with text.")
    if not path.name.lower().endswith(tuple(endings)):
        raise DataError(f"{path} is not a text file that can be read here; give one that ends in {listed}.")
    return [path]


def rows(file: Path) -> Iterator[tuple[Any, str]]:
    """Each row as Python has it, and where it stands ("FILE, line 3", or "FILE, row 3" of a parquet file, from 1).

    Raises DataError, which names file and line, for what is not JSON lines in UTF-8 or parquet, and for a file without
    rows; MissingExtra for parquet where pyarrow is not installed.
    """
    found = False
    for row in _parquet(file) if file.name.lower().endswith(".parquet") else _json_lines(file):
        found = True
        yield row
    if not found:
        raise empty(file)


def _json_lines(file: Path) -> Iterator[tuple[Any, str]]:
    try:
        with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as lines:
            number = start = 0
            # A line is read only a little further than it may be long, so that one that never ends fills no memory.
            while data := lines.readline(4 * MAX_LINE + 4):
                number += 1
                line = decoded(data, file, number, start) if len(data) < 4 * MAX_LINE + 4 else " " * len(data)
                start += len(data)
                check_length(line, file, number)
                if line.strip():
                    yield _parsed(line, f"{file}, line {number}"), f"{file}, line {number}"
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(file, error) from None


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a line of JSON ({error}); correct it or take it out.") from None


def _parquet(file: Path) -> Iterator[tuple[Any, str]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtra(
            f"Reading {file.name} needs pyarrow; install it with pip install 'fairground[parquet]', or give JSON lines."
        ) from None
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield row, f"{file}, row {number}"
    except (OSError, ValueError) as error:  # pyarrow's own errors are among them
        raise unreadable(file, error) from None


def decoded(data: bytes, file: Path, line: int, start: int) -> str:
    """`data` as text; it begins at byte `start` of the file, in line `line`."""
    try:
        text = data.decode("utf-8-sig" if start == 0 else "utf-8")
    except UnicodeDecodeError as error:
        at = error.start + (3 if start == 0 and data.startswith(b"\xef\xbb\xbf") else 0)
        line += data.count(b"\n", 0, at)
        raise DataError(
            f"{file}, line {line}: byte {start + at} is not UTF-8 text; save the file as UTF-8 and try again."
        ) from None
    if "\0" in text:
        line += text.count("\n", 0, text.index("\0"))
        raise DataError(f"{file}, line {line}: holds a zero byte, so this is no text; give a text file.")
    return text.replace("\r\n", "\n")


def check_length(line: str, file: Path, number: int) -> None:
    """Raises DataError for a line that is too long to be text."""
    if len(line.rstrip("\n")) > MAX_LINE:
        raise DataError(
            f"{file}, line {number}: longer than {MAX_LINE:,} characters, which is rarely text; "
            "split it into several lines or take it out."
        )


def check_text(text: str, where: str) -> None:
    """Raises DataError for text of a row that is empty or no Unicode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{where}: holds half a surrogate pair, which is no character; take it out.") from None
    if "\0" in text:
        raise DataError(f"{where}: holds a zero character, so this is no text; take it out.")
    if not text.strip():
        raise DataError(f"{where}: the text is empty; take the line out.")


def line_ends(text: str) -> str:
    """The text with "\\n" for Windows's line ends. Raises AttributeError for what is no text."""
    return text.replace("\r\n", "\n")


def empty(file: Path) -> DataError:
    """For a file without text."""
    return DataError(f"{file} holds no text, only white space or nothing at all; take it out or fill it.")


def unreadable(file: Path, error: Exception) -> DataError:
    """For a file that cannot be opened or ends too early."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or "it ends too early"
    return DataError(f"{file} cannot be read ({reason}); check that it is there and whole, and try again.")
