"""What machines read from the command line, exactly so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairground import __version__

FAIRGROUND = str(Path(sys.executable).with_name("fairground"))


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [FAIRGROUND, *arguments],
        cwd=cwd,
        env={**os.environ, "FAIRGROUND_HOME": str(cwd / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_version(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path) == f"fairground {__version__}\n"


COMMANDS = "rank rate models pull remove chat score serve bench train distill".split()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    assert f"fairground {command}" in run(command, "--help", cwd=tmp_path)


def test_rate_json(tmp_path: Path) -> None:
    (tmp_path / "battles.csv").write_text(
        "model_a,model_b,winner\na,b,model_a\nb,a,tie\nb,c,model_b\nc,a,model_a\na,c,tie\n"
    )
    rows = json.loads(run("rate", "battles.csv", "--json", cwd=tmp_path))
    assert {"model", "rating", "low", "high", "votes", "rank_low", "rank_high"} <= set(rows[0])
    assert [row["rating"] for row in rows] == sorted((row["rating"] for row in rows), reverse=True)
    assert sum(row["rating"] for row in rows) == pytest.approx(3000)


def test_models_json(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in json.loads(run("models", "--json", cwd=tmp_path))}
    assert {"smollm2", "smollm2-1.7b", "tinyllama", "llama-3.1-8b", "mistral-7b", "gpt-neo-2.7b", "gpt-j-6b"} <= set(
        rows
    )
    assert not rows["smollm2"]["pulled"]


def test_bench_json(tmp_path: Path) -> None:
    short = ("--repeats", "1", "--output-tokens", "8")
    found = json.loads(run("bench", "commons-llama-4m", *short, "--json", cwd=tmp_path))
    assert found["model"] == "commons-llama-4m"
    assert found["precision"].startswith("bf16")
    assert set(found["batched"]) == {"8", "32"}
    for rate in (*found["batched"].values(), found["prefill_tokens_per_s"], found["decode_tokens_per_s"]):
        assert rate > 0
    assert found["load_s"] > 0
    assert found["memory_mb"] > 50
    assert set(found["limits"]) == {"read_gb_per_s", "matmul_gflop_per_s"}
    assert set(found["fraction_of_limit"]) == {"prefill", "decode", "8", "32"}
    assert all(0 < fraction < 2 for fraction in found["fraction_of_limit"].values())


def test_score_lines(stories15m: Path, tmp_path: Path) -> None:
    pairs = [{"context": "Once upon a", "continuation": " time"}, {"context": "", "continuation": "Once upon a time"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    lines = [json.loads(line) for line in run("score", str(stories15m), "pairs.jsonl", cwd=tmp_path).splitlines()]
    assert [set(line) for line in lines] == [{"logprob", "greedy", "tokens"}] * 2
    assert lines[0]["greedy"] is True
    assert -1 < lines[0]["logprob"] < 0


def test_rank_writes_what_machines_read(stories15m: Path, tmp_path: Path) -> None:
    out = run("rank", str(stories15m), "uniform", "--limit", "2", "--out", "run", "--json", cwd=tmp_path)
    leaderboard = json.loads(out)
    assert leaderboard == json.loads((tmp_path / "run" / "leaderboard.json").read_text())
    first = next(row for row in leaderboard["models"] if row["model"] == str(stories15m))
    assert {"model", "family", "parameters", "precision", "metrics", "tasks"} <= set(first)
    assert (first["family"], first["precision"]) == ("llama", "bf16")
    for metric in ("accuracy", "accuracy_norm", "coherence", "relevance", "ttft_ms", "tokens_per_s"):
        assert {"value", "low", "high", "n"} <= set(first["metrics"][metric]), metric
    assert {"a", "b", "metric", "difference", "low", "high", "p"} <= set(leaderboard["comparisons"][0])
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert {sample["model"] for sample in samples} == {str(stories15m), "uniform"}
    assert all({"model", "task", "id"} <= set(sample) for sample in samples)
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") >= 2
