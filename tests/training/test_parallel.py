"""Two processes that torchrun starts learn what one learns, whether they copy the model or split it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fairground.errors import TrainingError
from fairground.models.packed import Packed
from fairground.training.parallel import Processes, join, shares
from fairground.training.tokens import Batch

BIN = Path(sys.executable).parent


def recipe(folder: Path, precision: str = "float32", method: str = "adamw", model: str = "llama:60k") -> Path:
    path = folder / f"{precision}-{method}.toml"
    path.write_text(
        f'model = "{model}"\ntokens = 7680\nbatch_tokens = 512\npart_tokens = 150\ncontext = 64\nseed = 3\n'
        f'evaluate_every = 10\ncheckpoint_every = 5\nprecision = "{precision}"\n[optimiser]\nmethod = "{method}"\n',
        encoding="utf-8",
    )
    return path


def run(count: int, out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    torchrun = [BIN / "torchrun", "--nproc-per-node", count, "--standalone", "--no-python"]
    alone = [BIN / "fairground"] if count == 1 else [*torchrun, BIN / "fairground"]
    environment = {**os.environ, "FAIRGROUND_HOME": str(out.parent / "home"), "OMP_NUM_THREADS": "1"}
    environment["GLOO_SOCKET_IFNAME"] = "lo"
    command = [*alone, *arguments, "--out", out, "--threads", 1]
    return subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def learned(count: int, out: Path, *arguments: object) -> list[dict[str, float]]:
    done = run(count, out, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def assert_same_curve(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    assert [row["step"] for row in one] == [row["step"] for row in other]
    assert len([row for row in one if "loss" in row]) == 15
    for key in ("loss", "bits_per_byte"):
        curves = [[row[key] for row in rows if key in row] for rows in (one, other)]
        assert curves[0] == pytest.approx(curves[1], abs=1e-3), key


@pytest.mark.verify
@pytest.mark.parametrize(
    ("precision", "method"), [("float32", "adamw"), ("float32", "muon"), ("bfloat16", "adamw"), ("bfloat16", "muon")]
)
def test_two_processes_learn_what_one_does(
    precision: str, method: str, text: Path, words: Path, tmp_path: Path
) -> None:
    given = ("train", recipe(tmp_path, precision, method), text, "--tokenizer", words)
    alone = learned(1, tmp_path / "alone", *given)
    assert alone[-1]["bits_per_byte"] < alone[0]["bits_per_byte"] - 0.2, "there is a curve to compare"
    assert_same_curve(learned(2, tmp_path / "copied", *given), alone)
    assert_same_curve(learned(2, tmp_path / "split", *given, "--split"), alone)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("alone", "copied", "split")]
    for other in weights[1:]:
        assert other.keys() == weights[0].keys()
        for name, weight in weights[0].items():
            torch.testing.assert_close(other[name].float(), weight.float(), atol=2e-2, rtol=0)


@pytest.mark.verify
def test_a_run_goes_on_with_another_number_of_processes(text: Path, words: Path, tmp_path: Path) -> None:
    """A checkpoint is whole, so what two began split one can end."""
    given = ("train", recipe(tmp_path), text, "--tokenizer", words)
    alone = learned(1, tmp_path / "alone", *given)
    program = (
        "import sys; from fairground.training import loop\n"
        "kept = loop.save_checkpoint\n"
        "def save(folder, step, *rest):\n"
        "    kept(folder, step, *rest)\n"
        "    if step == 5: import os; os._exit(9)\n"
        "loop.save_checkpoint = save\n"
        "from fairground.cli import main; main()\n"
    )
    (tmp_path / "cut.py").write_text(program)
    out = tmp_path / "out"
    cut = [BIN / "torchrun", "--nproc-per-node", 2, "--standalone", tmp_path / "cut.py"]
    command = [*cut, *given, "--out", out, "--threads", 1, "--split"]
    environment = {**os.environ, "FAIRGROUND_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    assert subprocess.run([*map(str, command)], env=environment, capture_output=True, check=False).returncode
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-5.safetensors"]
    assert_same_curve(learned(1, out, *given), alone)


@pytest.mark.verify
def test_two_processes_distil_from_what_is_stored(text: Path, words: Path, tmp_path: Path) -> None:
    learned(1, tmp_path / "teacher", "train", recipe(tmp_path), text, "--tokenizer", words)
    given = ("distill", tmp_path / "teacher", recipe(tmp_path, model="gpt2:60k"), text, "--stored")
    alone = learned(1, tmp_path / "alone", *given)
    assert_same_curve(learned(2, tmp_path / "copied", *given), alone)


def batch(*lengths: int) -> Batch:
    count = sum(lengths)
    learned = torch.ones(count, dtype=torch.bool)
    return Batch(torch.arange(count), torch.arange(count), learned, Packed.of(lengths), tuple(range(len(lengths))))


@pytest.mark.parametrize("lengths", [(10, 10, 10, 10), (64, 3, 2), (5,), (1, 1, 50, 1, 1)])
def test_every_stretch_is_one_processes_and_all_have_as_many_parts(lengths: tuple[int, ...]) -> None:
    whole = batch(*lengths)
    split, each = ([list(Processes(rank, 3, 3, s).parts(whole, 12)) for rank in range(3)] for s in (True, False))
    assert len({len(parts) for parts in split}) == 1
    assert all(part.learned.all() for parts in each for part in parts)
    assert sum(map(len, each)) <= sum(map(len, split))
    counted = torch.cat([part.ids[part.learned] for parts in split for part in parts])
    assert counted.tolist() == list(range(sum(lengths)))
    sizes = [sum(share.packed.lengths) if share else 0 for share in shares(whole, 3)]
    assert max(sizes) <= max(max(lengths), sum(lengths) / 3 + max(lengths))


@pytest.mark.verify
def test_two_processes_learn_preferences_with_an_adapter(text: Path, words: Path, tmp_path: Path) -> None:
    learned(1, tmp_path / "base", "train", recipe(tmp_path), text, "--tokenizer", words)
    texts = [
        json.loads(line)["text"][:90] for line in (text / "documents.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rows = [{"prompt": t[:20], "chosen": t[20:40], "rejected": t[40:90]} for t in texts if len(t) == 90]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "dpo.toml").write_text(
        f'model = "{tmp_path / "base"}"\nobjective = "dpo"\npasses = 2\nbatch_tokens = 400\npart_tokens = 100\n'
        'context = 64\nprecision = "float32"\n[lora]\nrank = 4\n[optimiser]\nlearning_rate = 1e-2\n',
        encoding="utf-8",
    )
    given = ("train", tmp_path / "dpo.toml", tmp_path / "pairs.jsonl")
    one, two = (learned(count, tmp_path / str(count), *given) for count in (1, 2))
    losses = [[row["loss"] for row in rows if "loss" in row] for rows in (one, two)]
    assert len(losses[0]) > 5
    assert losses[0][-1] < 0.95 * losses[0][0], "there is a curve to compare"
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    refused = run(2, tmp_path / "split", *given, "--split")
    assert refused.returncode
    assert "leave --split out" in refused.stderr


def test_a_split_without_torchrun_is_refused() -> None:
    with pytest.raises(TrainingError, match="torchrun"):
        join(split=True, device="cpu")
