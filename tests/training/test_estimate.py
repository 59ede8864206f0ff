"""What is said before a run, beside what the run then takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import Command, in_this_process

import fairground
from fairground.models.tokenizer import Tokenizer
from fairground.training import estimate
from fairground.training.checkpoint import save_checkpoint
from fairground.training.estimate import about, memory_needed, seconds_needed, sentence
from fairground.training.objective import LanguageModelling
from fairground.training.parallel import Processes
from fairground.training.recipe import Recipe
from fairground.training.sizes import new_config
from fairground.training.start import new_decoder
from fairground.training.tokens import tokenize

COMMONS = Path(fairground.__file__).parent / "hub/commons/commons-llama-4m"
MEASURE = """
import resource, sys
from pathlib import Path
from fairground.training.recipe import read_recipe
from fairground.training.run import Watch, train_model
train_model(read_recipe(sys.argv[1]), [Path(sys.argv[2])], Path(sys.argv[3]), tokenizer=Path(sys.argv[4]),
            threads=1, watch=Watch(estimate=print))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


def test_a_model_that_will_not_fit_is_refused_before_its_weights_are_made(
    command: Command, text: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*_: object) -> None:
        raise AssertionError("weights were made")

    monkeypatch.setattr("fairground.training.run.new_decoder", made)
    given = ("train", "llama:70b", str(text), "--tokenizer", str(words), "--out", "made")
    command(*given).refused("llama:70b", "GB", "smaller model")


def test_a_model_from_a_folder_that_will_not_fit_is_refused_before_it_is_read(
    command: Command, text: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("--tokens", "512", "--context", "32")
    assert command("train", "llama:60k", str(text), "--tokenizer", str(words), "--out", "one", *small).status == 0
    monkeypatch.setattr(estimate, "free_memory", lambda _: 1e6)
    command("train", "./one", str(text), "--out", "two", *small).refused("0.0 GB are free")


def test_it_says_what_it_will_take(command: Command, text: Path, words: Path) -> None:
    ran = command(
        "train", "llama:60k", str(text), "--tokenizer", str(words), "--out", "one", "--tokens", "512", "--context", "32"
    )
    assert ran.status == 0
    assert ran.out.startswith("Needs about 0."), ran.out
    assert "less than a minute" in ran.out.splitlines()[0]


def test_words_for_times() -> None:
    times = (5, 61, 12 * 60, 89 * 60, 100 * 60, 47 * 3600, 72 * 3600)
    assert [about(time) for time in times] == [
        "less than a minute", "about 1 minute", "about 12 minutes", "about 89 minutes", "about 2 hours",
        "about 47 hours", "about 3 days",
    ]  # fmt: skip
    assert sentence(3_100_000_000, 720.0).startswith("Needs about 3.1 GB of ")


def test_memory_grows_with_what_needs_it() -> None:
    config = new_config("llama:100m", vocab_size=32000, context_length=1024)
    recipe = Recipe("llama:100m", context=1024, batch_tokens=8192)
    needed = memory_needed(config, recipe)
    assert needed > 100e6 * (2 + 2 + 4 + 4 + 8), "weights, both gradients, masters and moments"
    assert memory_needed(config, recipe, trainable=10**6) < needed - 1.5e9, "few weights that train: few moments"
    assert memory_needed(config, recipe, teacher_vocabulary=32000) > needed + 4e9, "all logits of a teacher in the loop"
    assert memory_needed(config, Recipe("llama:100m", context=1024, batch_tokens=8192, part_tokens=1024)) < needed
    two = memory_needed(config, recipe, processes=Processes(0, 2, 1))
    assert memory_needed(config, recipe, processes=Processes(0, 2, 1, split=True)) < two < needed
    assert memory_needed(config, recipe, processes=Processes(0, 2, 2)) == pytest.approx(2 * two, abs=2)


def test_a_trial_leaves_weights_and_chance_as_they_were(text: Path, words: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(words)
    tokens = tokenize([text], tokenizer)
    decoder = new_decoder(new_config("llama:60k", vocab_size=tokenizer.vocab_size, context_length=64), 0)
    before = [weight.clone() for weight in decoder.parameters()]
    state = torch.get_rng_state()
    recipe = Recipe("llama:60k", tokens=51200, batch_tokens=512, context=64)
    arguments = (decoder, LanguageModelling(), tokens, None, recipe, tmp_path)
    whole = seconds_needed(*arguments)
    assert whole > 0
    assert all(a.equal(b) for a, b in zip(before, decoder.parameters(), strict=True))
    assert all(weight.grad is None for weight in decoder.parameters())
    assert state.equal(torch.get_rng_state())
    save_checkpoint(tmp_path, recipe.steps, {"weight": torch.zeros(1)}, {})
    assert seconds_needed(*arguments) == 0, "a run that is over takes no time"


@pytest.mark.verify
@pytest.mark.parametrize(("model", "context", "batch"), [
    ("llama:8m", 512, 4096), ("gpt2:8m", 256, 2048), ("llama:30m", 512, 2048),
])  # fmt: skip
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_memory_is_about_what_was_said(
    model: str, context: int, batch: int, precision: str, text: Path, tmp_path: Path
) -> None:
    """Peak memory within a third of what was said."""
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'model = "{model}"\ntokens = {batch * 6}\nbatch_tokens = {batch}\ncontext = {context}\n'
        f'precision = "{precision}"\nevaluate_every = 0\n'
    )
    command = [sys.executable, "-c", MEASURE, path, text, tmp_path / "out", COMMONS]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    said, measured = done.stdout.splitlines()
    config = new_config(model, vocab_size=Tokenizer.from_folder(COMMONS).vocab_size, context_length=context)
    needed = memory_needed(config, Recipe(model, context=context, batch_tokens=batch, precision=precision))
    assert f"{needed / 1e9:.1f} GB" in said
    assert 0.67 < needed / float(measured) < 1.5
