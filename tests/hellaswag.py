"""Real items of HellaSwag, and what scores of their choices come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairground.types import ScoreRequest


def read(shared: Path, count: int) -> list[dict[str, Any]]:
    """The first items: "context", "choices", and the number of the right one, "gold"."""
    path = shared / "data" / "benchmarks" / "hellaswag_val.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]


def requests(items: list[dict[str, Any]]) -> list[ScoreRequest]:
    """One for every choice."""
    return [ScoreRequest(item["context"], f" {choice}") for item in items for choice in item["choices"]]


def accuracies(scores: list[float], items: list[dict[str, Any]]) -> tuple[float, float]:
    """Plain, and by the choices' lengths: the harness's `acc` and `acc_norm`."""
    plain = normalised = at = 0
    for item in items:
        part = scores[at : at + len(item["choices"])]
        at += len(part)
        plain += max(range(len(part)), key=part.__getitem__) == item["gold"]
        lengths = [len(choice) for choice in item["choices"]]
        normalised += max(range(len(part)), key=lambda i: part[i] / lengths[i]) == item["gold"]
    return plain / len(items), normalised / len(items)
