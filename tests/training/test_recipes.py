"""The recipes that come with Fairground: each does what its first lines say, on a model that takes a moment."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Ran, in_this_process
from tiny_models import CONTEXT, write_folder

from fairground.loop.improvement import default_recipe
from fairground.training.recipe import read_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}assistant:"
FAST = ("--learning-rate", "0.01")  # a tiny model has far to go
SMALL = ("--context", str(CONTEXT), "--threads", "1")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    return in_this_process(tmp_path, monkeypatch, capfd)


@pytest.fixture
def chats(tmp_path: Path) -> str:
    """A model beside chats in which every answer is the same."""
    here = tmp_path / "here"
    write_folder(here / "tiny", template=TEMPLATE)
    turns = [
        [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": "ab ab"}] for number in range(80)
    ]
    (here / "chats.jsonl").write_text("".join(json.dumps({"messages": both}) + "\n" for both in turns))
    return "chats.jsonl"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_is_read_and_says_how_it_is_used(path: Path) -> None:
    read_recipe(str(path))
    head = re.match(r"(#.*\n)+", path.read_text())
    assert head is not None
    assert f"recipes/{path.name}" in head[0]
    assert "fairground " in head[0]


def loss(log: Path) -> list[float]:
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("name", ["house-style", "from-examples"])
def test_chats_teach_an_adapter(command: Callable[..., Ran], chats: str, tmp_path: Path, name: str) -> None:
    recipe = str(RECIPES / f"{name}.toml")
    done = command("train", recipe, chats, "--model", "./tiny", "--out", "made", "--tokens", "8000", *FAST, *SMALL)
    assert done.status == 0, done.err
    made = tmp_path / "here" / "made"
    assert (made / "adapter_model.safetensors").is_file()
    steps = loss(made / "log.jsonl")
    assert steps[-1] < steps[0] - 0.3, steps


def test_a_third_of_the_size(command: Callable[..., Ran], chats: str, tmp_path: Path) -> None:
    recipe = str(RECIPES / "a-third.toml")
    (tmp_path / "here" / "text.txt").write_text("ab ab and a tale of q.\n\n" * 200)
    done = command(
        "distill", "./tiny", recipe, "text.txt", "--model", "llama:24k", "--out", "small", "--tokens", "9000", *SMALL
    )
    assert done.status == 0, done.err
    summary = json.loads((tmp_path / "here" / "small" / "training.json").read_text())
    recipe_kept = summary["recipe"]
    assert summary["objective"] == "distillation from stored logits", "it sees the text more than once"
    assert recipe_kept["optimiser"]["method"] == "muon"
    assert summary["parameters"] < 30_000


def test_votes_are_learned_as_improve_does_by_itself(tmp_path: Path) -> None:
    """`improve` with and without it is one thing; that it works is tested in tests/loop/test_improve.py."""
    written = read_recipe(str(RECIPES / "votes.toml"), {"model": "m"})
    assert written == default_recipe(Path("m"), 8192)
