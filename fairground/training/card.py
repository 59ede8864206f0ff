"""A model card: what a model is, what it learned from and how, what it can do, and what it cannot.

After Mitchell et al., 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ABOUT_ENERGY = "an estimate: threads times time times 6 W a thread, not a meter's reading"


def model_card(
    name: str,
    summary: Mapping[str, Any],
    *,
    samples: Sequence[Mapping[str, str]] = (),
    measures: Sequence[Mapping[str, Any]] = (),
    text: str = "",
    limits: str = "",
    licence: str = "",
) -> str:
    """Markdown from a run's training.json.

    `measures`: rows of {"measure", "value", "low", "high", "n"} with 95% intervals. `text`, `limits` and `licence` are
    a person's words; what is missing is said to be missing.
    """
    recipe, data = summary["recipe"], summary["text"]
    bits = list(summary["bits_per_byte"].values())
    base = summary.get("base")
    front = {
        "library_name": "peft" if base else "transformers",
        "base_model": None if base is None or Path(base).is_absolute() else base,
        "pipeline_tag": "text-generation",
        "license": licence.lower() or None,
    }
    lines = [
        "---",
        *(f"{key}: {value}" for key, value in front.items() if value),
        "---",
        "",
        f"# {name}",
        "",
        f"{summary['parameters']:,} parameters, trained by {summary['objective']} as `{recipe['model']}`."
        if base is None
        else f"An adapter (LoRA) of {summary['trained_parameters']:,} parameters for `{base}`, which has "
        f"{summary['parameters']:,}, trained by {summary['objective']}. It belongs to the base whose weight files have "
        f"the SHA-256 `{summary['base_sha256']}`.",
        "",
        "## Text",
        "",
        text or "Nobody has described the text yet.",
        "",
        f"{data['documents']:,} documents with {data['predictions']:,} tokens to predict, SHA-256 of the tokens "
        f"`{data['sha256'][:16]}…`; {summary['tokens']:,} tokens were learned from, {summary['passes']:.2f} passes.",
        "",
        *_contamination(summary.get("contamination")),
        "## Recipe",
        "",
        "```json",
        json.dumps(recipe),
        "```",
        "",
        *_effort(summary),
        "## Measures",
        "",
    ]
    kept = summary.get("kept_step")
    if kept is not None:
        lines += [
            f"It stopped early, and the weights of step {kept} are kept: held-out text took "
            f"{summary['bits_per_byte'][str(kept)]:.3f} bits per byte then.",
            "",
        ]
    elif bits:
        lines += [f"Held-out text at the end of training: {bits[-1]:.3f} bits per byte.", ""]
    if pairs := summary.get("held_out_pairs"):
        lines += [
            f"Of the held-out pairs, the chosen answer has the higher reward in {pairs['reward_accuracy']:.0%}; its "
            f"margin is {pairs['reward_margin']:.3f} on average.",
            "",
        ]
    if measures:
        lines += ["| measure | value | 95% interval | n |", "|---|---:|---|---:|"]
        lines += [
            f"| {row['measure']} | {row['value']:.3f} | {row['low']:.3f} to {row['high']:.3f} | {row['n']:,} |"
            for row in measures
        ]
        lines.append("")
    if samples:
        lines += ["## Samples", "", "Not chosen; the beginning was given, in bold.", ""]
        lines += [f"> **{_one_line(row['prompt'])}**{_one_line(row['text'])}\n" for row in samples]
    lines += [
        "## Limits",
        "",
        limits or "Nobody has described this model's limits yet. Measure it before you rely on it.",
    ]
    lines += ["", "## Licence", "", licence or "Not stated yet.", ""]
    return "\n".join(lines)


def _contamination(found: Mapping[str, Any] | None) -> list[str]:
    """What the data share with the suites."""
    if found is None:
        return ["Nobody has compared the text with what models are measured on.", ""]
    return [f"Before training, compared with what models are measured on: {found['summary']}", ""]


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("*", "\\*").replace("<", "&lt;")


def _effort(summary: Mapping[str, Any]) -> list[str]:
    """Time and energy; an n-gram model has no steps, and a run whose log was deleted has none to tell of."""
    if not summary["tokens_per_s"]:
        return []
    return [
        f"{summary['step_seconds'] / 60:.0f} minutes on {summary['threads']} CPU threads at "
        f"{summary['tokens_per_s']:,.0f} tokens/s, {summary['share_of_matrix_rate']:.0%} of the machine's measured "
        f"rate of matrix products; {summary['energy_wh_estimated']:.1f} Wh ({ABOUT_ENERGY}).",
        "",
        "![Loss](loss.svg)",
        "",
    ]
