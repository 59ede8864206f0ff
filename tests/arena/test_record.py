"""The record is what its sources say, is small, and holds nobody's words."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev

import pytest

from fairground.arena import record

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT.parent / "shared" / "data" / "votes"
TABLES = {
    "llmfao_votes.csv": (8931, ["model_a", "model_b", "winner", "voter"]),
    "llmfao_models.csv": (
        59,
        ["id", "model", "maker", "access", "weights", "answers", "response_ms", "tokens_per_s"],
    ),
    "arena_hard_scores.csv": (4766, ["question", "model", "score"]),
    "arena_hard_models.csv": (16, ["model", "maker", "access", "weights"]),
}


def table(name: str) -> list[dict[str, str]]:
    text = files("fairground.arena").joinpath("record").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize(("name", "shape"), TABLES.items())
def test_tables_have_their_rows_and_hold_no_text(name: str, shape: tuple[int, list[str]]) -> None:
    rows, columns = shape
    found = table(name)
    assert len(found) == rows
    assert list(found[0]) == columns
    for row in found:
        assert all(isinstance(value, str) and len(value) <= 48 and value.isprintable() for value in row.values())
        assert all(row[column] for column in columns if column != "weights")


def test_the_folder_is_small_and_says_where_it_comes_from() -> None:
    folder = files("fairground.arena").joinpath("record")
    content = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    assert set(content) == {*TABLES, "SOURCES.md"}
    assert sum(map(len, content.values())) < 400_000
    sources = content["SOURCES.md"].decode()
    for name in TABLES:
        assert name in sources
    for word in ("Dmitry Ustalov", "llmonitor.com", "CC-BY-4.0", "creativecommons.org/licenses/by/4.0", "LMSYS"):
        assert word in sources
    for word in ("Apache-2.0", "What we changed", "8,931", "124", "59", "4,766", "300"):
        assert word in sources
    assert "CC-BY-4.0" in record.ATTRIBUTION
    assert "Ustalov" in record.ATTRIBUTION


def test_votes() -> None:
    votes = record.votes()
    assert len(votes) == 8931
    assert Counter(vote.winner for vote in votes) == {"tie": 3471, "model_a": 2911, "model_b": 2549}
    assert len({vote.voter for vote in votes}) == 124
    voted = {vote.model_a for vote in votes} | {vote.model_b for vote in votes}
    assert voted == {model.model for model in record.models()}
    assert len(voted) == 59


def test_models() -> None:
    models = {model.model: model for model in record.models()}
    assert Counter(model.open for model in models.values()) == {True: 37, False: 22}
    closed = {"OpenAI", "Anthropic", "Google", "Cohere", "AI21", "Aleph Alpha", "Mancer"}
    assert {model.maker for model in models.values() if not model.open} == closed
    assert not closed & {model.maker for model in models.values() if model.open}
    assert all((model.weights is not None) == model.open for model in models.values())
    assert sum(model.answers for model in models.values()) == 1089
    assert all(300 < model.response_ms < 60_000 and model.tokens_per_s > 0 for model in models.values())
    assert models["GPT 4"].response_ms == 7277
    assert models["LLaMA-2-Chat (70B)"].weights == "meta-llama/Llama-2-70b-chat-hf"


def test_ratings_of_the_record() -> None:
    rows = record.record_ratings()
    assert len(rows) == 59
    assert sum(row.votes for row in rows) == 2 * 8931
    assert mean(row.rating for row in rows) == pytest.approx(1000)
    assert rows == sorted(rows, key=lambda row: -row.rating)
    assert not any(row.penalised for row in rows)
    assert all(row.low < row.rating < row.high and row.rank_low <= row.rank_high for row in rows)
    assert (rows[0].model, rows[0].maker, rows[0].open, rows[0].rank_low) == ("GPT 4", "OpenAI", False, 1)
    # What the record is for: by late 2023 an open model's rank interval reached the top.
    assert any(row.open and row.rank_low == 1 for row in rows)
    assert {row.model for row in rows[-5:]} >= {"Dolly v2 (3B)", "Vicuna-FastChat-T5 (3B)"}


def test_scores() -> None:
    rows = record.scores()
    assert len(rows) == 16
    assert Counter(row.open for row in rows) == {True: 7, False: 9}
    assert sum(row.questions for row in rows) == 4766
    assert [row.model for row in rows[:2]] == ["gpt-4-1106-preview", "gpt-4-0314"]
    assert rows[-1].model == "llama-13b"
    scores = table("arena_hard_scores.csv")
    assert len({(row["question"], row["model"]) for row in scores}) == 4766  # so the clusters are the scores
    assert {int(row["question"]) for row in scores} == set(range(1, 301))
    mixtral = [int(row["score"]) for row in scores if row["model"] == "Mixtral-8x7B-Instruct-v0.1"]
    row = next(row for row in rows if row.model == "Mixtral-8x7B-Instruct-v0.1")
    assert row.mean == pytest.approx(mean(mixtral))
    # Student's quantile for 295 degrees of freedom, from a printed table: 1.968.
    assert row.high - row.mean == pytest.approx(1.968 * stdev(mixtral) / math.sqrt(len(mixtral)), rel=1e-4)


def test_takes_no_torch_and_little_time() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); from fairground.arena import record; "
        "record.record_ratings(); record.scores(); spent = time.perf_counter() - start; "
        "print([m for m in ('torch', 'rich', 'typer', 'pandas', 'scipy.stats') if m in sys.modules], spent < 5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[] True"


@pytest.mark.skipif(not SOURCE.is_dir(), reason="needs the published files in ../shared/data/votes")
def test_the_script_makes_the_same_bytes_again(tmp_path: Path) -> None:
    script = str(ROOT / "tools" / "make_record.py")
    subprocess.run([sys.executable, script, str(SOURCE), "--out", str(tmp_path)], check=True)
    for name in TABLES:
        shipped = files("fairground.arena").joinpath("record").joinpath(name).read_bytes()
        assert (tmp_path / name).read_bytes() == shipped
