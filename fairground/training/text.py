"""Texts to train on, read from files and checked before any work begins.

A .txt file is one document. A .jsonl, .jsonl.gz or .parquet file has one document a row: {"text"}, {"messages"} as
OpenAI's fine-tuning takes them, or what a teacher wrote, {"prompt", "text"} (fairground/training/writing.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from fairground.errors import DataError
from fairground.training import rows
from fairground.training.rows import MAX_LINE as MAX_LINE
from fairground.types import Message, Role

ENDINGS = (".txt", *rows.ROWS)
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
    for file in rows.files(path, ENDINGS):
        if file.name.lower().endswith(".txt"):
            yield Document(_whole(file), None, str(file))
        else:
            for row, where in rows.rows(file):
                yield _document(row, where)


def check_text(paths: Iterable[Path]) -> None:
    """Reads everything once, so that what is wrong is said before any work. Raises DataError as `read_documents`."""
    for path in paths:
        for _ in read_documents(path):
            pass


def _whole(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise rows.unreadable(file, error) from None
    text = rows.decoded(data, file, 1, 0)
    for number, line in enumerate(text.split("\n"), 1):
        rows.check_length(line, file, number)
    if not text.strip():
        raise rows.empty(file)
    return text


def _document(row: Any, where: str) -> Document:
    try:
        text, messages = _content(row, where)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(
            f'{where}: not {{"text": …}}, {{"messages": [{{"role", "content"}}…]}} with an answer of the assistant, '
            'or {"prompt": …, "text": …}; correct it or take it out.'
        ) from None
    rows.check_text(text, where)
    return Document(text, messages, where)


def _content(row: dict[str, Any], where: str) -> tuple[str, tuple[Message, ...] | None]:
    """A row's text and conversation; whatever Python raises means that it is not one of the three kinds."""
    turns = row.get("messages")
    if turns is None and isinstance(row.get("prompt"), list):
        turns = [*row["prompt"], {"role": "assistant", "content": row["text"]}]
    if turns is None:
        return rows.line_ends(row.get("prompt") or "") + rows.line_ends(row["text"]), None
    messages = read_messages(turns)
    if not any(m.role == "assistant" and m.content for m in messages):
        raise DataError(f"{where}: nothing to learn, for the assistant says nothing; give it a turn or take it out.")
    return "\n\n".join(message.content for message in messages), messages


def read_messages(turns: Any) -> tuple[Message, ...]:
    """OpenAI's messages; whatever Python raises means that they are none."""
    messages = tuple(Message(turn["role"], rows.line_ends(turn["content"])) for turn in turns)
    if not messages or any(m.role not in ROLES for m in messages):
        raise ValueError
    return messages
