"""The findings' own commands, at a size that takes seconds: they run to the end and say what their files say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

from paired import One, paired  # noqa: E402


def run(script: str, *arguments: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "experiments" / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def texts(folder: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(60)]
    made = []
    for name, count in (("train", 60), ("held_out", 12)):
        path = folder / f"{name}.jsonl"
        rows = [json.dumps({"text": " ".join(rng.choice(words, 80))}) for _ in range(count)]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        made.append(path)
    return made[0], made[1]


SMALL = ("--tokens", 8192, "--context", 64, "--seeds", 2, "--workers", 2)


@pytest.mark.verify
def test_the_families_finding_reproduces(tmp_path: Path) -> None:
    train, held_out = texts(tmp_path)
    out = tmp_path / "families"
    shape = ("--size", "60k", "--vocabulary", 310, "--no-parts")
    printed = run("families.py", train, held_out, "--out", out, *shape, *SMALL)
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert set(results["bits_per_byte"]) == {"gpt2", "gpt-neo", "gpt-j", "llama", "mistral"}
    for name, by_seed in results["bits_per_byte"].items():
        assert len(set(by_seed)) == 2, "two seeds cannot agree to the last bit"
        assert f"| {name} |" in printed
        curve = next(list(r["curve"].values()) for r in results["runs"] if r["name"] == name)
        assert curve[-1] < curve[0], f"{name} learned nothing"
    for difference in results["differences"]:
        assert difference["low"] <= difference["value"] <= difference["high"]
    assert (out / "families.svg").read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.verify
@pytest.mark.parametrize("top_k", [0, 310])
def test_the_distillation_finding_reproduces(top_k: int, tmp_path: Path) -> None:
    train, held_out = texts(tmp_path)
    teacher = tmp_path / "teacher"
    command = Path(sys.executable).with_name("fairground")
    (tmp_path / "recipe.toml").write_text(
        'model = "llama:100k"\ntokens = 8192\nbatch_tokens = 1024\ncontext = 64\nvocab_size = 310\n', encoding="utf-8"
    )
    subprocess.run([command, "train", tmp_path / "recipe.toml", train, "--out", teacher, "--threads", "1"], check=True)
    out = tmp_path / "distilled"
    printed = run(
        "distillation.py", teacher, train, held_out, "--out", out, "--student", "llama:60k", "--top-k", top_k, *SMALL
    )
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert set(results["bits_per_byte"]) == {"alone", "taught", "teacher"}
    assert (out / "teacher-logits" / "rows.bin").exists() == bool(top_k)
    assert "Taught minus alone" in printed
    assert "of the way from the student alone to its teacher" in printed
    assert results["difference"]["low"] <= results["difference"]["high"]


def test_the_paired_comparison_finds_a_planted_difference_and_no_other() -> None:
    """Documents differ by far more than the models do; only a paired comparison sees the tenth of a bit."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(200, 2000, 300)
    base = sizes * rng.normal(1.5, 0.4, 300) * np.log(2)
    nats = {}
    for seed in range(3):
        noise = rng.normal(0, 0.005, 300) * sizes
        nats[One("one", seed)] = base + noise
        nats[One("worse", seed)] = base + 0.1 * np.log(2) * sizes - noise
        nats[One("same", seed)] = base - noise
    worse, same = paired(nats, sizes, "worse", "one"), paired(nats, sizes, "same", "one")
    assert worse.low < 0.1 < worse.high
    assert worse.low > 0.08
    assert same.low < 0 < same.high


@pytest.mark.parametrize(
    ("by_document", "by_seed", "by_both"),
    [(0.0, 0.0, 0.1), (0.1, 0.01, 0.02), (0.02, 0.02, 0.0)],
    ids=["chance", "documents", "seeds"],
)
def test_the_paired_interval_covers_the_truth(by_document: float, by_seed: float, by_both: float) -> None:
    """Of 400 experiments with three seeds, wherever their chance comes from, about 95% of intervals hold the truth."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(400):
        sizes = rng.integers(200, 2000, 120)
        per_document = rng.normal(0.05, by_document, 120)
        nats = {}
        for seed in range(3):
            nats[One("a", seed)] = sizes * rng.normal(1.0, 0.1, 120)
            own = per_document + rng.normal(0, by_seed) + rng.normal(0, by_both, 120)
            nats[One("b", seed)] = nats[One("a", seed)] + sizes * own
        d = paired(nats, sizes, "b", "a")
        hits += d.low <= 0.05 / np.log(2) <= d.high
    assert 0.9 <= hits / 400 <= 0.995
