"""lm-evaluation-harness through HTTP finds the accuracy that `fairground score` finds."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hellaswag
import lm_eval
import pytest
import yaml
from command import Command
from lm_eval.tasks import TaskManager


@pytest.mark.parametrize(
    ("model", "count"), [("stories15m", 30), pytest.param("smollm2", 100, marks=pytest.mark.verify)]
)
def test_hellaswag(
    request: pytest.FixtureRequest,
    start: Callable[..., Any],
    command: Command,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    count: int,
) -> None:
    """A task of the harness's own, read from a file; its `local-completions`, with the server's tokenizer."""
    path = request.getfixturevalue(model)
    items = hellaswag.read(shared, count)
    here = tmp_path / "task"
    here.mkdir()
    (here / "items.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n", encoding="utf-8")
    task = {
        "task": "hellaswag_here",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(here / "items.jsonl")}},
        "validation_split": "validation",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    (here / "hellaswag_here.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    _, url = start(path)
    name = json.loads(urllib.request.urlopen(f"{url}/v1/models", timeout=30).read())["data"][0]["id"]
    found = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={"base_url": f"{url}/v1/completions", "model": name, "tokenizer_backend": "remote"},
        tasks=["hellaswag_here"],
        task_manager=TaskManager(include_path=str(here), include_defaults=False),
        bootstrap_iters=0,
    )["results"]["hellaswag_here"]
    pairs = [asdict(request) for request in hellaswag.requests(items)]
    (here / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n", encoding="utf-8")
    scored = [json.loads(line) for line in command("score", str(path), str(here / "pairs.jsonl")).out.splitlines()]
    ours = hellaswag.accuracies([score["logprob"] for score in scored], items)
    assert (found["acc,none"], found["acc_norm,none"]) == pytest.approx(ours)
