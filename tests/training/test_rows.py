"""Parquet files and data sets from a hub are read as JSON lines are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from fairground.errors import DataError
from fairground.training.pairs import Pair, read_pairs
from fairground.training.text import read_documents
from fairground.types import Message

TURNS = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}]
CHATS: list[dict[str, Any]] = [{"messages": TURNS}, {"messages": [*TURNS, *TURNS]}]


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("rows", [CHATS, [{"text": "One."}, {"text": "Two."}]], ids=["chats", "text"])
def test_parquet_is_read_as_lines_are(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = list(read_documents(parquet(tmp_path / "a.parquet", rows)))
    wanted = list(read_documents(lines))
    assert [(d.text, d.messages) for d in columns] == [(d.text, d.messages) for d in wanted]
    assert columns[1].source == f"{tmp_path / 'a.parquet'}, row 2"


def test_pairs_from_parquet_and_with_the_prompt_in_both_conversations(tmp_path: Path) -> None:
    worse = [TURNS[0], {"role": "assistant", "content": "Warm."}]
    (pair,) = read_pairs(parquet(tmp_path / "a.parquet", [{"chosen": TURNS, "rejected": worse}]))
    user, blue, warm = (Message(turn["role"], turn["content"]) for turn in (*TURNS, worse[1]))  # type: ignore[arg-type]
    assert pair == Pair((user,), (blue,), (warm,), f"{tmp_path / 'a.parquet'}, row 1")


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "a.parquet", CHATS)
    whole.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        list(read_documents(whole))


TEXT = {"prompt": "Well?", "chosen": "Yes.", "rejected": "No."}
BAD: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "not a line of JSON"),
    "a list": ([], "not {"),
    "no chosen": ({"prompt": "a", "rejected": "b"}, "not {"),
    "a number": ({**TEXT, "rejected": 4}, "not {"),
    "a prompt in text to answers in messages": (
        {"prompt": "a", "chosen": TURNS[1:], "rejected": TURNS[1:]},
        "not {",
    ),
    "an empty answer": ({**TEXT, "chosen": " \n"}, "chosen: the text is empty"),
    "half a surrogate pair": ({**TEXT, "rejected": "\ud800"}, "rejected: holds half a surrogate pair"),
    "the same answer twice": ({**TEXT, "rejected": "Yes."}, "chosen and rejected are the same"),
    "no answer of the assistant": (
        {"prompt": TURNS, "chosen": TURNS[:1], "rejected": TURNS},
        "chosen has no answer of the assistant",
    ),
    "an unknown role": (
        {"prompt": [{"role": "robot", "content": "a"}], "chosen": TURNS[1:], "rejected": TURNS[1:]},
        "not {",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_pair_is_named(kind: str, tmp_path: Path) -> None:
    row, sentence = BAD[kind]
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(TEXT) + "\n" + (row if isinstance(row, str) else json.dumps(row)) + "\n")
    with pytest.raises(DataError) as caught:
        list(read_pairs(path))
    message = str(caught.value)
    assert message.startswith(f"{path}, line 2")
    assert sentence in message
    assert message.endswith(".")
    assert message.count("\n") == 0


def test_no_pair_at_all_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n \n")
    (tmp_path / "a.txt").write_text("text")
    for name, sentence in (("a.jsonl", "holds no text"), ("a.txt", "is not a text file that can be read here")):
        with pytest.raises(DataError, match=sentence):
            list(read_pairs(tmp_path / name))
