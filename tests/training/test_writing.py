"""A teacher's text: kept with prompt and seed, the same after a cut, refused where it is another's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairground.errors import DataError
from fairground.evaluation.baseline import UniformGuesser
from fairground.training.writing import read_prompts, write
from fairground.types import Sampling

ROWS = [
    {"id": "a", "prompt": "Once upon a time", "seed": 4, "max_tokens": 6},
    {"id": "b", "prompt": [{"role": "user", "content": "Tell me a story."}], "seed": 5, "max_tokens": 6},
    {"id": "c", "prompt": "Once upon a time", "seed": 6, "max_tokens": 6},
]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_what_is_written_names_prompt_seed_and_writer(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert write(UniformGuesser(), read_prompts(prompts), out, Sampling(temperature=0.7)) == 3
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["id"], row["prompt"], row["seed"]) for row in rows] == [
        (r["id"], r["prompt"], r["seed"]) for r in ROWS
    ]
    assert {row["writer"] for row in rows} == {"uniform"}
    assert rows[0]["text"] != rows[2]["text"], "another seed, another text"


def test_a_cut_file_is_finished_with_the_same_text(prompts: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    asked = read_prompts(prompts)
    write(UniformGuesser(), asked, whole, Sampling(temperature=0.7))
    first, second, _ = whole.read_bytes().splitlines(keepends=True)
    cut.write_bytes(first + second[:-10])  # a torn last line
    assert write(UniformGuesser(), asked, cut, Sampling(temperature=0.7)) == 2
    assert cut.read_bytes() == whole.read_bytes()


def test_another_writers_file_is_left_alone(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    asked = read_prompts(prompts)
    write(UniformGuesser(), asked, out, Sampling(temperature=0.7))
    before = out.read_bytes()
    with pytest.raises(DataError, match="line 1"):
        write(UniformGuesser(), asked, out, Sampling(temperature=0.9))
    with pytest.raises(DataError, match="line 1"):
        write(UniformGuesser(), asked[1:], out, Sampling(temperature=0.7))
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("nonsense", "line 1"),
        ('{"prompt": ""}', "line 1"),
        ('{"prompt": []}', "line 1"),
        ('{"prompt": "x", "seed": "y"}', "line 1"),
        ('{"prompt": "x", "max_tokens": 0}', "line 1"),
        ('{"prompt": "x", "id": 1}\n{"prompt": "y", "id": 1}', "line 2"),
        ("", "no prompts"),
    ],
)
def test_malformed_prompts(tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=named):
        read_prompts(path)
