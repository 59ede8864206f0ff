"""Ratings in the terminal."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from fairground.arena.table import RatedModel, ratings_table


@dataclass(frozen=True)
class Row:
    model: str
    rating: float
    low: float
    high: float
    votes: int
    rank_low: int
    rank_high: int
    maker: str | None = None
    open: bool | None = None
    response_ms: float | None = None


ROWS = [
    Row("GPT-4", 1180.4, 1150.2, 1215.0, 1402, 1, 1, "OpenAI", False, 18_321.0),
    Row("Mistral 7B OpenOrca", 1060.0, 1031.0, 1090.0, 380, 2, 4, "Mistral / Open-Orca", True, 2_100.0),
    Row("StarChat alpha", -20.0, -120.0, 74.0, 360, 3, 4, None, None, None),
]


def printed(rows: list[Row], width: int, **more: object) -> str:
    console = Console(file=(file := io.StringIO()), width=width, color_system=None)
    console.print(ratings_table(rows, **more))  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_table_fits_and_has_every_model(width: int) -> None:
    text = printed(ROWS, width, title="The record", notes=["LLMFAO, D. Ustalov, CC-BY-4.0."])
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    assert all(row.model in text for row in ROWS)
    assert "LLMFAO, D. Ustalov, CC-BY-4.0." in text


def test_a_row_reads_as_it_should() -> None:
    lines = printed(ROWS, 100).splitlines()
    first, second, third = (next(line for line in lines if row.model in line).split() for row in ROWS)
    assert first == ["1", "GPT-4", "○", "OpenAI", "1180", "1150–1215", "1,402", "18.3"]
    assert second[0] == "2–4"
    assert "●" in second
    assert third == ["3–4", "StarChat", "alpha", "–", "–", "−20", "−120", "to", "74", "360", "–"]
    assert "● open weights, ○ proprietary." in " ".join(" ".join(lines).split())


def test_columns_that_no_row_fills_are_not_drawn() -> None:
    bare = [replace(row, maker=None, open=None, response_ms=None) for row in ROWS]
    text = printed(bare, 100)
    assert "Rank  Model                Rating  95% interval  Votes\n" in text
    assert "proprietary" not in text


def test_names_cannot_command_the_terminal() -> None:
    text = printed([replace(ROWS[0], model="[red]\x1b[2Ja", maker="\x07b")], 100, title="\x1bt", notes=["\x1bn"])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text


def test_no_rows_is_an_empty_table() -> None:
    assert "Rating" in printed([], 80)


def test_arenas_own_ratings_are_rows() -> None:
    from fairground.arena.ratings import Rating

    row: RatedModel = Rating("a", 1000.0, 900.0, 1100.0, 10, 1, 2, 0.5, 0, 0.0, False)
    assert "900–1100" in printed([row], 80)  # type: ignore[list-item]
