"""`improve` from votes to a named model on a model that takes a moment: what it writes, resumes, refuses and logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from arena import opened
from command import Ran, in_this_process
from test_preferences import agreeing, said
from tiny_models import write_folder

from fairground.cli.up import _here
from fairground.loop.facts import prompt_hash
from fairground.loop.preferences import GROUP, is_held_out
from fairground.store import default_database

HELD_OUT = [f"q{n}" for n in range(400) if is_held_out(prompt_hash(GROUP, f"q{n}"))][:10]
LEARNED = [f"q{n}" for n in range(400) if not is_held_out(prompt_hash(GROUP, f"q{n}"))][:24]
VOTERS = 4
SUITE = """name = "small"
version = "1.0.0"
licence = "CC0-1.0"
description = "Two questions"

[tasks.quiz]
kind = "multiple_choice"
file = "quiz.jsonl"
prompt = "{question}"
metric = "accuracy"
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    return in_this_process(tmp_path, monkeypatch, capfd)


def voted(folder: Path, prompts: list[str]) -> None:
    """An arena whose people like answers of `a` better than answers of `z`."""
    with opened(default_database(folder / "home")) as arena:
        voters = [agreeing(arena) for _ in range(VOTERS)]
        for number, prompt in enumerate(prompts):
            sides = ("aaaa", "zzzz", "model_a") if number % 2 else ("zzzz", "aaaa", "model_b")
            said(arena, voters[number % VOTERS], prompt, *sides)


def suite(folder: Path) -> str:
    """A suite of two questions; its path."""
    (folder / "here" / "suite").mkdir()
    rows = [{"id": str(n), "question": f"q{n}", "choices": ["a", "z"], "gold": n % 2} for n in range(2)]
    (folder / "here" / "suite" / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "here" / "suite" / "suite.toml").write_text(SUITE)
    return "./suite"


IMPROVE = ("improve", "./tiny", "--name", "tiny-improved", "--learning-rate", "0.003", "--threads", "1")


def test_votes_become_a_model_that_people_meet(command: Callable[..., Ran], tmp_path: Path) -> None:
    write_folder(tmp_path / "here" / "tiny")
    voted(tmp_path, [*LEARNED, *HELD_OUT])
    done = command(*IMPROVE, "--judge", "uniform", "--suite", suite(tmp_path))
    assert done.status == 0, done.err
    assert "34 votes, up to entry" in done.out
    assert "24 pairs to learn from, and 10 of other prompts held out." in done.out
    assert "leans to what people chose in 100% (95% 72 to 100) of 10 held-out pairs, beside ./tiny" in done.out
    assert "comparisons by uniform" in done.out
    assert "On the suite small" in done.out
    folder = tmp_path / "here" / "tiny-improved"
    assert (folder / "adapter_model.safetensors").is_file()
    card = (folder / "README.md").read_text()
    assert "24 pairs to learn from" in card
    assert str(tmp_path) not in card
    assert "Answers cannot be written" not in command("chat", "tiny-improved", "-p", "q", "--max-tokens", "2").err
    assert f"tiny-improved: made here, in {folder}\n" in command("models").out
    assert "tiny-improved" in _here(), "`fairground up` offers it"
    with opened(default_database(tmp_path / "home")) as arena:
        kinds = [entry.kind for entry in arena.ledger.entries()][-6:]
        assert kinds == ["pairs", "trained", "model", "verdict", "verdict", "verdict"]
        bodies = {entry.kind: entry.body for entry in arena.ledger.entries()}
        (offered,) = arena.ledger.models()
        assert (offered.name, offered.facts["of"], offered.offered) == ("tiny-improved", "./tiny", True)
    assert str(tmp_path) not in json.dumps(bodies)
    assert "adapter_model.safetensors" in bodies["trained"]["files"]
    again = command(*IMPROVE, "--judge", "uniform", "--no-rank")
    assert again.status == 0, again.err
    with opened(default_database(tmp_path / "home")) as arena:
        assert [entry.kind for entry in arena.ledger.entries()][-6:] == kinds, "given again, it says nothing twice"
    command("improve", "tiny-improved").refused("adapter of an adapter", "fairground merge tiny-improved")
    assert command("merge", "tiny-improved", "--out", "merged").status == 0
    audited = command("audit")
    assert audited.status == 0, audited.out
    assert "5 steps, each on the one before" in audited.out
    (folder / "adapter_model.safetensors").write_bytes(b"another")
    changed = command("audit")
    assert changed.status == 1
    assert "adapter_model.safetensors is not the file that entry" in changed.out


def test_people_have_the_last_word(command: Callable[..., Ran], tmp_path: Path) -> None:
    write_folder(tmp_path / "here" / "tiny")
    voted(tmp_path, [*LEARNED, *HELD_OUT])
    assert command(*IMPROVE, "--no-rank").status == 0
    command("verdict", "smollm2").refused("no model 'smollm2'", "fairground improve")
    command("verdict", "tiny-improved").refused("Nobody has voted on tiny-improved and ./tiny")
    with opened(default_database(tmp_path / "home")) as arena:
        for _ in range(9):
            arena.vote(arena.guest(), "model_a", a="tiny-improved", b="./tiny")
    found = command("verdict", "tiny-improved")
    assert (
        found.out == "tiny-improved wins 100% (95% 70 to 100) against ./tiny in 9 votes of people, p = 0.002: better.\n"
    )
    assert json.loads(command("verdict", "tiny-improved", "--json").out)["better"] is True
    assert command("audit").status == 0


def test_what_cannot_be_improved_is_refused(command: Callable[..., Ran], tmp_path: Path) -> None:
    write_folder(tmp_path / "here" / "tiny")
    command(*IMPROVE).refused("no database", "fairground up")
    voted(tmp_path, LEARNED[:3])
    command(*IMPROVE).refused("3 votes give 3 pairs to learn from", "20 and 5 are needed")
    command(*IMPROVE, "--from", "stars").refused("--from votes")
    command("improve", "uniform").refused("no weights")
    command("improve", "./tiny", "--name", "smollm2").refused(
        "smollm2 is the name of a model of the catalogue", "--name"
    )
    command("improve", "./tiny", "--out", "tiny").refused("a model that votes did not make")
    command("improve", "./tiny", "--name", "a b").refused("'a b' cannot be a model's name")


def test_a_folder_of_other_pairs_is_left_alone(command: Callable[..., Ran], tmp_path: Path) -> None:
    for name in ("tiny", "other"):
        write_folder(tmp_path / "here" / name)
    voted(tmp_path, [*LEARNED, *HELD_OUT])
    assert command(*IMPROVE, "--no-rank", "--out", "made").status == 0
    command("improve", "./other", "--name", "tiny-improved", "--out", "made").refused("to make tiny-improved of ./tiny")
    pairs = tmp_path / "here" / "made" / "pairs" / "train.jsonl"
    pairs.write_text(pairs.read_text() + "\n")
    command(*IMPROVE, "--no-rank", "--out", "made").refused("not those that were written there")


def test_votes_are_data_like_any_other(command: Callable[..., Ran], tmp_path: Path) -> None:
    write_folder(tmp_path / "here" / "tiny")
    train = ("train", "./tiny", "votes:", "--objective", "dpo", "--lora", "4", "--context", "64", "--threads", "1")
    command(*train, "--out", "made").refused("no database", "fairground up")
    voted(tmp_path, HELD_OUT[:3])
    command(*train, "--out", "made").refused("3 votes give no pair")
    voted(tmp_path, LEARNED)
    done = command(*train, "--out", "made", "--json")
    assert done.status == 0, done.err
    told = json.loads(done.out)
    assert told["text"]["documents"] == 2 * len(LEARNED) - 2, "one pair in a hundred is held out, and at least one"
    assert (tmp_path / "here" / "made" / "adapter_model.safetensors").is_file()
