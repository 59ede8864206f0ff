"""From command to report: `fairground rank` beside lm-evaluation-harness's command, in turns, in one run.

    .venv/bin/python benchmarks/rank_against_harness.py SHARED [--rounds 3]

SHARED is the folder of real data. Both run SmolLM2 in bfloat16 on all cores: 5-shot MMLU on the first 50 items of each
of six subjects, then HellaSwag on its first 300, a command each. The harness gets the batch size that is best for it
(`scoring_against_harness.py`). Our command also measures response times and writes the page; both wall clocks hold
everything, imports and loading included.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from against_transformers import gguf
from harness_reference import prepare

BATCH = {"mmlu": 1, "hellaswag": 8}
SHOTS = {"mmlu": 5, "hellaswag": 0}


def ours(task: str, folder: Path, out: Path) -> dict[str, float]:
    """Wall clock in seconds, and the accuracy of each task's items, of our command."""
    environment = {**os.environ, "FAIRGROUND_DATA": str(folder), "FAIRGROUND_HOME": str(out / "home")}
    command = [str(Path(sys.executable).with_name("fairground")), "rank", str(gguf()), "--suite", task]
    took = timed([*command, "--shots", str(SHOTS[task]), "--out", str(out / "rank")], environment)
    lines = (out / "rank" / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    right = [row["accuracy"] for row in map(json.loads, lines) if "accuracy" in row and row["task"] != "choices_only"]
    return {"wall_s": took, "items": len(right), "accuracy": sum(right) / len(right)}


def harness(task: str, subjects: list[str], folder: Path, out: Path) -> dict[str, float]:
    """The same of the harness's command."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out / "datasets")}
    file = gguf()
    names = ",".join(f"{name}_here" for name in (subjects if task == "mmlu" else [task]))
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--device", "cpu", "--tasks", names]
    command += ["--model_args", f"pretrained={file.parent},gguf_file={file.name},dtype=bfloat16"]
    command += ["--batch_size", str(BATCH[task]), "--include_path", str(folder / "tasks")]
    took = timed([*command, "--output_path", str(out / "results"), "--log_samples"], environment)
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
        subjects = prepare(options.shared, folder, options.items)
        for number in range(options.rounds):
            turn: dict[str, Any] = {"fairground": {}, "harness": {}}
            for task in BATCH:
                turn["fairground"][task] = ours(task, folder, folder / f"ours-{number}-{task}")
                turn["harness"][task] = harness(task, subjects, folder, folder / f"theirs-{number}-{task}")
                print(number + 1, task, turn["fairground"][task], turn["harness"][task], flush=True)
            rounds.append(turn)
    about = {
        "model": "SmolLM2-135M-Instruct, Q4_1 GGUF, run in bfloat16", "threads": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "versions": {n: importlib.metadata.version(n) for n in ("fairground", "torch", "transformers", "lm-eval")},
        "command": f"python benchmarks/rank_against_harness.py SHARED --rounds {options.rounds}",
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"about": about, "rounds": rounds}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
