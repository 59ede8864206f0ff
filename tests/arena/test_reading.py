"""Files as columns: the fast way reads what the careful way reads, and both take what LMSYS publishes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.arena import reading
from fairground.arena.battles import read_battles
from fairground.arena.columns import Battles, capped, columns
from fairground.arena.groups import largest_group
from fairground.arena.ratings import rate, rated
from fairground.arena.reading import read_columns
from fairground.errors import DataError
from fairground.types import Battle

FIELDS = ("first", "second", "outcome", "voter", "prompt")


def same(a: Battles, b: Battles) -> None:
    assert a.models == b.models
    for name in FIELDS:
        assert (getattr(a, name) == getattr(b, name)).all(), name


CELLS = st.sampled_from(["A", "B", "C", " A", 'x "y"', "a, b", "7", "", "\N{SNOWMAN}"])
ROWS = st.lists(
    st.tuples(CELLS, CELLS, st.sampled_from(["model_a", "Tie", "bothbad", "left", "draw"]), CELLS), max_size=6
)


@settings(max_examples=150, deadline=None)
@given(
    ROWS, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.sampled_from(["\n", "\r\n"]), st.binary(max_size=6)
)
def test_both_ways_read_the_same_or_refuse_alike(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], quoting: int, ends: str, tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=quoting, lineterminator=ends)  # type: ignore[call-overload]
        writer.writerows([("model_a", "model_b", "winner", "judge"), *rows])
    with path.open("ab") as added:
        added.write(tail)
    try:
        careful = columns(read_battles(path))
    except DataError as error:
        with pytest.raises(DataError) as caught:
            read_columns(path)
        if str(caught.value) != str(error):
            raise
        return
    same(read_columns(path), careful)


def test_the_fast_way_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {"model_a": ["B", "A", "A"], "model_b": ["A", "C", "B"], "winner": ["tie", "model_a", "bothbad"]}
    rows["judge"] = [3.0, None, 4.0]  # type: ignore[list-item]
    parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text('"model_a","model_b",winner,judge\nB,A,tie,3\nA,C,model_a,\n"A",B,bothbad,4\n')
    slow = columns(read_battles(tmp_path / "a.parquet"))
    assert slow.voter.tolist() == [0, -1, 1]
    monkeypatch.setattr(reading, "_by_row", lambda *_: pytest.fail("read row by row"))
    same(read_columns(tmp_path / "a.csv"), slow)
    same(read_columns(tmp_path / "a.parquet"), slow)


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.csv").write_text("model_a,model_b,winner\nB,A,tie\n")
    assert read_columns(tmp_path / "a.csv").models == ("A", "B")


def lmsys(**more: object) -> dict[str, object]:
    talk = [{"role": "user", "content": "Write a Python function"}, {"role": "assistant", "content": "**bold** word"}]
    other = [talk[0], {"role": "assistant", "content": "# Head\n\n- one\n- two"}]
    row = {"model_a": "A", "model_b": "B", "winner": "tie", "conversation_a": talk, "conversation_b": other}
    return row | more


def test_facts_in_the_words_of_the_published_sets(tmp_path: Path) -> None:
    counts = {"sum_assistant_a_tokens": 30, "sum_assistant_b_tokens": 9}
    counts |= {f"header_count_{side}": {"h1": 1, "h2": 2} for side in "ab"}
    counts |= {"list_count_a": {"ordered": 3, "unordered": 0}, "list_count_b": {"ordered": 0, "unordered": 0}}
    counts |= {f"bold_count_{side}": {"**": 0, "__": None} for side in "ab"}
    hard = {"criteria_v0.1": {str(i): i > 0 for i in range(7)}, "math_v0.1": {"math": True}, "if_v0.1": {"if": False}}
    rows = [
        lmsys(conv_metadata=counts, language="English", is_code=True, category_tag=hard, turn=2),
        lmsys(language="de", is_code=False),
        lmsys(),
        lmsys(conversation_a=None, style=[0.5, 0, 0, -0.5], tags=["maths"], prompt="aa", language=None),
        lmsys(prompt=" write a  python Function"),
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    read = read_columns(path, ("style", "prompt", "category", "language"))
    assert read.style is not None
    assert read.style[0] == pytest.approx([21 / 40, 0, 3 / 4, 0])
    assert read.style[3].tolist() == [0.5, 0, 0, -0.5]
    assert read.style[2, 1:] == pytest.approx([-1 / 2, -2 / 3, 1 / 2])
    assert read.prompt[0] == read.prompt[1] == read.prompt[4] != read.prompt[3]
    tagged = {name: np.flatnonzero(mask).tolist() for name, mask in read.tags.items()}
    assert tagged["hard"] == [0]
    assert tagged["maths"] == [0, 3]
    assert set(tagged["code"]) == {0, 2, 4}  # by its column, and by rules where there is no column
    assert tagged["language:de"] == [1]
    assert tagged["multi-turn"] == [0]
    assert read_columns(path).style is None


def test_csv_with_counts_in_plain_columns(tmp_path: Path) -> None:
    names = [f"{name}_{side}" for name in ("length", "headings", "lists", "bold") for side in "ab"]
    (tmp_path / "a.csv").write_text(
        f"model_a,model_b,winner,{','.join(names)}\nA,B,tie,9,0,0,0,1,3,0,0\nA,B,tie{',' * 8}\n"
    )
    read = read_columns(tmp_path / "a.csv", ["style"])
    assert read.style is not None
    assert read.style[0] == pytest.approx([0.9, 0, -0.4, 0])
    assert np.isnan(read.style[1]).all()


def test_prompts_are_capped_whatever_their_order() -> None:
    battles = columns([Battle("a", "b", "model_a", str(i)) for i in range(50)] + [Battle("b", "a", "model_a")] * 10)
    prompt = np.r_[np.zeros(30), np.ones(20), np.full(10, -1)].astype(np.int64)
    battles = Battles(battles.models, battles.first, battles.second, battles.outcome, battles.voter, prompt)
    kept = capped(battles, 7, seed=3)
    assert np.unique(kept.prompt, return_counts=True)[1].tolist() == [10, 7, 7]
    order = np.random.default_rng(0).permutation(60)
    other = capped(Battles(battles.models, *(getattr(battles, name)[order] for name in FIELDS)), 7, seed=3)
    assert sorted(kept.voter.tolist()) == sorted(other.voter.tolist())
    assert sorted(kept.voter.tolist()) != sorted(capped(battles, 7, seed=4).voter.tolist())
    assert len(rated(battles, prompt_cap=7).battles) == 24


def test_the_largest_group_can_be_ranked_alone() -> None:
    battles = [Battle("c", "d", "model_a")] * 3 + [Battle("a", "b", "tie")] * 2 + [Battle("d", "e", "model_b")]
    with pytest.raises(DataError, match=r"2 groups .*'c', 'd', 'e' \| 'a', 'b'.*--largest-group"):
        rate(battles)
    assert {row.model for row in rate(largest_group(columns(battles)))} == {"c", "d", "e"}
    # Where some votes choose neither, the option outside joins the groups.
    joined = [*battles, Battle("a", "b", "both_bad"), Battle("c", "d", "both_bad")]
    assert len(rated(joined, both_bad="outside").rows) == 6
