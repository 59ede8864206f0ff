"""The leaderboard in the terminal: its width, its numbers, and what it says where there is none."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from example_run import MODELS, SENTENCES, example_run
from rich.cells import cell_len
from rich.console import Console

from fairground.evaluation.table import leaderboard_table


def printed(leaderboard: dict[str, Any], width: int, sentences: list[str] = SENTENCES, colour: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=colour, color_system="truecolor" if colour else None)
    console.print(leaderboard_table(leaderboard, sentences))
    return file.getvalue()


@pytest.fixture(scope="module")
def leaderboard() -> dict[str, Any]:
    return example_run()[0]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_table_fits_and_names_every_model(leaderboard: dict[str, Any], width: int) -> None:
    text = printed(leaderboard, width)
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    first_words = [line.split(" ")[0] for line in text.split("Beneath each number")[0].splitlines()]
    best_first = ["smollm2,shots=5", "smollm2", "smollm2#int4", "stories15m", "uniform"]
    assert [word for word in first_words if word in MODELS] == best_first
    for sentence in SENTENCES:
        assert " ".join(sentence.split()) in " ".join(text.split())


def test_numbers_stand_over_their_intervals(leaderboard: dict[str, Any]) -> None:
    text = printed(leaderboard, 140)
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("smollm2 "))
    accuracy = leaderboard["models"][0]["metrics"]["accuracy"]
    assert lines[at].split()[1] == f"{100 * accuracy['value']:.1f}"
    assert f"{100 * accuracy['low']:.0f}–{100 * accuracy['high']:.0f}" in lines[at + 1].split()
    assert lines[at + 1].startswith("135M bf16 from Q4_1")
    assert "−0.03…−0.02" in text  # stories15m's relevance
    assert "Rela-" in text
    assert "Truth" not in text  # which no model was measured in


def test_caption_says_what_the_numbers_rest_on(leaderboard: dict[str, Any]) -> None:
    text = " ".join(printed(leaderboard, 100).split())
    assert "Chance: accuracy 25%, sentence order 50%." in text
    assert "128 prompt tokens, 64 output tokens, 1 warm-up run, then 5 repeats at concurrency 1." in text
    assert "one fixed scorer, smollm2 (float32)." in text
    assert "Too narrow" not in text
    narrow = " ".join(printed(leaderboard, 80).split())
    assert "Too narrow for what each precision came from" in narrow
    assert ": see report.html or leaderboard.json." in narrow


def test_required_columns_are_there_at_eighty(leaderboard: dict[str, Any]) -> None:
    text = printed(leaderboard, 80)
    for heading in ("Accu-", "Sentence", "First", "Tokens"):
        assert heading in text


def test_what_was_not_measured_is_a_dash(leaderboard: dict[str, Any]) -> None:
    lines = printed(leaderboard, 140).splitlines()
    row = next(line for line in lines if line.startswith("uniform "))
    assert row.split().count("–") == 3
    assert any(line.startswith("uniform: It writes nothing") for line in lines)


def test_only_a_significant_lead_is_coloured(leaderboard: dict[str, Any]) -> None:
    assert "\x1b[1;32m" not in printed(leaderboard, 100, colour=True)
    sure = copy.deepcopy(leaderboard)
    for comparison in sure["comparisons"]:
        comparison["significant"] = True
    assert "\x1b[1;32m" in printed(sure, 100, colour=True)


def test_names_cannot_command_the_terminal(leaderboard: dict[str, Any]) -> None:
    hostile = copy.deepcopy(leaderboard)
    hostile["models"][0].update(model="[red]a\x1b]0;title\x07", notes=["\x1b[2J[bold]"])
    text = printed(hostile, 100, ["\x1b[31mred"])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]a" in text


@pytest.mark.parametrize("leaderboard", [{}, {"models": [{"model": "a" * 150}]}, {"run": None, "models": []}])
def test_table_stands_without_numbers(leaderboard: dict[str, Any]) -> None:
    assert max(map(cell_len, printed(leaderboard, 80, []).splitlines())) <= 80
