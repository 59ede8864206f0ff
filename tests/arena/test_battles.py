"""Every file is read or refused in one sentence that names file, line and what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.arena.battles import LONGEST_LINE, WINNERS, read_battles
from fairground.errors import DataError, MissingExtra
from fairground.types import Battle

HEADER = b"model_a,model_b,winner\n"


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_csv_in_the_words_of_the_published_sets(tmp_path: Path) -> None:
    lmsys = (
        b'question_id,model_a,model_b,winner,judge,note\r\n1,gpt-4,"x, y",tie (bothbad),arena_user_7,"two\r\nlines"\r\n'
    )
    assert read_battles(written(tmp_path, "a.csv", lmsys)) == [Battle("gpt-4", "x, y", "both_bad", "arena_user_7")]
    llmfao = b"id,worker,winner,left,right\n0,58,right,A (7B),B\n\n1,,left,A (7B),B\n"
    assert read_battles(written(tmp_path, "b.csv", llmfao)) == [
        Battle("A (7B)", "B", "model_b", "58"),
        Battle("A (7B)", "B", "model_a", None),
    ]
    marked = b"\xef\xbb\xbf model_a , model_b,winner\nA, B ,Tie\n"  # as spreadsheets save it
    assert read_battles(written(tmp_path, "c.CSV", marked)) == [Battle("A", "B", "tie")]


@pytest.mark.parametrize(("word", "winner"), WINNERS.items())
def test_every_word_for_a_winner(tmp_path: Path, word: str, winner: str) -> None:
    assert read_battles(written(tmp_path, "a.csv", HEADER + f"A,B,{word}\n".encode()))[0].winner == winner


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        {"model_a": "A", "model_b": "Ü", "winner": "model_a", "voter": "v", "conversation": ["hello"]},
        {"left": "A", "right": "Ü", "winner": "tie", "user": 7},
        {"model_a": "A", "model_b": "Ü", "winner": "bothbad", "voter": None},
    ]
    content = "\n\n".join(json.dumps(line) for line in lines).encode()
    for name in ("a.jsonl", "a.ndjson"):
        assert read_battles(written(tmp_path, name, content)) == [
            Battle("A", "Ü", "model_a", "v"),
            Battle("A", "Ü", "tie", "7"),
            Battle("A", "Ü", "both_bad", None),
        ]


def test_the_first_voter_column_counts(tmp_path: Path) -> None:
    content = b"model_a,model_b,winner,judge,voter\nA,B,tie,gpt-4,me\n"
    assert read_battles(written(tmp_path, "a.csv", content))[0].voter == "me"


BAD_CSV = [
    (b"", "is empty"),
    (b"\n \n", "has no header"),
    (HEADER, "holds no battles; add at least one row"),
    (b"model_a,winner\nA,tie\n", "line 1: there is no model_b, only 'model_a, winner'"),
    (b"model_a,model_b\nA,B\n", "line 1: there is no winner"),
    (b"left,winner\nA,tie\n", "line 1: there is no right"),
    (b"x,y\nA,tie\n", "line 1: there is no model_a"),
    (b"model_a,model_b,winner,winner\nA,B,tie,tie\n", "line 1: there are two columns 'winner'"),
    (HEADER + b"A,B,tie\nA,B,draw\n", "line 3: winner is 'draw', which is not known; write model_a"),
    (HEADER + b"A,B,\n", "line 2: winner is ''"),
    (HEADER + b"A,,tie\n", "line 2: model_b is empty; write a model's name"),
    (HEADER + b"  ,B,tie\n", "line 2: model_a is empty"),
    (HEADER + b"A,A,tie\n", "line 2: 'A' is set against itself"),
    (HEADER + b"A,B\n", "line 2: it has 2 cells, but the header has 3"),
    (HEADER + b"A,B,tie,4\n", "line 2: it has 4 cells, but the header has 3"),
    (HEADER + b"A,\xff,tie\n", "line 2: byte 3 is not UTF-8; save the file in UTF-8"),
    (HEADER + b"A,B\0,tie\n", "line 2: it holds a NUL byte"),
    ("model_a,model_b,winner\n".encode("utf-16"), "line 1: it holds a NUL byte"),
    (HEADER + b'A,"B,tie\n', "it is not valid csv"),
    (HEADER + b'A,"B"x,tie\n', "line 2: it is not valid csv"),
    (b"model_a,model_b,winner\rA,B,tie\r", "it is not valid csv"),
    (HEADER + b"A,B,tie," + b"x" * 200_000 + b"\n", "line 2: it is not valid csv .*leave out columns"),
    (HEADER + b"x" * (LONGEST_LINE + 1), "line 2: it is longer than 16 MiB"),
    (HEADER + b"A," + b"B" * 300 + b",tie\n", "line 2: model_b has 300 characters"),
    (HEADER + b"A,\x1b[31mB,tie\n", "line 2: model_b is .*cannot be printed"),
    (b"model_a,model_b,winner,voter\nA,B,tie,\x07\n", "line 2: voter is .*cannot be printed"),
]

BAD_JSON = [
    (b"{}\n", "line 1: there is no model_a"),
    (b"[1]\n", "line 1: it is a JSON list, not an object"),
    (b'{"model_a": "A"\n', "line 1: it is not valid JSON"),
    (b"1" * 5000, "line 1: it is not valid JSON"),
    (b"[" * 100_000, "line 1: its JSON is nested too deeply"),
    (b'{"model_a": 1, "model_b": "B", "winner": "tie"}', "line 1: model_a is '1', which is not text"),
    (b'{"model_a": "A", "model_b": "B", "winner": null}', "line 1: winner is 'None'"),
    (b'{"model_a": "A", "model_b": "B", "winner": "tie", "voter": [1]}', r"line 1: voter is '\[1\]'"),
    (b'{"model_a": "A", "model_b": "\\ud800", "winner": "tie"}', "line 1: model_b is .*cannot be printed"),
    (b'\n{"model_a": "A", "model_b": "A", "winner": "tie"}', "line 2: 'A' is set against itself"),
    (b'{"model_a": "\xe9"}', "line 1: byte 14 is not UTF-8"),
    (b"\n", "holds no battles"),
]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("bad.csv", *case) for case in BAD_CSV] + [("bad.jsonl", *case) for case in BAD_JSON],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_files_are_refused_in_a_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_battles(written(tmp_path, name, content))
    message = str(caught.value)
    assert message.startswith(name)
    assert message.endswith(".")
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 400


def test_names_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv cannot be read \(No such file or directory\); check the name"):
        read_battles(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_battles(tmp_path / "folder.csv")
    with pytest.raises(DataError, match=r"votes\.txt: battles are read from files named \.csv"):
        read_battles(tmp_path / "votes.txt")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["fuzz.csv", "fuzz.jsonl", "fuzz.parquet"]), st.booleans())
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str, headed: bool
) -> None:
    path = written(tmp_path_factory.mktemp("fuzz"), name, (HEADER if headed else b"") + content)
    try:
        battles = read_battles(path)
    except (DataError, MissingExtra):
        return
    assert all(battle.model_a != battle.model_b for battle in battles)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet files need pyarrow, which Fairground does not require")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"

    def table(**columns: list[object]) -> Path:
        parquet.write_table(pyarrow.table(columns), path)
        return path

    good = {"model_a": ["A", "B"], "model_b": ["B", "A"], "winner": ["tie", "model_b"], "judge": [3.0, None]}
    assert read_battles(table(**good, extra=[[1], [2]])) == [
        Battle("A", "B", "tie", "3"),
        Battle("B", "A", "model_b", None),
    ]
    with pytest.raises(DataError, match=r"a\.parquet, row 2: winner is 'draw'"):
        read_battles(table(**{**good, "winner": ["tie", "draw"]}))
    with pytest.raises(DataError, match=r"a\.parquet: there is no winner"):
        read_battles(table(model_a=["A"], model_b=["B"]))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"a\.parquet is not a sound parquet file .*; write it again"):
        read_battles(path)


def test_parquet_without_pyarrow_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match="python -m pip install pyarrow"):
        read_battles(written(tmp_path, "a.parquet", b"PAR1"))
