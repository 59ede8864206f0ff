"""Writes the tables of benchmarks/README.md from the raw results beside it.

    .venv/bin/python benchmarks/tables.py

A test holds the page to what this writes, so a number can only change with its raw results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROWS = {
    "load_s": ("ready to run, s (less is better)", "{:.2f}"),
    "prefill_tokens_per_s": ("prefill, tokens/s", "{:.0f}"),
    "decode_tokens_per_s": ("decoding, tokens/s", "{:.1f}"),
    "peak_memory_mb": ("peak memory, MB (less is better)", "{:.0f}"),
}
LESS_IS_BETTER = {"load_s", "peak_memory_mb"}


def against_transformers(raw: dict[str, Any]) -> str:
    """Medians with the lowest and highest of all rounds, and how many times better ours is."""
    about = raw["about"]
    lines = [
        f"{about['model']}; prompt {about['prompt_tokens']} tokens, output {about['output_tokens']}; "
        f"{about['threads']} threads, {about['machine']}; "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        + f"; `{about['command']}`.",
        "",
        "| | Fairground | Transformers | times better |",
        "|---|---|---|---|",
    ]
    for name, (label, form) in ROWS.items():
        ours, theirs = raw["summary"][name]["fairground"], raw["summary"][name]["transformers"]
        ratio = theirs["median"] / ours["median"] if name in LESS_IS_BETTER else ours["median"] / theirs["median"]
        cells = [
            f"{form.format(side['median'])} ({form.format(side['low'])} to {form.format(side['high'])})"
            for side in (ours, theirs)
        ]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} | {ratio:.2f} |")
    return "\n".join(lines)


TABLES = {"against_transformers": against_transformers}


def page(text: str) -> str:
    """The page with every table between its marks written anew."""
    for name, write in TABLES.items():
        raw = json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{write(raw)}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    readme = HERE / "README.md"
    readme.write_text(page(readme.read_text(encoding="utf-8")), encoding="utf-8")
