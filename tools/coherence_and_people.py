"""Do the automatic measures of coherence agree with people? Kendall's tau with the crowd's ratings of 59 models.

    .venv/bin/python tools/coherence_and_people.py VOTES MODEL [--out docs/findings/coherence.json]

VOTES is the folder of D. Ustalov's LLMFAO data (llmfao_results.jsonl, llmfao_prompts.jsonl); MODEL scores the answers.
Every measure is a mean over a model's answers; its interval is Fieller, Hartley and Pearson's (1957, Biometrika
44:470-481): atanh(tau) has the variance 0.437 / (n - 4) over n models.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scipy import stats

from fairground.arena.record import record_ratings
from fairground.engine.local import open_model
from fairground.evaluation import metrics
from fairground.evaluation.measure import Known, score_all
from fairground.evaluation.splitting import sentences
from fairground.types import Generator, Score, ScoreRequest

LEAST_SENTENCES = 3


def interval(tau: float, models: int) -> tuple[float, float]:
    """95% of Kendall's tau, over so many models."""
    half = 1.96 * math.sqrt(0.437 / (models - 4))
    return math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half)


def requests(prompt: str, answer: str) -> dict[str, ScoreRequest]:
    """What the scorer is asked of one answer."""
    text = f" {answer.strip()}"
    asked = {
        "given": ScoreRequest(f"Question: {prompt}\nAnswer:", text),
        "alone": ScoreRequest("", text),
    }
    parts = sentences(answer)
    if len(parts) >= LEAST_SENTENCES:
        order, chance = list(parts), random.Random(answer)
        while order == parts and len(set(parts)) > 1:
            chance.shuffle(order)
        asked["ordered"], asked["shuffled"] = ScoreRequest("", " ".join(parts)), ScoreRequest("", " ".join(order))
    return asked


MEASURES: dict[str, Callable[[str, dict[str, Score]], float | None]] = {
    "relevance": lambda answer, s: metrics.relevance(s["given"], s["alone"]),
    "fluency (mean log-probability)": lambda answer, s: s["given"].logprob / max(1, s["given"].tokens),
    "sentence order": lambda answer, s: (
        (s["ordered"].logprob - s["shuffled"].logprob) / max(1, s["ordered"].tokens) if "ordered" in s else None
    ),
    "repetition, negated": lambda answer, s: -metrics.repetition(answer),
    "length in words, for comparison": lambda answer, s: float(len(answer.split())),
}


def measured(scorer: Generator, votes: Path) -> dict[str, dict[str, float]]:
    """By measure, each model's mean over its answers. An answer of nothing but space has no measure."""
    prompts = {row["id"]: row["text"] for row in _rows(votes / "llmfao_prompts.jsonl")}
    answers = [row for row in _rows(votes / "llmfao_results.jsonl") if (row["result"] or "").strip()]
    asked = [requests(prompts[row["prompt"]], row["result"]) for row in answers]
    known: Known = {}
    score_all(scorer, [request for own in asked for request in own.values()], known)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in MEASURES}
    for row, own in zip(answers, asked, strict=True):
        scores = {name: known[request] for name, request in own.items()}
        for name, measure in MEASURES.items():
            value = measure(row["result"], scores)
            if value is not None and math.isfinite(value):
                found[name].setdefault(row["name"], []).append(value)
    return {name: {model: statistics.fmean(own) for model, own in models.items()} for name, models in found.items()}


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("votes", type=Path, metavar="VOTES")
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--out", type=Path, default=Path("docs/findings/coherence.json"))
    options = parser.parse_args()
    ratings = {row.model: row.rating for row in record_ratings()}
    scorer = open_model(options.model)
    table = {}
    for name, models in measured(scorer, options.votes).items():
        both = [model for model in ratings if model in models]
        tau = float(stats.kendalltau([models[m] for m in both], [ratings[m] for m in both]).statistic)
        low, high = interval(tau, len(both))
        table[name] = {"tau": tau, "low": low, "high": high, "models": len(both)}
        print(f"{name}: {tau:.2f} ({low:.2f} to {high:.2f}), {len(both)} models")
    about = {"scorer": scorer.info.name, "precision": scorer.info.precision, "votes": "LLMFAO, CC-BY-4.0"}
    options.out.write_text(json.dumps({"about": about, "kendall": table}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
