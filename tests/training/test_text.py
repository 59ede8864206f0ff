"""Every kind of file is read, and everything that is not text is refused with its file and its line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fairground.errors import DataError
from fairground.training.text import MAX_LINE, Document, check_text, read_documents
from fairground.types import Message

TURNS = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}]


def read(path: Path) -> list[Document]:
    return list(read_documents(path))


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfOne caf\xc3\xa9.\r\nTwo.\n\nThree.")
    assert read(file) == [Document("One café.\nTwo.\n\nThree.", None, str(file))]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_line_is_a_document(tmp_path: Path, name: str) -> None:
    rows = [
        {"text": "Plain.\r\nText.", "source": "ignored"},
        {"messages": TURNS},
        {"prompt": "Once upon", "text": " a time.", "finish_reason": "stop"},
        {"prompt": TURNS[:1], "text": "Green."},
    ]
    lines = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows)
    file = tmp_path / name
    file.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
    assert read(file) == [
        Document("Plain.\nText.", None, f"{file}, line 1"),
        Document("Name a colour.\n\nBlue.", tuple(Message(**turn) for turn in TURNS), f"{file}, line 3"),  # type: ignore[arg-type]
        Document("Once upon a time.", None, f"{file}, line 5"),
        Document(
            "Name a colour.\n\nGreen.",
            (Message("user", "Name a colour."), Message("assistant", "Green.")),
            f"{file}, line 7",
        ),
    ]


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.txt").write_text("third")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b" / "a.jsonl").write_text('{"text": "second"}\n')
    (tmp_path / "notes.md").write_text("not this")
    assert [document.text for document in read(tmp_path)] == ["first", "second", "third"]
    check_text([tmp_path, tmp_path / "a.txt"])


LATIN_1 = "Erste Zeile.\nSchöne Grüße.".encode("latin-1")
BAD = {
    "latin-1 text": ("a.txt", LATIN_1, "a.txt, line 2: byte 16 is not UTF-8 text; save the file as UTF-8"),
    "UTF-16": ("a.txt", "Text".encode("utf-16"), "a.txt, line 1: byte 0 is not UTF-8 text"),
    "latin-1 after a byte order mark": ("a.txt", b"\xef\xbb\xbfa\n\xff", "a.txt, line 2: byte 5 is not UTF-8 text"),
    "latin-1 rows": ("a.jsonl", b'{"text": "a"}\n{"text": "\xfc"}\n', "a.jsonl, line 2: byte 24 is not UTF-8 text"),
    "binary data": ("a.txt", b"a\nb\0c", "a.txt, line 2: holds a zero byte, so this is no text; give a text file."),
    "an empty file": ("a.txt", b"", "a.txt holds no text, only white space or nothing at all; take it out or fill it."),
    "white space": ("a.txt", b" \n\t\r\n", "a.txt holds no text"),
    "no rows": ("a.jsonl", b"\n \n", "a.jsonl holds no text"),
    "a byte order mark alone": ("a.jsonl", b"\xef\xbb\xbf", "a.jsonl holds no text"),
    "a long line": ("a.txt", b"a\n" + b"b" * (MAX_LINE + 1), "a.txt, line 2: longer than 1,000,000 characters"),
    "a long row": ("a.jsonl", b'{"text": "a"}\n' + b"b" * 5 * MAX_LINE, "a.jsonl, line 2: longer than 1,000,000"),
    "malformed JSON": ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', "a.jsonl, line 3: not a line of JSON ("),
    "a list": ("a.jsonl", b"[1]\n", 'a.jsonl, line 1: not {"text": …}, {"messages": [{"role", "content"}…]}'),
    "unknown fields": ("a.jsonl", b'{"body": "a"}\n', "a.jsonl, line 1: not {"),
    "text that is a number": ("a.jsonl", b'{"text": 3}\n', "a.jsonl, line 1: not {"),
    "an empty text": ("a.jsonl", b'{"text": " "}\n', "a.jsonl, line 1: the text is empty; take the line out."),
    "an unknown role": ("a.jsonl", b'{"messages": [{"role": "bot", "content": "a"}]}\n', "a.jsonl, line 1: not {"),
    "no answer": ("a.jsonl", b'{"messages": [{"role": "user", "content": "a"}]}\n', "line 1: nothing to learn"),
    "no messages": ("a.jsonl", b'{"messages": []}\n', "a.jsonl, line 1: not {"),
    "a prompt alone": ("a.jsonl", b'{"prompt": "a"}\n', "a.jsonl, line 1: not {"),
    "half a surrogate pair": ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl, line 1: holds half a surrogate pair"),
    "a zero character": ("a.jsonl", b'{"text": "a\\u0000"}\n', "a.jsonl, line 1: holds a zero character"),
    "deep JSON": ("a.jsonl", b"[" * 100_000, "a.jsonl, line 1: not a line of JSON ("),
    "a cut gzip file": ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99)[:-12], "a.jsonl.gz cannot be read ("),
    "a gzip file that is none": ("a.jsonl.gz", b'{"text": "a"}\n', "a.jsonl.gz cannot be read ("),
    "another ending": ("a.md", b"text", "a.md is not a text file that can be read here; give one that ends in .txt,"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_text_is_named(tmp_path: Path, kind: str) -> None:
    name, data, sentence = BAD[kind]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        check_text([tmp_path / name])
    message = str(caught.value)
    assert sentence in message
    assert message.startswith(str(tmp_path))
    assert message.endswith(".")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.txt does not exist"):
        read(tmp_path / "missing.txt")
    with pytest.raises(DataError, match=r"does not exist; check the name"):
        read(tmp_path / ("long" * 99 + ".txt"))
    with pytest.raises(DataError, match=r"holds no text, for no file in it ends in \.txt, \.jsonl, \.jsonl\.gz"):
        read(tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path.parent / "gone")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b.txt").write_text("second")
    found = read_documents(tmp_path)
    next(found)
    (tmp_path / "b.txt").unlink()
    make(tmp_path / "b.txt")
    with pytest.raises(DataError, match=r"b\.txt cannot be read \(.+\); check that it is there"):
        next(found)
