"""What lm-evaluation-harness says of a model on the first items of real sets: its `hf` model, in float32, item by item.

    .venv/bin/python benchmarks/harness_reference.py MODEL COUNT SHARED OUT.json

runs it once and keeps what came, since for SmolLM2 on 300 items of each set it takes half an hour. MODEL is a folder or
a GGUF file, SHARED the folder of real data. What came for SmolLM2 is `results/harness_smollm2.json`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

Right = dict[str, dict[str, str]]
"""By set and metric, a digit for each item: 1 where the model was right."""

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


def harness(path: Path, folder: Path, names: list[str]) -> Right:
    """What the harness says of the sets that `prepare` wrote into `folder`."""
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder_of, more = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
    plain = AutoModelForCausalLM.from_pretrained(folder_of, dtype=torch.float32, **more).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder_of, **more)
    samples = lm_eval.simple_evaluate(
        model=HFLM(pretrained=plain, tokenizer=tokenizer, batch_size=8, device="cpu"),
        tasks=[f"{name}_here" for name in names],
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )["samples"]
    found: Right = {}
    for name in names:
        rows = sorted(samples[f"{name}_here"], key=lambda row: row["doc_id"])
        found[name] = {m: "".join(str(int(row[m])) for row in rows) for m in ("acc", "acc_norm") if m in rows[0]}
    return found


def weights_hash(path: Path) -> str:
    """Of the file, or of a folder's weights: what the results hold for."""
    (file,) = [path] if path.is_file() else path.glob("*.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    path, count, shared, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    with tempfile.TemporaryDirectory() as name:
        names = [*SETS, *prepare(shared, Path(name), count)]
        right = harness(path, Path(name), names)
    about = {"model": path.name, "sha256": weights_hash(path), "count": count, "precision": "float32"}
    about["versions"] = {package: version(package) for package in ("lm-eval", "transformers", "torch")}
    out.write_text(json.dumps({"about": about, "right": right}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
