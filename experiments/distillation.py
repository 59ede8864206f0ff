"""Does a teacher help? One student on the same tokens with and without a larger model to learn from.

    python experiments/distillation.py TEACHER TEXT HELD_OUT --out distilled [--student llama:1m] [--tokens 800000]

Trains the student from several seeds by language modelling and by distillation, in the same order of the same text;
measures both, and the teacher, on the same held-out documents; compares them pair by pair, with an interval for
documents and seeds. With `--top-k`, the teacher reads the text once for all seeds, and what it says is stored. TEACHER
is a folder or a .gguf file, TEXT and HELD_OUT are files or folders. Writes results.json and table.md. Cut short
anywhere, the same command goes on.
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

from fairground.models.decoder import Decoder
from fairground.models.load import load_with_tokenizer
from fairground.models.machine import cores
from fairground.training.measure import held_out
from fairground.training.objective import Distillation, LanguageModelling, Objective, StoredDistillation
from fairground.training.optimiser import Optimiser
from fairground.training.recipe import Recipe
from fairground.training.sizes import new_config
from fairground.training.start import new_decoder
from fairground.training.teacher_logits import TeacherLogits, teacher_logits

ALONE, TAUGHT, TEACHER = "alone", "taught", "teacher"


def run_one(one: One, given: argparse.Namespace) -> None:
    """Trains the student of one arm from one seed."""
    one_thread()
    words, _, _ = read_tokens(given.out)
    objective: Objective = LanguageModelling()
    if one.name == TAUGHT:
        teacher, _ = load_with_tokenizer(given.teacher)
        decoder = teacher.decoder.to(given.device)
        if given.top_k:
            objective = StoredDistillation(stored(given, decoder), given.temperature, given.alpha)
        else:
            objective = Distillation(decoder, given.temperature, given.alpha)
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


def stored(given: argparse.Namespace, teacher: Decoder) -> TeacherLogits:
    """What the teacher says of the whole text, which it reads where that is not stored yet."""
    words, text, _ = read_tokens(given.out)
    return teacher_logits(
        teacher,
        text,
        given.out / "teacher-logits",
        k=given.top_k,
        temperature=given.temperature,
        context=given.context,
        vocabulary=words.vocab_size,
        progress=lambda done, of: print(f"the teacher reads: {done:,} of {of:,}", flush=True),
    )


def hear(given: argparse.Namespace, teacher: Decoder) -> None:
    """Measures the teacher, and stores what it says of the text."""
    torch.set_num_threads(cores())
    path = given.out / "teacher.npz"
    teacher = teacher.to(given.device)
    if given.top_k:  # first, because it goes on where it was cut short
        stored(given, teacher)
    if not path.exists():
        found = held_out(teacher, read_tokens(given.out)[2], given.context)
        np.savez(given.out / "partial.npz", nats=found.nats, bytes=found.bytes)
        (given.out / "partial.npz").replace(path)


def report(out: Path, seeds: int, settings: dict[str, Any]) -> str:
    """Writes results.json and table.md, which is returned."""
    runs = [One(arm, seed) for arm in (ALONE, TAUGHT) for seed in range(seeds)]
    curves, nats, sizes = read_runs(out, runs)
    d = paired(nats, sizes, TAUGHT, ALONE)
    bits = {
        arm: [float(nats[One(arm, seed)].sum() / sizes.sum() / np.log(2)) for seed in range(seeds)]
        for arm in (ALONE, TAUGHT)
    }
    with np.load(out / "teacher.npz") as kept:
        bits |= {TEACHER: [float(kept["nats"].sum() / kept["bytes"].sum() / np.log(2))]}
    text = {"documents": len(sizes), "bytes": int(sizes.sum()), "learned": read_tokens(out)[1].predictions}
    results = {"settings": settings, "text": text, "bits_per_byte": bits, "difference": asdict(d), "runs": curves}
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
    written = [*lines, "", f"Taught minus alone: {by}."]
    if TEACHER in results["bits_per_byte"]:
        alone, taught, teacher = (float(np.mean(results["bits_per_byte"][who])) for who in (ALONE, TAUGHT, TEACHER))
        written.append(
            f"That is {(alone - taught) / (alone - teacher):.0%} of the way from the student alone to its teacher."
        )
    return "\n".join(written) + "\n"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, help="a model's folder or .gguf file; its tokenizer is the student's")
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
    parser.add_argument("--top-k", type=int, default=0, help="likeliest tokens stored (default: teacher in the loop)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--only", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        run_one(One(given.only[0], int(given.only[1])), given)
        return
    teacher, words = load_with_tokenizer(given.teacher)
    prepare(given.text, given.held_out, given.out, words)
    hear(given, teacher.decoder)
    del teacher
    launch(
        __file__, [One(arm, seed) for seed in range(given.seeds) for arm in (ALONE, TAUGHT)], given.out, given.workers
    )
    names = ("teacher", "student", "tokens", "context", "temperature", "alpha", "learning_rate", "top_k")
    print(report(given.out, given.seeds, {name: str(getattr(given, name)) for name in names}))


if __name__ == "__main__":
    main()
