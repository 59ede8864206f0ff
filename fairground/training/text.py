"""Texts to train on, read from files and checked before any work begins.

A .txt file is one document. A .jsonl or .jsonl.gz file has one document a line: {"text"}, {"messages"}, or what a
teacher wrote, {"prompt", "text"} (fairground/training/writing.py).
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from fairground.errors import DataError
from fairground.types import Message, Role

ENDINGS = (".txt", ".jsonl", ".jsonl.gz")
MAX_LINE = 1_000_000  # characters; longer ones are data in disguise, and no tokenizer cuts them in reasonable time
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Document:
    """A text to learn from.

    `messages`: the conversation, where it is one; `text` is then what its turns say, with an empty line between them.
    `source`: the file, and in JSON lines the line, that it came from.
    """

    text: str
    messages: tuple[Message, ...] | None
    source: str


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a file, or of all such files below a folder, sorted by name; other endings are ignored there.

    Text is UTF-8, with or without a byte order mark; Windows line ends become "\\n".
    Raises DataError, which names file and line, for whatever is not that.
    """
    for file in _files(path):
        if file.name.lower().endswith(".txt"):
            yield Document(_whole(file), None, str(file))
        else:
            yield from _rows(file)


def check_text(paths: Iterable[Path]) -> None:
    """Reads everything once, so that what is wrong is said before any work. Raises DataError as `read_documents`."""
    for path in paths:
        for _ in read_documents(path):
            pass


def _files(path: Path) -> list[Path]:
    endings = ", ".join(ENDINGS)
    if os.path.isdir(path):  # unlike Path's own, says no to names that no disk can have
        files = sorted(file for file in path.rglob("*") if file.name.lower().endswith(ENDINGS) and file.is_file())
        if not files:
            raise DataError(f"{path} holds no text, for no file in it ends in {endings}; give another folder.")
        return files
    if not os.path.exists(path):
        raise DataError(f"{path} does not exist; check the name, or give another file or folder with text.")
    if not path.name.lower().endswith(ENDINGS):
        raise DataError(f"{path} is not a text file that can be read here; give one that ends in {endings}.")
    return [path]


def _whole(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from None
    text = _decoded(data, file, 1, 0)
    for number, line in enumerate(text.split("\n"), 1):
        _check_length(line, file, number)
    if not text.strip():
        raise _empty(file)
    return text


def _rows(file: Path) -> Iterator[Document]:
    found = False
    try:
        with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as lines:
            number = start = 0
            # A line is read only a little further than it may be long, so that one that never ends fills no memory.
            while data := lines.readline(4 * MAX_LINE + 4):
                number += 1
                line = _decoded(data, file, number, start) if len(data) < 4 * MAX_LINE + 4 else " " * len(data)
                start += len(data)
                _check_length(line, file, number)
                if line.strip():
                    found = True
                    yield _document(line, file, number)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(file, error) from None
    if not found:
        raise _empty(file)


def _decoded(data: bytes, file: Path, line: int, start: int) -> str:
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


def _check_length(line: str, file: Path, number: int) -> None:
    if len(line.rstrip("\n")) > MAX_LINE:
        raise DataError(
            f"{file}, line {number}: longer than {MAX_LINE:,} characters, which is rarely text; "
            "split it into several lines or take it out."
        )


def _document(line: str, file: Path, number: int) -> Document:
    where = f"{file}, line {number}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a line of JSON ({error}); correct it or take it out.") from None
    try:
        text, messages = _content(row)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(
            f'{where}: not {{"text": …}}, {{"messages": [{{"role", "content"}}…]}} with an answer of the assistant, '
            'or {"prompt": …, "text": …}; correct it or take it out.'
        ) from None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{where}: holds half a surrogate pair, which is no character; take it out.") from None
    if "\0" in text:
        raise DataError(f"{where}: holds a zero character, so this is no text; take it out.")
    if not text.strip():
        raise DataError(f"{where}: the text is empty; take the line out.")
    return Document(text, messages, where)


def _content(row: dict[str, Any]) -> tuple[str, tuple[Message, ...] | None]:
    """A row's text and conversation; whatever Python raises means that it is not one of the three kinds."""
    turns = row.get("messages")
    if turns is None and isinstance(row.get("prompt"), list):
        turns = [*row["prompt"], {"role": "assistant", "content": row["text"]}]
    if turns is None:
        return _line_ends(row.get("prompt") or "") + _line_ends(row["text"]), None
    messages = tuple(Message(turn["role"], _line_ends(turn["content"])) for turn in turns)
    if any(m.role not in ROLES for m in messages) or not any(m.role == "assistant" and m.content for m in messages):
        raise ValueError
    return "\n\n".join(message.content for message in messages), messages


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n")


def _empty(file: Path) -> DataError:
    return DataError(f"{file} holds no text, only white space or nothing at all; take it out or fill it.")


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or "it ends too early"
    return DataError(f"{file} cannot be read ({reason}); check that it is there and whole, and try again.")
