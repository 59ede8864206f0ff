"""From command to report: `fairground rank` beside lm-evaluation-harness's command, in turns, in one run.

    .venv/bin/python benchmarks/rank_against_harness.py SHARED [--rounds 3]

SHARED is the folder of real data. Both run SmolLM2 in bfloat16 on all cores, in one command each: 5-shot MMLU on the
first 50 items of each of six subjects, and HellaSwag on its first 300. The harness gets the batch size with which it
scores these items fastest (4: `scoring_against_harness.py`). Ours runs twice: as it is, when it also measures response
times, which the harness does not, and with `--no-times`. Wall clocks hold everything, imports and loading included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from against_transformers import gguf
from circumstances import circumstances
from harness_reference import prepare

import fairground.evaluation
from fairground.evaluation.suite import DATA

BATCH = 4


def suite(folder: Path) -> Path:
    """A suite with the tasks of two that come with the package."""
    suites = Path(fairground.evaluation.__file__).parent / "suites"
    tasks = [(suites / name / "suite.toml").read_text(encoding="utf-8") for name in ("mmlu", "hellaswag")]
    made = folder / "both"
    made.mkdir()
    (made / "suite.toml").write_text(tasks[0] + tasks[1][tasks[1].index("[tasks") :], encoding="utf-8")
    return made


def ours(folder: Path, out: Path, *options: str) -> dict[str, float]:
    """Wall clock in seconds, and the accuracy over all items, of our command."""
    environment = {**os.environ, DATA: str(folder), "FAIRGROUND_HOME": str(out / "home")}
    command = [str(Path(sys.executable).with_name("fairground")), "rank", str(gguf()), "--shots", "5", *options]
    took = timed([*command, "--suite", str(folder / "both"), "--out", str(out / "rank")], environment)
    lines = (out / "rank" / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "accuracy" in row]
    return {"wall_s": took, "items": len(rows), "accuracy": sum(row["accuracy"] for row in rows) / len(rows)}


def harness(names: list[str], folder: Path, out: Path) -> dict[str, float]:
    """The same of the harness's command."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out / "datasets")}
    file = gguf()
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--device", "cpu", "--batch_size", str(BATCH)]
    command += ["--model_args", f"pretrained={file.parent},gguf_file={file.name},dtype=bfloat16", "--log_samples"]
    command += ["--tasks", ",".join(f"{name}_here" for name in names), "--include_path", str(folder / "tasks")]
    took = timed([*command, "--output_path", str(out / "results")], environment)
    lines = [line for path in out.rglob("samples_*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
    right = [json.loads(line)["acc"] for line in lines]
    return {"wall_s": took, "items": len(right), "accuracy": sum(right) / len(right)}


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Seconds that a command took; CalledProcessError where it failed."""
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shared", type=Path, metavar="SHARED")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=300, help="of HellaSwag; a sixth of them of each MMLU subject")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "rank.json")
    options = parser.parse_args()
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [*prepare(options.shared, folder, options.items), "hellaswag"]
        suite(folder)
        for number in range(options.rounds):
            turn = {
                "fairground": ours(folder, folder / f"{number}-ours", "--no-times"),
                "harness": harness(names, folder, folder / f"{number}-theirs"),
                "with_times": ours(folder, folder / f"{number}-times"),
            }
            print(number + 1, turn, flush=True)
            rounds.append(turn)
    about = {
        "model": "SmolLM2-135M-Instruct, Q4_1 GGUF, run in bfloat16",
        **circumstances(
            f"python benchmarks/rank_against_harness.py SHARED --rounds {options.rounds}",
            "torch",
            "transformers",
            "lm-eval",
        ),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"about": about, "rounds": rounds}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
