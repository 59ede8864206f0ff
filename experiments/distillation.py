"""Does a teacher help? One student on the same tokens with and without a larger model of ours to learn from.

    python experiments/distillation.py TEACHER TEXT HELD_OUT --out distilled [--student llama:1m] [--tokens 800000]

Trains the student from several seeds by language modelling and by distillation, in the same order of the same text;
measures both on the same held-out documents; compares them pair by pair, with an interval for documents and seeds.
Writes results.json and table.md. Cut short anywhere, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import BATCH, One, launch, one_thread, paired, prepare, read_runs, read_tokens, run

from fairground.models.load import load_with_tokenizer
from fairground.training.objective import Distillation, LanguageModelling, Objective
from fairground.training.optimiser import Optimiser
from fairground.training.recipe import Recipe
from fairground.training.sizes import new_config
from fairground.training.start import new_decoder

ALONE, TAUGHT = "alone", "taught"


def run_one(one: One, given: argparse.Namespace) -> None:
    """Trains the student of one arm from one seed."""
    one_thread()
    words, _, _ = read_tokens(given.out)
    objective: Objective = LanguageModelling()
    if one.name == TAUGHT:
        teacher, _ = load_with_tokenizer(given.teacher)
        objective = Distillation(teacher.decoder.to(given.device), given.temperature, given.alpha)
    recipe = Recipe(
        given.student,
        tokens=given.tokens,
        batch_tokens=BATCH,
        context=given.context,
        seed=one.seed,
        evaluate_every=0,
        checkpoint_every=max(1, given.tokens // BATCH // 4),
        optimiser=Optimiser(given.learning_rate, warmup=0.03, method="muon"),
    )
    config = new_config(given.student, vocab_size=words.vocab_size, context_length=given.context)
    run(one, given.out, new_decoder(config, one.seed).to(given.device, torch.bfloat16), objective, recipe)


def report(out: Path, seeds: int, settings: dict[str, Any]) -> str:
    """Writes results.json and table.md, which is returned."""
    runs = [One(arm, seed) for arm in (ALONE, TAUGHT) for seed in range(seeds)]
    curves, nats, sizes = read_runs(out, runs)
    d = paired(nats, sizes, TAUGHT, ALONE)
    bits = {
        arm: [float(nats[One(arm, seed)].sum() / sizes.sum() / np.log(2)) for seed in range(seeds)]
        for arm in (ALONE, TAUGHT)
    }
    results = {"settings": settings, "bits_per_byte": bits, "difference": asdict(d), "runs": curves}
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    written = table(results)
    (out / "table.md").write_text(written, encoding="utf-8")
    return written


def table(results: dict[str, Any]) -> str:
    """Markdown from results.json."""
    lines = ["| student | bits per byte (mean of seeds) | by seed |", "|---|---:|---|"]
    lines += [
        f"| {arm} | {np.mean(values):.3f} | {', '.join(f'{value:.3f}' for value in values)} |"
        for arm, values in results["bits_per_byte"].items()
    ]
    d = results["difference"]
    by = f"{d['value']:+.3f} bits per byte (95% {d['low']:+.3f} to {d['high']:+.3f}, p = {d['p']:.2g})"
    return "\n".join([*lines, "", f"Taught minus alone: {by}."]) + "\n"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, help="a model's folder; its tokenizer is the student's")
    parser.add_argument("text", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--student", default="llama:1m")
    parser.add_argument("--tokens", type=int, default=800_000)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--only", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        run_one(One(given.only[0], int(given.only[1])), given)
        return
    _, words = load_with_tokenizer(given.teacher)
    prepare(given.text, given.held_out, given.out, words)
    launch(
        __file__, [One(arm, seed) for seed in range(given.seeds) for arm in (ALONE, TAUGHT)], given.out, given.workers
    )
    names = ("teacher", "student", "tokens", "context", "temperature", "alpha", "learning_rate")
    print(report(given.out, given.seeds, {name: str(getattr(given, name)) for name in names}))


if __name__ == "__main__":
    main()
