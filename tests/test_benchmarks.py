"""The benchmark page shows what the raw results hold, and what is compared computes the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tables

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_tables_are_written_from_the_raw_results() -> None:
    page = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert tables.page(page) == page
    assert "times better" in page
    for name in tables.TABLES:
        assert f"<!-- {name} -->" in page


def measured(script: str, options: str, out: Path) -> dict[str, Any]:
    """What the script leaves in `out`."""
    command = [sys.executable, str(BENCHMARKS / script), *options.split(), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    raw: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return raw


@pytest.mark.verify
def test_contestants_train_the_same_model(tmp_path: Path) -> None:
    """One turn at a tiny shape; the script itself ends where a first loss differs, and all later ones are close."""
    tiny = "--shapes gpt2:60k --vocabulary 256 --context 32 --batch 2 --steps 1 --rounds 1 --threads 1 --no-compile"
    raw = measured("training_against_peers.py", tiny, tmp_path / "training.json")
    (shape,) = raw["shapes"].values()
    losses = {name: end["losses"] for name, end in shape["ends"].items()}
    assert set(losses) == {"fairground", "trainer", "nanogpt"}
    for name in losses:
        assert losses[name] == pytest.approx(losses["fairground"], abs=2e-3), name
    assert len(losses["fairground"]) == 3
    table = tables.training(raw)
    assert all(tables.CONTESTANTS[name] in table for name in losses)
    assert table.count("\n| ") == 4


@pytest.mark.verify
def test_preferences_are_learned_alike_beside_trl(tmp_path: Path) -> None:
    """One turn at a tiny shape; the script itself ends where a first gradient differs, and all losses are close."""
    tiny = "--shapes llama:600k --steps 1 --rounds 1 --threads 1 --precisions float32 --lengths mixed"
    raw = measured("dpo_against_trl.py", tiny, tmp_path / "dpo.json")
    (part,) = raw["parts"]
    for end in part["ends"].values():
        assert end["losses"] == pytest.approx(part["ends"]["fairground"]["losses"], abs=1e-4)
        assert end["gradient_norms"] == pytest.approx(part["ends"]["fairground"]["gradient_norms"], rel=1e-3)
    assert all(label in tables.dpo(raw) for label in tables.PREFERENCE.values())


@pytest.mark.verify
def test_contestants_train_the_same_adapters(tmp_path: Path) -> None:
    tiny = "--shapes gpt2:60k llama:60k --vocabulary 256 --context 32 --batch 2 --steps 2 --rounds 1 --threads 1"
    raw = measured("lora_against_peft.py", tiny, tmp_path / "lora.json")
    for precisions in raw["shapes"].values():
        for precision, shape in precisions.items():
            ours, theirs = (shape["ends"][name]["losses"] for name in ("fairground", "trainer"))
            assert len(ours) == 4
            assert ours == pytest.approx(theirs, abs=1e-5 if precision == "float32" else 2e-3)
            assert len(set(ours)) == 4, "it trains"
    assert tables.lora(raw).count("\n| ") == 5
