"""Training adapters (LoRA): speed and peak memory of our loop beside Transformers' Trainer with peft, in one run.

    .venv/bin/python benchmarks/lora_against_peft.py [--rounds 5]

Both get the same weights, adapters of rank 16 in every linear layer, and rows, and take the same steps; each is a
process of its own (contestants.py says what it does) and they take turns. In bfloat16 both keep fixed weights in it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from contestants import Job
from training_against_peers import HERE, Shape, measure, version

RANK = 16
SHAPES = (Shape("llama:120m", 32000, 512, 4, 2), Shape("gpt2:30m", 16000, 512, 8, 2))
SIDES = ("fairground", "trainer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shapes", nargs="+", metavar="FAMILY:SIZE", help="instead of the usual ones")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    for name in ("vocabulary", "context", "batch", "steps"):
        parser.add_argument(f"--{name}", type=int, help="instead of the shapes' own")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "lora.json", metavar="FILE.json")
    options = parser.parse_args()
    shapes = SHAPES
    if options.shapes:
        shapes = tuple(
            next((s for s in SHAPES if s.name == name), replace(SHAPES[0], name=name)) for name in options.shapes
        )
    given = {n: v for n in ("vocabulary", "context", "batch", "steps") if (v := getattr(options, n)) is not None}
    results: dict[str, dict[str, Any]] = {}
    for shape in (replace(shape, **given) for shape in shapes):
        for precision in options.precisions:
            job = Job(
                "", shape.name, shape.vocabulary, shape.context, shape.batch, shape.steps,
                options.rounds, options.threads, "cpu", "", precision, RANK,
            )  # fmt: skip
            results.setdefault(shape.name, {})[precision] = measure(shape, SIDES, job)
    about = {
        "rank": RANK,
        "threads": options.threads,
        "rounds": options.rounds,
        "versions": {n: version(n, "") for n in ("fairground", "torch", "transformers", "accelerate", "peft")},
        "command": f"python benchmarks/lora_against_peft.py {' '.join(sys.argv[1:])}".strip(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"about": about, "shapes": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
