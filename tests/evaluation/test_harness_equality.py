"""Our accuracies on real sets are lm-evaluation-harness's, of its `hf` model in float32, item by item."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairground.engine.local import open_model
from fairground.evaluation import Entrant, load_suite, rank
from fairground.evaluation.suite import DATA

SETS = {
    "hellaswag": ("hellaswag_val.jsonl", {"doc_to_text": "{{context}}"}),
    "arc_easy": ("arc_easy.jsonl", {"doc_to_text": "{{query}}\nAnswer:"}),
    "piqa": ("piqa.jsonl", {"doc_to_text": "{{query}}\nAnswer:"}),
    "boolq": ("boolq.jsonl", {"doc_to_text": "{{query}}\nAnswer:"}),
    "winogrande": (
        "winogrande.jsonl",
        {
            "doc_to_text": "{{gold}}",
            "doc_to_choice": "{{context_options}}",
            "doc_to_target": "{{continuation}}",
            "metric_list": [{"metric": "acc"}],
        },
    ),
    "lambada": (
        "lambada_openai.jsonl",
        {
            "output_type": "loglikelihood",
            "doc_to_text": "{{context}}",
            "doc_to_target": "{{' ' + continuation}}",
            "metric_list": [{"metric": "acc"}],
        },
    ),
}
CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}


def prepare(shared: Path, folder: Path, count: int) -> list[str]:
    """The first items of every set in `folder`, as our suites read them and as tasks of the harness.

    Gives the subjects of MMLU, of which each has a sixth of the items.
    """
    source, tasks = shared / "data" / "benchmarks", folder / "tasks"
    tasks.mkdir()

    def task(name: str, items: Path, **more: Any) -> None:
        files = {"validation": str(items)}
        if "shots" in more:
            files["dev"] = str(more.pop("shots"))
        about = {"task": f"{name}_here", "dataset_path": "json", "dataset_kwargs": {"data_files": files}}
        settings = {**about, "validation_split": "validation", **CHOICE, **more}
        if settings["output_type"] == "loglikelihood":
            del settings["doc_to_choice"]
        (tasks / f"{name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    for name, (file, settings) in SETS.items():
        lines = (source / file).read_text(encoding="utf-8").splitlines()[:count]
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
        task(name, folder / file, **settings)
    for part in ("dev", "test"):
        (folder / "mmlu" / part).mkdir(parents=True)
    subjects = []
    for path in sorted((source / "mmlu" / "test").glob("*.csv")):
        subject = path.name.removesuffix("_test.csv")
        subjects.append(subject)
        made = {}
        for part, most in (("dev", 5), ("test", count // 6)):
            with (source / "mmlu" / part / f"{subject}_{part}.csv").open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[: most + 1]
            with (folder / "mmlu" / part / f"{subject}_{part}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
            made[part] = tasks / f"{subject}_{part}.jsonl"
            lines = [json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:]]
            made[part].write_text("\n".join(lines) + "\n", encoding="utf-8")
        task(
            subject,
            made["test"],
            shots=made["dev"],
            fewshot_split="dev",
            num_fewshot=5,
            fewshot_config={"sampler": "first_n"},
            description=f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}."
            "\n\n",
            doc_to_text="{{question.strip()}}\nA. {{choice0}}\nB. {{choice1}}\nC. {{choice2}}\nD. {{choice3}}\nAnswer:",
            doc_to_choice=["A", "B", "C", "D"],
            doc_to_target="{{answer}}",
        )
    return subjects


def theirs(path: Path, folder: Path, names: list[str]) -> dict[str, dict[str, float]]:
    folder_of, more = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
    plain = AutoModelForCausalLM.from_pretrained(folder_of, dtype=torch.float32, **more).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder_of, **more)
    model = HFLM(pretrained=plain, tokenizer=tokenizer, batch_size=8, device="cpu")
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[f"{name}_here" for name in names],
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
        bootstrap_iters=0,
    )["results"]
    return {
        name: {metric: found[f"{name}_here"][f"{metric},none"] for metric in ("acc", "acc_norm")
               if f"{metric},none" in found[f"{name}_here"]} for name in names
    }  # fmt: skip


def ours(path: Path, suites: list[str]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name in suites:
        suite = load_suite(name)
        entrant = Entrant("model", lambda: open_model(path, precision="float32"), shots=5 if name == "mmlu" else 0)
        (model,) = rank([entrant], suite).leaderboard["models"]
        for task, measures in model["tasks"].items():
            plain = measures.get("accuracy") or measures.get("last_word")
            found[task] = {"acc": plain["value"]}
            if "accuracy_norm" in measures:
                found[task]["acc_norm"] = measures["accuracy_norm"]["value"]
    return found


@pytest.mark.verify
@pytest.mark.parametrize(("model", "count"), [("stories15m", 300), ("smollm2", 60)])
def test_accuracies_are_the_harness(
    request: pytest.FixtureRequest,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    count: int,
) -> None:
    path = request.getfixturevalue(model)
    exams = prepare(shared, tmp_path, count)
    monkeypatch.setenv(DATA, str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    expected = theirs(path, tmp_path, [*SETS, *exams])
    found = ours(path, [*SETS, "mmlu"])
    print(json.dumps({"ours": found, "theirs": expected}))
    for name, metrics in expected.items():
        for metric, value in metrics.items():
            assert found[name][metric] == pytest.approx(value, abs=1e-9), (name, metric)
