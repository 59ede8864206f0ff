"""A run that looks like a real one, made from a seed: nothing is measured here and no model is loaded.

`python tests/evaluation/example_run.py FOLDER` writes its page there and prints its table, to be looked at.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

MODELS: dict[str, dict[str, Any]] = {
    "smollm2": {"skill": 0.42, "speed": 41.0, "memory": 284.3, "precision": "bfloat16 from Q4_1"},
    "smollm2,shots=5": {"skill": 0.47, "speed": 40.1, "memory": 284.3, "precision": "bfloat16 from Q4_1", "shots": 5},
    "smollm2#int4": {"skill": 0.40, "speed": 55.4, "memory": 92.8, "precision": "int4 from bf16"},
    "stories15m": {"skill": 0.27, "speed": 212.0, "memory": 33.1, "precision": "bfloat16", "parameters": 15_191_712},
    "uniform": {"skill": 0.25, "speed": None, "memory": 0, "precision": "exact", "parameters": 0},
}
PASSAGE = (
    "Notice to all members of Larkfield Pool. The main pool will be closed on Tuesday morning so that a cracked tile "
    "near the deep end can be replaced. The small pool will stay open for lessons all day. On Wednesday the café will "
    "be shut while a new oven is fitted, and on Thursday the parking area will be swept, so please come on foot."
)
QUESTIONS: dict[str, tuple[str, list[str]]] = {
    "healthcare": ("Which organ pumps blood around the body?", ["The heart", "The liver", "The spleen", "The lung"]),
    "education": ("What is the capital city of France?", ["Paris", "Berlin", "Rome", "Madrid"]),
    "entertainment": ("Who watches a play?", ["The audience", "The cast", "The painters", "The playwright"]),
    "customer_service": (
        'A customer writes: "I have forgotten my password and cannot log in." What do they need help with?',
        ["Getting into an account", "Choosing a present", "Returning a parcel", "Paying an invoice"],
    ),
    "science": ("Which planet does the Moon orbit?", ["Earth", "Venus", "Mars", "Neptune"]),
    "everyday": ("What happens to water in a freezer overnight?", ["It freezes", "It boils", "It burns", "It rusts"]),
    "reading": (PASSAGE + "\nOn which day will the café be shut?", ["Wednesday", "Tuesday", "Thursday", "Friday"]),
    "arithmetic": ("What is 8 plus 6?", ["14", "13", "16", "2"]),
}
OPEN = (
    "Why do doctors tell people to finish the whole course of antibiotics? Answer in three or four sentences.",
    "My grandfather is going home after a hip operation. Suggest a few simple changes to his house.",
)
ANSWERS = (
    "Stopping early can leave some bacteria alive. Those that survive may multiply and be harder to treat, so ask your "
    "doctor or pharmacist before you stop.",
    "The most important thing is to make sure that the person is safe. The most important thing is to make sure that "
    "the person is safe. The most important thing is to make sure that the person is safe.",
    "Remove loose rugs, put a lamp beside the bed, and fix a grab bar next to the bath.\n\n- rugs\n- lamps\n- bars",
)
SENTENCES = [
    "smollm2,shots=5 is significantly better than smollm2 in relations (+21.9 points [14–30], p < 0.001).",
    "smollm2 and smollm2#int4 are not told apart in accuracy (+1.7 points [−3.1 to 6.5], p = 0.81).",
    "No other difference in accuracy is significant.",
]


def interval(share: float, n: int) -> dict[str, float]:
    half = 1.96 * (share * (1 - share) / n) ** 0.5
    return {"value": share, "low": max(0.0, share - half), "high": min(1.0, share + half), "n": n}


def around(value: float, part: float, n: int) -> dict[str, float]:
    return {"value": value, "low": value - part * abs(value), "high": value + 1.3 * part * abs(value), "n": n}


def example_run(per_domain: int = 29) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The leaderboard and the samples; `stories15m` has no response time, `uniform` writes nothing."""
    samples = [sample for label in MODELS for sample in _samples(label, per_domain)]
    models = [_model(label, [s for s in samples if s["model"] == label]) for label in MODELS]
    comparisons = [
        {
            "a": a,
            "b": b,
            "metric": metric,
            "difference": difference,
            "low": difference - 0.06,
            "high": difference + 0.06,
            "p": 0.0004 if abs(difference) > 0.06 else 0.81,
            "p_raw": 0.0001 if abs(difference) > 0.06 else 0.4,
            "n": 8 * per_domain,
            "significant": abs(difference) > 0.06,
        }
        for metric in ("accuracy", "coherence")
        for i, a in enumerate(MODELS)
        for b in list(MODELS)[i + 1 :]
        for difference in [models[i]["metrics"][metric]["value"] - _by(models, b)["metrics"][metric]["value"]]
    ]
    run = {
        "id": "2026-02-03-7f3c9a",
        "suite": {
            "name": "house",
            "version": "1.0",
            "licence": "CC-BY-4.0",
            "hash": "sha256:7f3c9a51c0ffee0123456789abcdef0123456789abcdef0123456789abcdef01",
            "items": 8 * per_domain + 10,
        },
        "created": "2026-02-03T10:15:00+00:00",
        "seconds": 221.4,
        "limit": None,
        "scorer": {"model": "smollm2", "precision": "float32"},
        "environment": {
            "command": "fairground rank smollm2 smollm2,shots=5 'smollm2#int4' stories15m uniform",
            "python": "3.11.2",
            "torch": "2.13.0",
            "cpu": "Intel Xeon, 2 cores",
            "threads": 2,
        },
        "probe": {"prompt_tokens": 128, "output_tokens": 64, "warmup": 1, "repeats": 5, "concurrency": 1},
        "baselines": {
            "longest_choice": interval(0.246, 8 * per_domain),
            "choices_only": {label: interval(0.25 + 0.01 * i, 8 * per_domain) for i, label in enumerate(MODELS)},
        },
        "smallest_detectable_difference": {"accuracy": 0.087},
    }
    return {"run": run, "models": models, "comparisons": comparisons}, samples


def _by(models: list[dict[str, Any]], label: str) -> dict[str, Any]:
    return next(model for model in models if model["model"] == label)


def _samples(label: str, per_domain: int) -> list[dict[str, Any]]:
    dice = random.Random(label)  # seeded by a string: the same for every run of every process
    found: list[dict[str, Any]] = []
    for task, (question, choices) in QUESTIONS.items():
        for i in range(per_domain):
            gold = i % len(choices)
            shown = [*choices[1 : gold + 1], choices[0], *choices[gold + 1 :]]
            right = dice.random() < MODELS[label]["skill"]
            chosen = gold if right else dice.choice([k for k in range(len(choices)) if k != gold])
            scores = [-dice.uniform(8, 14) - (0 if k == chosen else 3) for k in range(len(choices))]
            asked = f"Question {i + 1}: {question}\nAnswer:"
            if MODELS[label].get("shots"):
                asked = "Question: What is 2 plus 2?\nAnswer: 4\n\n" * 5 + asked
            found.append(
                {
                    "model": label,
                    "task": task,
                    "id": f"{task}-{i + 1:03}",
                    "asked": asked,
                    "choices": shown,
                    "scores": scores,
                    "chosen": chosen,
                    "gold": gold,
                    "right": right,
                }
            )
    for task, skill in (("order_random", 0.5), ("order_swapped", 0.3)):
        for i in range(4):
            right = dice.random() < skill + MODELS[label]["skill"]
            found.append(
                {
                    "model": label,
                    "task": task,
                    "id": f"passage-{i + 1:03}",
                    "scores": [-201.5, -190.25 if not right else -222.0],
                    "right": right,
                }
            )
    if label != "uniform":
        for i, prompt in enumerate(OPEN):
            found.append(
                {
                    "model": label,
                    "task": "open",
                    "id": f"open-{i + 1:03}",
                    "asked": prompt,
                    "answer": dice.choice(ANSWERS),
                    "relevance": dice.uniform(-0.2, 1.5),
                    "repetition": dice.random() / 2,
                }
            )
    return found


def _model(label: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    about = MODELS[label]
    dice = random.Random(label)
    tasks: dict[str, dict[str, Any]] = {}
    for task in QUESTIONS:
        mine = [bool(s["right"]) for s in samples if s["task"] == task]
        tasks[task] = {"accuracy": interval(sum(mine) / len(mine), len(mine))}
    asked = [bool(s["right"]) for s in samples if s["task"] in QUESTIONS]
    accuracy = sum(asked) / len(asked)
    coherence = 0.5 if label == "uniform" else min(0.5 + about["skill"] * 0.7, 0.95)
    tasks["relations"] = {"accuracy": interval(0.71 if about.get("shots") else min(about["skill"] + 0.07, 1), 128)}
    tasks["order_random"] = {"accuracy": interval(min(coherence + 0.1, 1), 88)}
    tasks["order_swapped"] = {"accuracy": interval(coherence - 0.1, 88)}
    metrics = {
        "accuracy": interval(accuracy, len(asked)),
        "accuracy_norm": interval(accuracy * 0.98, len(asked)),
        "coherence": interval(coherence, 88),
    }
    notes = []
    if label == "uniform":
        notes.append("It writes nothing and takes no time, so relevance, repetition and response time have no value.")
    else:
        metrics["relevance"] = around(1.4 * about["skill"] - 0.4, 0.15, 48)
        metrics["repetition"] = interval(0.1 + 0.3 * dice.random(), 48)
        metrics["ttft_ms"] = around(7000 / about["speed"], 0.06, 5)
        metrics["tokens_per_s"] = around(about["speed"], 0.02, 5)
        metrics["energy_j_per_1k_tokens"] = around(40_000 / about["speed"], 0.1, 5)
    metrics["ece"] = around(0.2, 0.2, len(asked))
    metrics["flip_rate"] = interval(0.2, 100)
    metrics["stereotype"] = interval(0.6, 300)
    tasks["bbq"] = {"bias_dis": {"value": 0.11, "n": 60}, "bias_amb": {"value": -0.04, "n": 60}}
    return {
        "model": label,
        "family": {"uniform": "none", "stories15m": "llama"}.get(label, "llama"),
        "parameters": about.get("parameters", 134_515_008),
        "precision": about["precision"],
        "shots": about.get("shots", 0),
        "memory_mb": about["memory"],
        **({"shared_with": "smollm2"} if label == "smollm2,shots=5" else {}),
        "licence": "Apache-2.0" if label.startswith("smollm2") else "MIT",
        "metrics": metrics,
        "tasks": tasks,
        "calibration": [{"confidence": (i + 2) / 13, "accuracy": (i + 1) / 14, "n": 23} for i in range(10)],
        "fairness": {
            "flip_rate": {kind: interval(0.05 * i, 25) for i, kind in enumerate(("name", "pronoun", "group"), 2)},
            "gap": {
                "domain": {
                    "value": 0.4,
                    "best": {"group": "customer_service", **interval(0.6, 50)},
                    "worst": {"group": "reading", **interval(0.2, 50)},
                    "groups": 8,
                }
            },
        },
        "notes": notes,
        "errors": [],
    }


def main(folder: Path) -> None:
    """Writes the example's page into the folder and prints its table."""
    from rich.console import Console

    from fairground.evaluation.report import html_report
    from fairground.evaluation.table import leaderboard_table

    leaderboard, samples = example_run()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(html_report(leaderboard, samples, SENTENCES), encoding="utf-8")
    for width in (100, 80):
        Console(width=width).print(leaderboard_table(leaderboard, SENTENCES))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
