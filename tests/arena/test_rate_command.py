"""`fairground rate` as a person meets it: each option on a small file, and what bad input gets."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fairground.cli.app import app
from fairground.cli.rate import rate as _command  # noqa: F401 - the command is in the application once it is imported
from fairground.errors import FairgroundError


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    chance, rows = random.Random(4), []
    for i in range(600):
        a, b = chance.sample("abcd", 2)
        length = {side: chance.randrange(10, 200) for side in "ab"}
        lead = "abcd".index(b) - "abcd".index(a) + (length["a"] - length["b"]) / 100
        winner = "model_a" if chance.random() < 1 / (1 + 2.7**-(lead)) else "model_b"
        counts = {f"{name}_{side}": chance.randrange(5) for name in ("headings", "lists", "bold") for side in "ab"}
        rows.append(
            {
                "model_a": a,
                "model_b": b,
                "winner": chance.choice([winner, winner, winner, "tie", "tie (bothbad)"]),
                "judge": f"v{chance.randrange(90)}",
                "prompt": f"prompt {i % 50}",
                "language": chance.choice(["English", "German"]),
                "is_code": chance.random() < 0.5,
                **counts,
                **{f"length_{side}": n for side, n in length.items()},
            }
        )
    path = tmp_path / "votes.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def said(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["rate", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "100"})
    assert done.exit_code == 0
    return done.stdout


def rows(*arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(said(*arguments, "--json"))
    return found


def test_json_has_what_machines_read(votes: Path) -> None:
    found = rows(votes)
    assert {"model", "rating", "low", "high", "votes", "rank_low", "rank_high"} <= set(found[0])
    assert [row["model"] for row in found] == list("abcd")
    assert sum(row["rating"] for row in found) == pytest.approx(4000)


def test_neither_is_a_line_of_its_own(votes: Path) -> None:
    found = rows(votes, "--both-bad", "outside")
    (option,) = (row for row in found if row["outside"])
    assert len(found) == 5
    assert option["votes"] == 600
    assert sum(row["rating"] for row in found if not row["outside"]) == pytest.approx(4000)
    text = " ".join(said(votes, "--both-bad", "outside").split())
    assert "– neither (both are bad)" in text
    assert "A model that stands there is sent away with the other as often as it is preferred" in text


def test_style_shows_its_effects(votes: Path) -> None:
    effects = rows(votes, "--style")[0]["style_effects"]
    assert set(effects) == {"length", "headings", "lists", "bold"}
    assert effects["length"]["low"] > 0
    assert effects["bold"]["low"] < effects["bold"]["points"] < effects["bold"]["high"]
    assert "What one standard deviation more" in said(votes, "--style")


def test_categories_languages_caps_and_weights(votes: Path) -> None:
    everything = rows(votes)
    code, german = rows(votes, "--category", "code"), rows(votes, "--language", "de")
    assert rows(votes, "--language", "German") == german
    assert 0 < sum(row["votes"] for row in code) < sum(row["votes"] for row in everything)
    assert sum(row["votes"] for row in rows(votes, "--cap", 3)) == 2 * 3 * 50
    assert "150 of 600 battles were counted" in said(votes, "--cap", 3)
    assert rows(votes, "--reweight") != everything


def test_bootstrap_and_robustness(votes: Path) -> None:
    sandwich, drawn = rows(votes), rows(votes, "--bootstrap", "--seed", 2)
    for row, other in zip(sandwich, drawn, strict=True):
        assert row["rating"] == other["rating"]
        assert other["high"] - other["low"] == pytest.approx(row["high"] - row["low"], rel=0.15)
    robust = rows(votes, "--robust")
    assert all(row["votes_to_drop"] >= row["votes_to_flip"] >= 1 for row in robust[:-1])
    assert "To flip, to drop" in " ".join(said(votes, "--robust").split())


def test_plot(votes: Path, tmp_path: Path) -> None:
    said(votes, "--both-bad", "outside", "--plot", tmp_path / "out.svg")
    root = ET.parse(tmp_path / "out.svg").getroot()
    text = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {*"abcd", "neither (both are bad)", "How people rate language models"} <= set(text)
    assert text.index("a") < text.index("d")
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


HEADER = "model_a,model_b,winner\n"


@pytest.mark.parametrize(
    ("content", "options", "named"),
    [
        (HEADER + "a,a,tie\n", [], "line 2: 'a' is set against itself"),
        (HEADER, [], "no battles"),
        ("x,y\n1,2\n", [], "no model_a, only 'x, y'"),
        (HEADER + "a,b,tie\nc,d,tie\n", [], "2 groups .*--largest-group"),
        (HEADER + "a,b,tie\n", ["--style"], "do not say how long"),
        (HEADER + "a,b,tie\n", ["--cap", "1"], "do not say what was asked"),
        (HEADER + "a,b,tie\n", ["--category", "code"], "do not say their category"),
        ("model_a,model_b,winner,language\na,b,tie,en\n", ["--language", "xx"], "'xx'; there are en"),
        (HEADER + "a,b,tie\n", ["--plot", "out.png"], r"\.svg"),
    ],
)
def test_bad_input_gets_a_sentence(tmp_path: Path, content: str, options: list[str], named: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(content)
    with pytest.raises(FairgroundError, match=named):
        CliRunner().invoke(app, ["rate", str(path), *options], catch_exceptions=False)


def test_a_model_that_was_never_beaten_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "a,b,model_a\nb,c,tie\nb,c,model_a\nc,b,model_a\n")
    assert "(a), so the plain estimate is infinite" in " ".join(said(tmp_path / "a.csv").split())
    (tmp_path / "b.csv").write_text(HEADER + "a,b,tie\na,b,tie\nc,d,tie\n")
    assert [row["model"] for row in rows(tmp_path / "b.csv", "--largest-group")] == ["a", "b"]
