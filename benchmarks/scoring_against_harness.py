"""Items scored per second, beside lm-evaluation-harness's `hf` model on the same requests, in turns, in one run.

    .venv/bin/python benchmarks/scoring_against_harness.py DATA [--rounds 3]

DATA is a folder with `mmlu/test/*_test.csv`, `mmlu/dev/*_dev.csv` and `hellaswag_val.jsonl`. 5-shot MMLU: the first 50
items of each subject; 0-shot HellaSwag: the first 300 items. Both sides are handed the same contexts and continuations,
run SmolLM2 in bfloat16 on all cores, and have their logits caches on; the harness gets the best of batch sizes 1, 4, 8.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

from against_transformers import gguf
from circumstances import circumstances

Item = tuple[str, list[str], int]  # context, choices, which is right


def mmlu(data: Path) -> list[Item]:
    """As the harness words it: five answered questions of the subject, and one to answer with a letter."""
    items: list[Item] = []
    for path in sorted((data / "mmlu" / "test").glob("*_test.csv")):
        subject = path.name.removesuffix("_test.csv")
        dev = data / "mmlu" / "dev" / f"{subject}_dev.csv"
        shots = "\n\n".join(f"{question(row)} {row['answer']}" for row in rows(dev)[:5])
        head = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        for row in rows(path)[:50]:
            items.append((f"{head}{shots}\n\n{question(row)}", [" A", " B", " C", " D"], "ABCD".index(row["answer"])))
    return items


def rows(path: Path) -> list[dict[str, str]]:
    """Questions with their answers as letters, from a file with or without a heading."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if lines[0][0] == "question":
        lines = lines[1:]
    names = ("question", "A", "B", "C", "D", "answer")
    found = [dict(zip(names, line, strict=True)) for line in lines]
    return [
        {**row, "answer": "ABCD"[int(row["answer"])] if row["answer"].isdigit() else row["answer"]} for row in found
    ]


def question(row: dict[str, str]) -> str:
    choices = "".join(f"\n{letter}. {row[letter]}" for letter in "ABCD")
    return f"{row['question'].strip()}{choices}\nAnswer:"


def hellaswag(data: Path) -> list[Item]:
    lines = (data / "hellaswag_val.jsonl").read_text(encoding="utf-8").splitlines()[:300]
    items = [json.loads(line) for line in lines]
    return [(item["context"], [f" {choice}" for choice in item["choices"]], item["gold"]) for item in items]


TASKS = {"mmlu": mmlu, "hellaswag": hellaswag}


def ours(items: list[Item]) -> tuple[float, list[list[float]]]:
    from fairground.engine.local import open_model
    from fairground.types import ScoreRequest

    model = open_model(gguf())
    model.score([ScoreRequest("a", " b")])
    begun = time.perf_counter()
    scores = iter(model.score([ScoreRequest(context, choice) for context, choices, _ in items for choice in choices]))
    took = time.perf_counter() - begun
    return took, [[next(scores).logprob for _ in choices] for _, choices, _ in items]


def harness(items: list[Item], batch: int) -> tuple[float, list[list[float]]]:
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = gguf()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    plain = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16).eval()
    model = HFLM(pretrained=plain, tokenizer=tokenizer, batch_size=batch, device="cpu", logits_cache=True)
    asked = [
        Instance("loglikelihood", {}, (context, choice), number)
        for number, (context, choices, _) in enumerate(items)
        for choice in choices
    ]
    model.loglikelihood(asked[:1], disable_tqdm=True)
    begun = time.perf_counter()
    scores = iter(model.loglikelihood(asked, disable_tqdm=True))
    took = time.perf_counter() - begun
    return took, [[next(scores)[0] for _ in choices] for _, choices, _ in items]


def measured(task: str, side: str, data: Path, count: int) -> dict[str, float]:
    """One side in a process of its own: items per second, and its accuracy."""
    told = [sys.executable, __file__, str(data), "--task", task, "--side", side, "--items", str(count)]
    done = subprocess.run(told, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument("--side", help="fairground, or the harness's batch size")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scoring.json")
    options = parser.parse_args()
    if options.side:
        items = TASKS[options.task](options.data)
        items = items[:: max(1, len(items) // options.items)]  # of all subjects
        took, scores = ours(items) if options.side == "fairground" else harness(items, int(options.side))
        right = sum(score.index(max(score)) == gold for score, (_, _, gold) in zip(scores, items, strict=True))
        print(json.dumps({"items_per_s": len(items) / took, "accuracy": right / len(items), "items": len(items)}))
        return
    tasks = {}
    for task in TASKS:
        tried = {batch: measured(task, str(batch), options.data, 30)["items_per_s"] for batch in (1, 4, 8)}
        best = max(tried, key=tried.__getitem__)
        print(task, "the harness's batch sizes, items/s of 30:", tried, flush=True)
        results: dict[str, list[dict[str, float]]] = {"fairground": [], "harness": []}
        for number in range(options.rounds):
            for side, name in (("fairground", "fairground"), (str(best), "harness")):
                results[name].append(measured(task, side, options.data, options.items))
                print(number + 1, task, name, results[name][-1], flush=True)
        tasks[task] = {"batch": best, "tried": tried, "rounds": results}
    about = {
        "model": "SmolLM2-135M-Instruct, Q4_1 GGUF, run in bfloat16",
        **circumstances(
            f"python benchmarks/scoring_against_harness.py DATA --rounds {options.rounds}",
            "torch",
            "transformers",
            "lm-eval",
        ),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"about": about, "tasks": tasks}, indent=1) + "\n")


if __name__ == "__main__":
    main()
