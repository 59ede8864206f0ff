"""How much faster a pass over the text is from stored teacher logits than with the teacher in the loop.

    .venv/bin/python benchmarks/distillation_epochs.py TEACHER TEXT [--rounds 3] [--students llama:8m llama:45m]

TEACHER is a folder or a .gguf file, TEXT anything that `fairground train` reads. Both sides take whole steps of one
student on the same batches: one with the teacher's pass in each of them, one from what the teacher said beforehand.
Each turn is a fresh process, and the sides take turns. What the teacher's reading costs once is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from circumstances import circumstances

from fairground.models.load import load_with_tokenizer
from fairground.training.loop import gradient
from fairground.training.objective import Distillation, Objective, StoredDistillation
from fairground.training.optimiser import Masters, Optimiser
from fairground.training.sizes import new_config
from fairground.training.start import new_decoder
from fairground.training.teacher_logits import TeacherLogits, teacher_logits
from fairground.training.tokens import Batches, Place, Tokens, tokenize

HERE = Path(__file__).parent
SIDES = ("online", "stored")
CONTEXT, BATCH, TOP_K = 512, 2048, 64


def some(tokens: Tokens, count: int) -> Tokens:
    """The first documents, until they have so many tokens."""
    return tokens.only(tokens.starts[1:] <= max(count, int(tokens.starts[1])))


def turn(side: str, given: argparse.Namespace, student: str) -> dict[str, float]:
    """The seconds of a step, after one that is not counted, and the process's greatest memory."""
    torch.set_num_threads(given.threads)
    teacher, words = load_with_tokenizer(given.teacher)
    tokens = some(tokenize([given.text], words), BATCH * (given.steps + 1))
    config = new_config(student, vocab_size=words.vocab_size, context_length=CONTEXT)
    decoder = new_decoder(config, 0).to(torch.bfloat16).train()
    objective: Objective = Distillation(teacher.decoder)
    if side == "stored":
        objective = StoredDistillation(stored(teacher.decoder, tokens, words.vocab_size, given.logits)[0])
        del teacher
    masters = Masters(decoder, Optimiser(1e-3))
    batches, place, seconds = Batches(tokens, BATCH, CONTEXT, 0), Place(), []
    for _ in range(given.steps + 1):
        begun = time.perf_counter()
        batch, place = batches.at(place)
        _, _, norm = gradient(decoder, objective, masters, batch, 0)
        masters.step(1e-3, norm)
        seconds.append(time.perf_counter() - begun)
    return {
        "tokens_per_s": BATCH * given.steps / sum(seconds[1:]),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "parameters": config.parameter_count(),
    }


def stored(teacher: Any, tokens: Tokens, vocabulary: int, folder: Path) -> tuple[TeacherLogits, float]:
    """The store, and the seconds that it took to open or to write."""
    begun = time.perf_counter()
    kept = teacher_logits(teacher, tokens, folder, k=TOP_K, temperature=1.0, context=CONTEXT, vocabulary=vocabulary)
    return kept, time.perf_counter() - begun


def read_once(given: argparse.Namespace) -> dict[str, Any]:
    """Writes the store for all turns: the teacher's speed, bytes of a token, and what its k likeliest tokens hold."""
    torch.set_num_threads(given.threads)
    teacher, words = load_with_tokenizer(given.teacher)
    tokens = some(tokenize([given.text], words), BATCH * (given.steps + 1))
    kept, seconds = stored(teacher.decoder, tokens, words.vocab_size, given.logits)
    rows = kept.rows[kept.rows["log_p"][:, 0] != 0]
    mass = np.cumsum(np.exp(rows["log_p"].astype(np.float32)), 1).mean(0)
    return {
        "tokens_per_s": tokens.predictions / seconds,
        "bytes_per_token": kept.rows.dtype.itemsize,
        "parameters": teacher.decoder.config.parameter_count(),
        "mass": {str(k): float(mass[k - 1]) for k in (1, 8, 16, 32, 64) if k <= TOP_K},
    }


def child(arguments: Sequence[str]) -> dict[str, Any]:
    """What a fresh process of this file says."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="counted steps of a turn, after one that is not")
    parser.add_argument("--students", nargs="+", default=["llama:8m", "llama:45m"], metavar="FAMILY:SIZE")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=HERE / "results" / "distillation_epochs.json", metavar="FILE.json")
    parser.add_argument("--logits", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(read_once(given) if given.child == ["read"] else turn(given.child[0], given, given.child[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        same = [given.teacher, given.text, "--steps", given.steps, "--threads", given.threads, "--logits", folder]
        common = [str(one) for one in same]
        read = child([*common, "--child", "read"])
        print(f"the teacher reads {read['tokens_per_s']:.0f} tokens/s", flush=True)
        turns: dict[str, dict[str, list[dict[str, float]]]] = {}
        for student in given.students:
            turns[student] = {side: [] for side in SIDES}
            for _ in range(given.rounds):
                for side in SIDES:
                    said = child([*common, "--child", side, student])
                    turns[student][side].append(said)
                    print(f"{student} {side}: {said['tokens_per_s']:.0f} tokens/s", flush=True)
    ratios = {
        student: [b["tokens_per_s"] / a["tokens_per_s"] for a, b in zip(*sides.values(), strict=True)]
        for student, sides in turns.items()
    }
    for student, values in ratios.items():
        print(f"{student}: {statistics.median(values):.1f} times as fast from stored logits")
    command = f"python benchmarks/distillation_epochs.py {' '.join(sys.argv[1:])}"
    about = circumstances(command.replace(str(given.teacher), "TEACHER").replace(str(given.text), "TEXT"), "torch")
    about |= {"teacher": given.teacher.stem, "context": CONTEXT, "batch": BATCH, "top_k": TOP_K}
    given.out.write_text(json.dumps({"about": about, "read": read, "turns": turns}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
