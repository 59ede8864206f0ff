"""What bad input to `train` and `distill` gets: a sentence before any work, and nothing written."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import Command, in_a_process, in_this_process

from fairground.training.tokenizer import train_tokenizer

SMALL = ("--tokens", "512", "--context", "32")


def invented_words() -> list[str]:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijk", k=4)) for _ in range(200)]
    return [" ".join(rng.choices(words, k=20)) for _ in range(100)]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


def test_empty_text(command: Command, words: Path) -> None:
    path = Path("empty.txt").absolute()
    path.write_text("")
    command("train", "llama:60k", str(path), "--tokenizer", str(words), "--out", "made").refused("empty.txt")


def test_binary_text(command: Command, words: Path) -> None:
    path = Path("binary.txt").absolute()
    path.write_bytes(b"words\x00\xff\x00more")
    command("train", "llama:60k", str(path), "--tokenizer", str(words), "--out", "made").refused("binary.txt")


def test_a_line_beyond_the_limit(command: Command, words: Path) -> None:
    path = Path("long.txt").absolute()
    path.write_text("short\n" + "x" * 1_000_001 + "\n")
    command("train", "llama:60k", str(path), "--tokenizer", str(words), "--out", "made").refused("long.txt", "line 2")


def test_no_text_there(command: Command, words: Path) -> None:
    command("train", "llama:60k", "nowhere", "--tokenizer", str(words), "--out", "made").refused("nowhere")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('colour = "blue"', "'colour'"),
        ("tokens = -1", "tokens"),
        ("tokens = true", "tokens"),
        ('precision = "int4"', "precision"),
        ("[optimiser]\nlearning_rate = -1.0", "optimiser.learning_rate"),
        ("[optimiser]\nlearning_rate = nan", "optimiser.learning_rate"),
        ("[optimiser]\nmomentum = 0.9", "'momentum'"),
        ('[optimiser]\nschedule = "zigzag"', "optimiser.schedule"),
        ("[optimiser]\nwarmup = 0.9\ndecay = 0.9", "warmup and decay"),
        ("tokens = ", "TOML"),
    ],
)
def test_a_recipe_that_cannot_be_run(command: Command, text: Path, line: str, named: str) -> None:
    path = Path("recipe.toml").absolute()
    path.write_text(f'model = "llama:60k"\n{line}\n')
    command("train", str(path), str(text), "--out", "made").refused(named)


def test_a_recipe_without_a_model(command: Command, text: Path) -> None:
    path = Path("recipe.toml").absolute()
    path.write_text("tokens = 100\n")
    command("train", str(path), str(text), "--out", "made").refused("model")


@pytest.mark.parametrize("name", ["llama:1k", "gpt2:2k"])
def test_an_impossible_shape(command: Command, text: Path, words: Path, name: str) -> None:
    command("train", name, str(text), "--tokenizer", str(words), "--out", "made").refused(name, "smallest")


def test_an_unknown_family(command: Command, text: Path, words: Path) -> None:
    command("train", "bert:1m", str(text), "--tokenizer", str(words), "--out", "made").refused("bert:1m", "gpt-neo")


def test_a_tokenizer_that_is_none(command: Command, text: Path) -> None:
    command("train", "llama:60k", str(text), "--tokenizer", str(text), "--out", "made").refused("tokenizer.json")


def test_a_tokenizer_larger_than_the_model(command: Command, text: Path, words: Path, tmp_path: Path) -> None:
    assert command("train", "llama:60k", str(text), "--tokenizer", str(words), "--out", "made", *SMALL).status == 0
    larger = train_tokenizer(invented_words(), 400)
    larger.save("made")
    command("train", "made", str(text), "--out", "again", *SMALL).refused("400", "320")


def test_a_teacher_with_another_tokenizer(command: Command, text: Path, words: Path) -> None:
    assert command("train", "llama:60k", str(text), "--tokenizer", str(words), "--out", "one", *SMALL).status == 0
    other = train_tokenizer(invented_words(), 310)
    other.save("words")
    assert command("train", "gpt2:60k", str(text), "--tokenizer", "words", "--out", "two", *SMALL).status == 0
    command("distill", "one", "two", str(text), "--out", "three", *SMALL).refused("tokenizer", "sequence")


def test_preferences_that_cannot_be_learned(command: Command, text: Path, words: Path) -> None:
    rows = ['{"prompt": "a", "chosen": "b", "rejected": "c"}', '{"prompt": "a", "chosen": "b"}']
    pairs = Path("pairs.jsonl").absolute()
    pairs.write_text("\n".join(rows) + "\n")
    command("train", "llama:60k", str(pairs), "--objective", "dpo", "--out", "made").refused("new model", "folder")
    assert command("train", "llama:60k", str(text), "--tokenizer", str(words), "--out", "one", *SMALL).status == 0
    given = ("train", "./one", str(pairs), "--objective", "dpo", "--context", "32", "--out", "two")
    command(*given).refused("pairs.jsonl, line 2", "rejected")
    pairs.write_text(rows[0] + "\n" + rows[0].replace('"b"', '"' + "the man was here " * 20 + '"') + "\n")
    command(*given).refused("pairs.jsonl, line 2", "context of 32", "--cut")
    assert command(*given, "--cut").status == 0
    command(*given, "--beta", "-1").refused("preference.beta", "above 0")
    command(*given, "--objective", "ppo").refused("objective", "lm or dpo")
    command(*given, "--canaries", "3").refused("without canaries")
    command(*given, "--cut", "--beta", "0.5").refused("beta 0.1 instead of 0.5")
    command(given[0], given[1], str(text), *given[3:]).refused("documents.jsonl, line 1", "chosen")


def test_a_folder_with_another_runs_checkpoint(command: Command, text: Path, words: Path) -> None:
    given = ("train", "llama:60k", str(text), "--tokenizer", str(words), "--out", "made", *SMALL)
    assert command(*given).status == 0
    command(*given, "--seed", "5").refused("made", "seed 0 instead of 5")
    assert command(*given).status == 0  # its own: nothing is left to do


def test_a_folder_with_somebody_elses_model(command: Command, text: Path, words: Path, stories15m: Path) -> None:
    folder = Path("theirs")
    folder.mkdir()
    (folder / "config.json").write_text((stories15m / "config.json").read_text())
    command("train", "llama:60k", str(text), "--tokenizer", str(words), "--out", "theirs", *SMALL).refused("theirs")


def test_a_damaged_checkpoint(command: Command, text: Path, words: Path) -> None:
    given = ("train", "llama:60k", str(text), "--tokenizer", str(words), "--out", "made", *SMALL)
    assert command(*given).status == 0
    (checkpoint,) = Path("made").glob("checkpoint-*")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    command(*given).refused(checkpoint.name, "damaged")


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(tmp_path: Path, text: Path, words: Path) -> None:
    """A rate so high that weights overflow: the checkpoint before stands, and nothing follows it."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "recipe.toml").write_text(
        'model = "llama:60k"\ntokens = 100000\nbatch_tokens = 256\ncontext = 32\ncheckpoint_every = 1\n'
        "evaluate_every = 0\n[optimiser]\nlearning_rate = 1e30\nclip = 0.0\nwarmup = 0.0\n"
    )
    ran = in_a_process(
        here, "train", "recipe.toml", str(text), "--tokenizer", str(words), "--out", "made", "--threads", "1"
    )
    assert ran.status == 2, ran.err
    compared, failed = ran.err.splitlines()
    assert "13 words" in compared
    assert "not a number" in failed
    assert "documents.jsonl" in failed
    (checkpoint,) = (here / "made").glob("checkpoint-*")
    assert checkpoint.name in ran.err
    from safetensors.numpy import load_file

    kept = load_file(checkpoint)
    assert all(np.isfinite(tensor).all() for name, tensor in kept.items() if name.startswith("weight."))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, text: Path, words: Path) -> None:
    """A limit on file sizes stands for the disk: the second checkpoint is larger than the first by AdamW's moments."""
    program = (
        "import resource, sys\n"
        "from fairground.training import checkpoint\n"
        "from pathlib import Path\n"
        "import torch\n"
        "folder = Path(sys.argv[1])\n"
        "checkpoint.save_checkpoint(folder, 1, {'weight.a': torch.ones(1000)}, {'step': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n"
        "    checkpoint.save_checkpoint(folder, 2, {'weight.a': torch.ones(1_000_000)}, {'step': 2})\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("TrainingError The checkpoint of step 2 could not be written"), ran.stdout
    assert "the checkpoint of step 1 stands" in ran.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1.safetensors"]
