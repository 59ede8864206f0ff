"""Which family's design learns best from the same text, tokenizer, size and compute?

    python experiments/families.py TEXT HELD_OUT --out families [--size 1m] [--tokens 800000] [--seeds 3] [--workers 2]

Trains every family, and GPT-2 with one part changed at a time, from several seeds; measures each at fixed points on the
same held-out documents; compares families pair by pair, with intervals for documents and seeds. Writes results.json,
families.svg and table.md. Cut short anywhere, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import altair
import numpy as np
import torch
import vl_convert
from paired import BATCH, One, launch, one_thread, paired, prepare, read_runs, read_tokens, run

from fairground.evaluation.comparison import holm
from fairground.models.config import DecoderConfig, Rotary
from fairground.training.objective import LanguageModelling
from fairground.training.optimiser import Method, Optimiser
from fairground.training.recipe import Recipe
from fairground.training.sizes import DIFFERENCES, as_large_as, new_config
from fairground.training.start import new_decoder
from fairground.training.tokenizer import tokenizer_of

FAMILIES = tuple(DIFFERENCES)
SETTINGS = ("size", "tokens", "context", "vocabulary", "method", "learning_rate")
# GPT-2 with one part of another family's, the MLP's width making up for what it costs.
PARTS = {
    "gpt2 + rotary positions": lambda c: replace(c, rotary=Rotary(c.head_dim)),
    "gpt2 + parallel block": lambda c: replace(c, parallel=True),
    "gpt2 + gated MLP": lambda c: replace(c, gated_mlp=True, activation="silu"),
    "gpt2 + RMS norm, no biases": lambda c: replace(
        c, norm="rms", qkv_bias=False, attention_out_bias=False, mlp_bias=False
    ),
    "gpt2 + window of an eighth": lambda c: replace(c, windows=(max(1, c.context_length // 8),) * c.layers),
}


def design(name: str, size: str, vocab_size: int, context: int) -> DecoderConfig:
    """A family's config, or GPT-2's with one part changed."""
    if name in FAMILIES:
        return new_config(f"{name}:{size}", vocab_size=vocab_size, context_length=context)
    gpt2 = new_config(f"gpt2:{size}", vocab_size=vocab_size, context_length=context)
    return as_large_as(gpt2, PARTS[name](gpt2))


def run_one(one: One, given: argparse.Namespace) -> None:
    """Trains one design from one seed."""
    one_thread()
    words, _, _ = read_tokens(given.out)
    steps = given.tokens // BATCH
    recipe = Recipe(
        one.name,
        tokens=given.tokens,
        batch_tokens=BATCH,
        context=given.context,
        vocab_size=words.vocab_size,
        seed=one.seed,
        evaluate_every=max(1, steps // 5),
        checkpoint_every=max(1, steps // 4),
        optimiser=Optimiser(given.learning_rate, warmup=0.03, method=given.method),
    )
    decoder = new_decoder(design(one.name, given.size, words.vocab_size, given.context), one.seed)
    run(one, given.out, decoder.to(given.device, torch.bfloat16), LanguageModelling(), recipe)


def report(out: Path, names: list[str], seeds: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Reads all runs and writes results.json, table.md and families.svg."""
    curves, nats, sizes = read_runs(out, [One(name, seed) for name in names for seed in range(seeds)])
    final: dict[str, list[float]] = {
        name: [float(nats[One(name, seed)].sum() / sizes.sum() / math.log(2)) for seed in range(seeds)]
        for name in names
    }
    best_first = sorted((name for name in names if name in FAMILIES), key=lambda name: float(np.mean(final[name])))
    pairs = [(worse, better) for better, worse in combinations(best_first, 2)]
    pairs += [(name, "gpt2") for name in names if name in PARTS]
    differences = [asdict(paired(nats, sizes, name, base)) for name, base in pairs]
    for row, p in zip(differences, holm([row["p"] for row in differences]), strict=True):
        row["p"] = p
    results = {
        "settings": settings,
        "held_out": {"documents": len(sizes), "bytes": int(sizes.sum())},
        "bits_per_byte": final,
        "differences": differences,
        "runs": curves,
    }
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "table.md").write_text(table(results), encoding="utf-8")
    (out / "families.svg").write_text(picture(curves), encoding="utf-8")
    return results


def table(results: dict[str, Any]) -> str:
    """Markdown from results.json: every design's bits per byte, then the differences."""
    parameters = {run["name"]: run["parameters"] for run in results["runs"]}
    lines = ["| design | parameters | bits per byte (mean of seeds) | by seed |", "|---|---:|---:|---|"]
    for name, values in sorted(results["bits_per_byte"].items(), key=lambda row: (row[0] in PARTS, np.mean(row[1]))):
        by_seed = ", ".join(f"{value:.3f}" for value in values)
        lines.append(f"| {name} | {parameters[name]:,} | {np.mean(values):.3f} | {by_seed} |")
    lines += ["", "| | needs more bits per byte than | by | 95% interval | p (Holm) |", "|---|---|---:|---|---:|"]
    lines += [
        f"| {d['name']} | {d['base']} | {d['value']:+.3f} | {d['low']:+.3f} to {d['high']:+.3f} | {shown(d['p'])} |"
        for d in results["differences"]
    ]
    return "\n".join(lines) + "\n"


def shown(p: float) -> str:
    """A p-value, bold where it is below 5%."""
    text = f"{p:.3f}" if p >= 0.001 else "< 0.001"
    return f"**{text}**" if p < 0.05 else text


def picture(curves: list[dict[str, Any]]) -> str:
    """An SVG: bits per byte against tokens, the seeds' mean as a line and their range as a band."""
    rows = [
        {"design": run["name"], "tokens": int(tokens), "bits": bits}
        for run in curves
        if run["name"] in FAMILIES
        for tokens, bits in run["curve"].items()
        if int(tokens)
    ]
    base = altair.Chart(altair.Data(values=rows)).encode(
        altair.X("tokens:Q", title="tokens learned from", axis=altair.Axis(format="~s")),
        altair.Color("design:N", title=None, legend=altair.Legend(symbolOpacity=1)),
    )
    y = altair.Scale(zero=False)
    line = base.mark_line(point=True).encode(altair.Y("mean(bits):Q", title="bits per byte, held-out text", scale=y))
    band = base.mark_area(opacity=0.15).encode(altair.Y("min(bits):Q", scale=y), altair.Y2("max(bits):Q"))
    return str(vl_convert.vegalite_to_svg((band + line).properties(width=560, height=340).to_json()))


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="what is learned: a folder or file as `fairground train` takes it")
    parser.add_argument("held_out", type=Path, help="what is measured")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="1m")
    parser.add_argument("--tokens", type=int, default=800_000)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--method", choices=get_args(Method), default="muon")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--parts", action=argparse.BooleanOptionalAction, default=True, help="also the changed GPT-2s")
    parser.add_argument("--only", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        run_one(One(given.only[0], int(given.only[1])), given)
        return
    words = tokenizer_of([given.text], given.vocabulary)
    prepare(given.text, given.held_out, given.out, words)
    names = [*FAMILIES, *(PARTS if given.parts else ())]
    # Seed by seed, so that a cut experiment has whole seeds.
    wanted = [One(name, seed) for seed in range(given.seeds) for name in names]
    launch(__file__, wanted, given.out, given.workers)
    settings = {key: str(getattr(given, key)) for key in SETTINGS}
    report(given.out, names, given.seeds, settings)
    print((given.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
