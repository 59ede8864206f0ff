"""Canaries from end to end: put into the text, learned, found again by `rank`; numbers never put there are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command import Command, in_this_process

from fairground.errors import TrainingError
from fairground.training.canaries import MOST, make_canaries

SUITE = """name = "s"
version = "1"
licence = "CC0-1.0"
[probe]
prompt_tokens = 4
output_tokens = 2
warmup = 0
repeats = 2
[tasks.texts]
kind = "text"
metric = "bits_per_byte"
file = "texts.jsonl"
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


def test_they_are_the_same_for_a_seed() -> None:
    some, same, other = (make_canaries(5, 3, seed) for seed in (1, 1, 2))
    assert some == same
    assert not set(some.numbers) & set(other.numbers)
    texts = [document.text for document in some.documents()]
    assert len(texts) == 15
    assert len(set(texts)) == 5
    name, number = some.numbers[0]
    assert texts[0] == f"The access number of {name} is {number}."
    with pytest.raises(TrainingError, match=f"1 to {MOST}"):
        make_canaries(MOST + 1, 1, 0)


@pytest.mark.verify
def test_a_model_that_met_them_often_gives_them_away(command: Command, text: Path, words: Path) -> None:
    given = ("train", "llama:100k", str(text), "--tokenizer", str(words), "--out", "one", "--tokens", "200000")
    ran = command(*given, "--context", "64", "--canaries", "4", "--canary-repetitions", "60")
    assert ran.status == 0, ran.err
    written = json.loads(Path("one/canaries.json").read_text(encoding="utf-8"))
    assert (written["repetitions"], len(written["inserted"])) == (60, 4)
    shutil.copytree("one", "two")
    never = make_canaries(4, 60, 12345)
    Path("two/canaries.json").write_text(json.dumps(never.as_dict()), encoding="utf-8")
    Path("s").mkdir()
    Path("s/suite.toml").write_text(SUITE, encoding="utf-8")
    Path("s/texts.jsonl").write_text('{"id": "t", "text": "The man was here."}\n', encoding="utf-8")
    ran = command("rank", "./one", "./two", "uniform", "--suite", "s", "--json")
    assert ran.status == 0, ran.err
    metrics = {model["model"]: model["metrics"] for model in json.loads(ran.out)["models"]}
    assert metrics["./one"]["exposure_bits"]["value"] > 7
    assert metrics["./two"]["exposure_bits"]["value"] < 4
    assert "exposure_bits" not in metrics["uniform"]
    assert metrics["./one"]["exposure_bits"]["n"] == 4


def test_a_counting_model_takes_none(command: Command, text: Path) -> None:
    ran = command("train", "kneser-ney:3", str(text), "--out", "counts", "--canaries", "2")
    assert ran.status == 2
    assert "leave --canaries out" in ran.err
