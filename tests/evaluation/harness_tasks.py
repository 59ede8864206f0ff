"""Small tasks of lm-evaluation-harness over items of our own, one of every way in which it asks and judges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

PLACES = (
    ("barn", "the hay and the horses"), ("kitchen", "the pots and the spoons"), ("school", "the books and the desks"),
    ("garden", "the roses and the herbs"), ("harbour", "the boats and the nets"), ("bakery", "the bread and the buns"),
    ("library", "the maps and the letters"), ("forest", "the oaks and the ferns"), ("market", "the fruit and the fish"),
    ("stable", "the saddles and the ponies"), ("cellar", "the wine and the barrels"), ("attic", "the trunks and dust"),
)  # fmt: skip


def _places(start: int, count: int) -> list[dict[str, Any]]:
    docs = []
    for i in range(start, start + count):
        place, things = PLACES[i % len(PLACES)]
        choices = [PLACES[(i + step) % len(PLACES)][1] for step in (0, 5, 3)]
        gold = i % 3
        choices[0], choices[gold] = choices[gold], choices[0]
        docs.append(
            {
                "place": f"{place} {i}",
                "things": things,
                "choices": choices,
                "gold": gold,
                "text": f"Once there was a {place}. In the {place} were {things}, and {i} more.",
                "last": things.rsplit(" ", 1)[1],
                "number": str(i % 10),
                "endings": [f"She went to the {place} and", f"He sat in the {place} while"],
                "which": i % 2,
            }
        )
    return docs


def _metric(name: str, aggregation: str = "mean", **more: Any) -> dict[str, Any]:
    return {"metric": name, "aggregation": aggregation, "higher_is_better": True, **more}


QUIZ = {
    "output_type": "multiple_choice",
    "doc_to_text": "Question: What is in the {{place}}?\nAnswer:",
    "doc_to_choice": "choices",
    "doc_to_target": "gold",
}
TASKS: dict[str, dict[str, Any]] = {
    "fair_quiz": {
        **QUIZ,
        "training_split": "train",
        "description": "What lies where?\n\n",
        "metric_list": [
            _metric("acc"), _metric("acc_norm"), _metric("acc_mutual_info"), _metric("mcc", "matthews_corrcoef")
        ],
    },
    "fair_shown": {**QUIZ, "fewshot_split": "train", "num_fewshot": 2, "metric_list": [_metric("acc")]},
    "fair_bare": {**QUIZ, "num_fewshot": 0, "metric_list": [_metric("acc"), _metric("brier_score", "brier_score")]},
    "fair_endings": {
        "output_type": "multiple_choice",
        "doc_to_text": "which",
        "doc_to_choice": "endings",
        "doc_to_target": "{{'all was quiet.'}}",
        "metric_list": [_metric("acc")],
    },
    "fair_last": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{text[:text.find(last)].rstrip()}}",
        "doc_to_target": "{{' ' + last}}",
        "metric_list": [_metric("perplexity", "perplexity"), _metric("acc")],
    },
    "fair_reading": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [
            {"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}
        ],
    },
    "fair_writing": {
        "output_type": "generate_until",
        "fewshot_split": "train",
        "doc_to_text": "In the {{place}} there are",
        "doc_to_target": "{{'e' if which else 't'}}",
        "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 12, "do_sample": False, "temperature": 0.0},
        "metric_list": [_metric("exact_match", ignore_case=True), _metric("bleu", "bleu")],
        "filter_list": [
            {
                "name": "first",
                "filter": [{"function": "regex", "regex_pattern": "([a-z])"}, {"function": "take_first"}],
            },
            {
                "name": "last",
                "filter": [
                    {"function": "regex", "regex_pattern": "([a-z])", "group_select": -1}, {"function": "take_first"}
                ],
            },
        ],
    },
}  # fmt: skip
GROUP = {
    "group": "fair_group",
    "task": ["fair_quiz", "fair_bare"],
    "aggregate_metric_list": [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}],
    "metadata": {"version": 1.0},
}


def write_tasks(folder: Path, count: int = 10) -> Path:
    """The tasks' YAML files and data in a folder; gives that of the YAML files."""
    tasks = folder / "tasks"
    tasks.mkdir(parents=True)
    files = {}
    for split, docs in (("train", _places(count, 6)), ("test", _places(0, count))):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
        files[split] = str(path)
    for name, settings in TASKS.items():
        about = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
        written = {**about, **settings, "metadata": {"version": 1.0}}
        (tasks / f"{name}.yaml").write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    (tasks / "group.yaml").write_text(yaml.safe_dump(GROUP), encoding="utf-8")
    return tasks


def names(tasks: Sequence[str] = tuple(TASKS)) -> str:
    return "lm-eval:" + ",".join(tasks)
