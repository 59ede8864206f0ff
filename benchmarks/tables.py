"""Writes the tables of benchmarks/README.md from the raw results beside it.

    .venv/bin/python benchmarks/tables.py

A test holds the page to what this writes, so a number can only change with its raw results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SPREAD = "{median} ({low} to {high})"
ROWS = {
    "load_s": ("ready to run, s (less is better)", "{:.2f}"),
    "prefill_tokens_per_s": ("prefill, tokens/s", "{:.0f}"),
    "decode_tokens_per_s": ("decoding, tokens/s", "{:.1f}"),
    "peak_memory_mb": ("peak memory, MB (less is better)", "{:.0f}"),
}
CONTESTANTS = {
    "fairground": "Fairground",
    "trainer": "Transformers' Trainer, `bf16=True`",
    "trainer_tuned": "the same, compiled",
    "nanogpt": "a loop like nanoGPT's",
    "nanogpt_compiled": "the same, compiled",
    "litgpt": "litgpt's model in that loop",
    "litgpt_compiled": "the same, compiled",
}
LESS_IS_BETTER = {"load_s", "peak_memory_mb"}


def against_transformers(raw: dict[str, Any]) -> str:
    """Medians with the lowest and highest of all rounds, and how many times better ours is."""
    about = raw["about"]
    lines = [
        f"{about['model']}; prompt {about['prompt_tokens']} tokens, output {about['output_tokens']}; "
        f"{circumstances(about, about['machine'])}",
        "",
        "| | Fairground | Transformers | times better |",
        "|---|---|---|---|",
    ]
    for name, (label, form) in ROWS.items():
        ours, theirs = raw["summary"][name]["fairground"], raw["summary"][name]["transformers"]
        ratio = theirs["median"] / ours["median"] if name in LESS_IS_BETTER else ours["median"] / theirs["median"]
        lines.append(f"| {label} | {spread(ours, form)} | {spread(theirs, form)} | {ratio:.2f} |")
    return "\n".join(lines)


def training(raw: dict[str, Any]) -> str:
    """A table for each shape: medians of the turns with the lowest and highest, beside our speed in the same round."""
    machine = next(iter(raw["shapes"].values()))["machine"]
    blocks = [circumstances(raw["about"], machine)]
    for name, shape in raw["shapes"].items():
        losses = shape["first_losses"].values()
        lines = [
            f"**{name}**: {shape['parameters'] / 1e6:.1f} million parameters, {shape['layers']} layers of width "
            f"{shape['width']}; a step is {shape['batch']} rows of {shape['context']} tokens. At the first step the "
            f"losses, from {min(losses):.4f} to {max(losses):.4f} nats, agree.",
            "",
            "| | tokens/s | ours is faster by | share of the matrix rate | peak memory, MB |",
            "|---|---|---|---|---|",
        ]
        for who, label in CONTESTANTS.items():
            if (row := shape["summary"].get(who)) is None:
                continue
            times = "" if who == "fairground" else spread(row["ours_over_theirs"], "{:.2f}")
            lines.append(
                f"| {label} | {spread(row['tokens_per_s'], '{:.0f}')} | {times} | {row['share_of_matrix_rate']:.0%} "
                f"| {row['peak_memory_mb']['median']:.0f} |"
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def spread(values: dict[str, float], form: str) -> str:
    return SPREAD.format(**{name: form.format(value) for name, value in values.items()})


def circumstances(about: dict[str, Any], machine: str) -> str:
    """Where and how it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return f"{about['threads']} threads, {machine}; {versions}; `{about['command']}`."


TABLES = {"against_transformers": against_transformers, "training": training, "training_cuda": training}


def page(text: str) -> str:
    """The page with every table between its marks written anew."""
    for name, write in TABLES.items():
        file = HERE / "results" / f"{name}.json"
        table = write(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else "Not measured yet."
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    readme = HERE / "README.md"
    readme.write_text(page(readme.read_text(encoding="utf-8")), encoding="utf-8")
