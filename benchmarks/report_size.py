"""The report of a large run, in a browser: its size, and when it stands; and how long its comparisons take.

    .venv/bin/python benchmarks/report_size.py [--models 10] [--items 5000] [--rounds 9]

The run is made from a seed, with nothing measured: four fifths of the items are questions with four choices of the
length of HellaSwag's, the others are answered in about 60 words; words are drawn by Zipf's law, which compresses no
better than English does. Each round is a Chromium of its own, as a person opens a file: "page stands" is
DOMContentLoaded, "items stand" when they are unpacked and listed, both from the start of navigation. Comparing means
all pairs of models on all items by 10,000 resamples. Needs the browser of the tests (`make test`).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from circumstances import circumstances

from fairground.evaluation import pareto
from fairground.evaluation.comparison import compare_differences
from fairground.evaluation.intervals import RESAMPLES
from fairground.evaluation.report import html_report

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
DOMAINS = ("healthcare", "education", "entertainment", "customer_service", "science", "everyday", "reading", "law")


def words(dice: random.Random) -> Any:
    """A function that writes so many words, the likelier the lower their rank (Zipf's law)."""
    syllables = [a + b for a in "bdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "ing")]
    known = ["".join(dice.choices(syllables, k=dice.choice((1, 2, 2, 3)))) for _ in range(8000)]
    odds = np.cumsum([1 / rank for rank in range(1, len(known) + 1)]).tolist()
    return lambda count: " ".join(dice.choices(known, cum_weights=odds, k=count))


def large_run(models: int, items: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A leaderboard and its samples."""
    dice = random.Random(7)
    write = words(dice)
    labels = [f"organisation/model-number-{i}-instruct#bfloat16" for i in range(models)]
    samples: list[dict[str, Any]] = []
    for i in range(items):
        task = DOMAINS[i % len(DOMAINS)]
        head = {"task": task, "id": f"{task}-{i:05}", "domain": task}
        if i % 5 == 4:
            asked = {"task": "open", "asked": write(25)}
            samples += [{"model": label, **head, **asked, "answer": write(60), "tokens": 80} for label in labels]
            continue
        asked = {"asked": write(40), "choices": [write(20) for _ in range(4)], "gold": dice.randrange(4)}
        for label in labels:
            scores = [-dice.expovariate(0.02) for _ in range(4)]
            chosen = scores.index(max(scores))
            right = {"chosen": chosen, "right": chosen == asked["gold"]}
            samples.append({"model": label, **head, **asked, "scores": scores, **right})
    return {"run": {"suite": {"name": "made", "items": items}}, "models": _models(labels, dice)}, samples


def _models(labels: list[str], dice: random.Random) -> list[dict[str, Any]]:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": 0.97 * value, "high": 1.03 * value, "n": 4000}

    made = []
    for i, label in enumerate(labels):
        names = ("accuracy", "accuracy_norm", "coherence", "truthfulness", "robustness", "flip_rate", "ece", "brier")
        metrics = {name: interval(dice.uniform(0.2, 0.9)) for name in names}
        metrics |= {"ttft_ms": interval(dice.uniform(20, 900)), "tokens_per_s": interval(dice.uniform(5, 300))}
        tasks = {task: {"accuracy": interval(dice.uniform(0.2, 0.9))} for task in DOMAINS}
        points = [{"confidence": (k + 1) / 11, "accuracy": dice.random(), "n": 400} for k in range(10)]
        facts = {"family": "llama", "parameters": 10**9 + i, "precision": "bfloat16", "memory_mb": 2000 + 100 * i}
        made.append({"model": label, **facts, "metrics": metrics, "tasks": tasks, "calibration": points})
    return made


def opened(file: Path) -> dict[str, float]:
    """Milliseconds from the start of navigation, in a browser that has just begun."""
    from browser import chromium, visit

    with chromium() as browser, visit(browser, file) as visited:
        visited.page.wait_for_function("document.getElementById('filters').hidden === false")
        return dict(
            visited.page.evaluate("""() => ({
              page_ms: performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd,
              paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
              items_ms: performance.getEntriesByName("items")[0].startTime,
            })""")
        )


def compared(models: int, items: int) -> float:
    """Seconds for the paired bootstrap of every pair of models on values that are not right or wrong."""
    values = np.random.default_rng(7).normal(size=(items, models))
    differences = np.stack([values[:, a] - values[:, b] for a, b in combinations(range(models), 2)], axis=1)
    begun = time.perf_counter()
    compare_differences(differences, [str(i) for i in range(items)], RESAMPLES)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "report.json")
    given = parser.parse_args()
    leaderboard, samples = large_run(given.models, given.items)
    leaderboard["pareto"] = pareto.fronts(leaderboard["models"])
    begun = time.perf_counter()
    page = html_report(leaderboard, samples)
    built = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(page, encoding="utf-8")
        rounds = [{**opened(file), "comparing_s": compared(given.models, given.items)} for _ in range(given.rounds)]
    about = {
        "models": given.models,
        "items": given.items,
        **circumstances(f"python benchmarks/report_size.py --rounds {given.rounds}", "numpy", "playwright"),
    }
    whole = "all" if "items are on this page" not in page else "some"
    found = {"about": about, "bytes": len(page.encode()), "shown": whole, "built_s": built, "rounds": rounds}
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
