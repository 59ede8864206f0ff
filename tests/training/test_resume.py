"""Killed anywhere and started again, a run ends with the weights of one that was never cut short, to the bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

COMMAND = Path(sys.executable).with_name("fairground")
STEPS = 40


def recipe(folder: Path, method: str = "adamw") -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        f'model = "llama:60k"\ntokens = {STEPS * 512}\nbatch_tokens = 512\ncontext = 64\nseed = 3\n'
        f'evaluate_every = 15\ncheckpoint_every = 3\n[optimiser]\nmethod = "{method}"\n',
        encoding="utf-8",
    )
    return path


def start(recipe: Path, text: Path, words: Path | None, out: Path) -> subprocess.Popen[bytes]:
    tokenizer = [] if words is None else ["--tokenizer", words]
    arguments = ["train", recipe, text, *tokenizer, "--out", out, "--threads", "1"]
    environment = {**os.environ, "FAIRGROUND_HOME": str(out.parent / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([COMMAND, *map(str, arguments)], env=environment, stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(timeout=300) == 0


def steps_done(out: Path) -> int:
    try:
        rows = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):  # not there yet, or caught while a line is being written
        return 0
    return max((row["step"] for row in rows), default=0)


def kill_after(process: subprocess.Popen[bytes], out: Path, step: int, delay: float) -> None:
    """Ends the process without warning, `delay` seconds after its log names the step."""
    while steps_done(out) < step and process.poll() is None:
        time.sleep(0.005)
    time.sleep(delay)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


def assert_same(one: Path, other: Path) -> None:
    (name,) = {path.name for path in one.glob("*model.safetensors")}
    left, right = load_file(one / name), load_file(other / name)
    assert left.keys() == right.keys()
    assert all(left[name].equal(right[name]) for name in left)
    for folder in (one, other):
        assert not list(folder.glob("*.partial"))
        assert len(list(folder.glob("checkpoint-*"))) == 1
    last = [load_file(next(folder.glob("checkpoint-*"))) for folder in (one, other)]
    assert all(last[0][name].equal(last[1][name]) for name in last[0]), "the optimiser's state differs"
    logs = [
        [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for folder in (one, other)
    ]
    names = ("step", "loss", "bits_per_byte", "measures", "preference_loss", "reward_margin")
    losses = [[tuple(row.get(name) for name in names) for row in log] for log in logs]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("method", ["adamw", pytest.param("muon", marks=pytest.mark.verify)])
def test_one_kill(method: str, text: Path, words: Path, tmp_path: Path) -> None:
    made = recipe(tmp_path, method)
    finish(start(made, text, words, tmp_path / "whole"))
    out = tmp_path / "cut"
    kill_after(start(made, text, words, out), out, 17, 0.0)
    assert 0 < steps_done(out) < STEPS
    finish(start(made, text, words, out))
    assert_same(tmp_path / "whole", out)


@pytest.mark.verify
@pytest.mark.parametrize("lora", ["", "[lora]\nrank = 4\n"], ids=["all weights", "lora"])
def test_one_kill_while_preferences_are_learned(lora: str, text: Path, words: Path, tmp_path: Path) -> None:
    """The reference is that of the first start, which only the checkpoint knows once weights have moved."""
    from fairground.models.assemble import save
    from fairground.models.tokenizer import Tokenizer
    from fairground.training.sizes import new_config
    from fairground.training.start import new_decoder

    tokenizer, model = Tokenizer.from_folder(words), tmp_path / "model"
    config = new_config("llama:60k", vocab_size=tokenizer.vocab_size, context_length=64)
    tokenizer.save(model)
    save(new_decoder(config, 0), model)
    said = [json.loads(line)["text"].split(". ") for line in (text / "documents.jsonl").read_text().splitlines()]
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": s[0] + ".", "chosen": " " + s[1], "rejected": " " + s[2]} for s in said]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe(tmp_path)
    made.write_text(
        made.read_text().replace("llama:60k", str(model)).replace("\n[", '\nobjective = "dpo"\n[')
        + f"learning_rate = 1e-3\n{lora}"
    )
    finish(start(made, pairs, None, tmp_path / "whole"))
    out = tmp_path / "cut"
    kill_after(start(made, pairs, None, out), out, 17, 0.0)
    assert 0 < steps_done(out) < STEPS
    finish(start(made, pairs, None, out))
    assert_same(tmp_path / "whole", out)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["preference_loss"] < rows[0]["preference_loss"] == pytest.approx(0.6931, abs=1e-4)
    assert rows[-2]["measures"]["reward_accuracy"] > 0.6, "it learned"


@pytest.mark.verify
def test_ten_kills_at_random_moments(text: Path, words: Path, tmp_path: Path) -> None:
    made = recipe(tmp_path)
    finish(start(made, text, words, tmp_path / "whole"))
    rng = random.Random(0)
    out = tmp_path / "cut"
    for kill in range(10):
        # From before the first step to the last ones, some of them while a checkpoint is being written.
        kill_after(start(made, text, words, out), out, kill * 4, rng.uniform(0, 0.3))
    finish(start(made, text, words, out))
    assert_same(tmp_path / "whole", out)
