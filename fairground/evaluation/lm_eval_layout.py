"""A run as lm-evaluation-harness lays out its own: `lm-eval/MODEL/results_DATE.json` and `samples_TASK_DATE.jsonl`.

Whatever reads the harness's results reads ours: the keys are those that its EvaluationTracker writes (0.4.13), for its
own tasks and for any suite. What Fairground does not know of a run (batch sizes, torch's version) is null.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fairground.evaluation.aggregate import SOURCES
from fairground.evaluation.runner import Run
from fairground.evaluation.suite import Suite
from fairground.evaluation.tasks import BitsPerByte, ChoiceInContext, MultipleChoice, ScoredTask, Task, WrittenTask
from fairground.evaluation.tasks.harness import FEWSHOT_SEED, RENAMED, SEEDS, HarnessTask
from fairground.types import Request

Json = dict[str, Any]

FOLDER = "lm-eval"
NAMES = {"accuracy": "acc", "accuracy_norm": "acc_norm", "last_word": "acc"}
"""Our measures that the harness calls otherwise."""
HIGHER = {source.measure: source.higher for source in SOURCES.values()}


def lm_eval_files(run: Run, suite: Suite) -> dict[str, str]:
    """The files' texts by their paths in the run's folder. `suite` is what was run, with or without its limit."""
    created = datetime.fromisoformat(run.leaderboard["run"]["created"])
    # As the harness spells a date: no zone, and hyphens, so that it can stand in a file's name.
    date = created.replace(tzinfo=None).isoformat(timespec="microseconds").replace(":", "-")
    files: dict[str, str] = {}
    folders: set[str] = set()
    samples, scores = _by_task(run.samples), _by_task(run.scores)
    for model in run.leaderboard["models"]:
        folder = _folder(model["model"], folders)
        keys = {task.name: (model["model"], task.name) for task in suite.tasks}
        measured = [
            _TaskRun.of(model, task, samples[keys[task.name]], scores.get(keys[task.name], []))
            for task in suite.tasks
            if keys[task.name] in samples
        ]
        results = _results(run, suite, model, measured, created.timestamp(), folder)
        files[f"{FOLDER}/{folder}/results_{date}.json"] = _dumped(results, indent=2) + "\n"
        for one in measured:
            name = re.sub(r"\W", "_", one.task.name)
            files[f"{FOLDER}/{folder}/samples_{name}_{date}.jsonl"] = "".join(
                _dumped(sample) + "\n" for sample in one.samples
            )
    return files


def _by_task(lines: Sequence[Json]) -> dict[tuple[str, str], list[Json]]:
    """The lines of every model and task; not those of items that could not be measured."""
    found: dict[tuple[str, str], list[Json]] = {}
    for line in lines:
        if "error" not in line:
            found.setdefault((line["model"], line["task"]), []).append(line)
    return found


def _folder(label: str, taken: set[str]) -> str:
    """The model's name as the harness makes a folder's of it; one that is taken already gets a number."""
    name = plain = re.sub(r'["<>:/|\\?*\[\]]+', "__", label).replace("..", "__")
    number = 1
    while name.casefold() in taken:
        number += 1
        name = f"{plain}_{number}"
    taken.add(name.casefold())
    return name


@dataclasses.dataclass(frozen=True)
class _TaskRun:
    """What one model did on one task: the harness's metrics of the whole, and its line for every item and filter."""

    task: Task[Any]
    shots: int
    metrics: Json
    samples: list[Json]

    @classmethod
    def of(cls, model: Json, task: Task[Any], mine: Sequence[Json], own: Sequence[Json]) -> _TaskRun:
        """From the model's samples and scores of this task."""
        scores = {score["id"]: score for score in own}
        metrics: Json = {}
        for name, found in model["tasks"].get(task.name, {}).items():
            metric, filter_ = _metric(task, name)
            if "harness" in mine[0] and metric not in mine[0]["harness"]["filters"][filter_]["metrics"]:
                continue  # bits and bytes, of which our column is made
            values = [score[name] for score in scores.values() if name in score]
            metrics[f"{metric},{filter_}"] = found["value"]
            error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else "N/A"
            metrics[f"{metric}_stderr,{filter_}"] = error
        if isinstance(task, HarnessTask):
            shots = task.documents.shown(model["shots"])
            lines = [_harness_sample(sample, filter_) for filter_ in task.documents.filters for sample in mine]
        else:
            shots = model["shots"] if task.max_shots is not None else 0
            items = {item.id: item for item in task.items}
            lines = [
                _sample(task, items[sample["id"]], number, sample, scores[sample["id"]], shots)
                for number, sample in enumerate(mine)
            ]
        about = {"name": task.name, "alias": task.name, "sample_len": len(mine)}
        return cls(task, shots, {**about, **metrics}, lines)


def _metric(task: Task[Any], measure: str) -> tuple[str, str]:
    """The harness's names of a measure and of the filter before it."""
    if not isinstance(task, HarnessTask):
        return NAMES.get(measure, measure), "none"
    name, _, filter_ = measure.partition(",")
    theirs = {ours: theirs for theirs, ours in RENAMED.get(task.documents.output_type, {}).items()}
    return theirs.get(name, name), filter_ or task.documents.filters[0]


def _harness_sample(sample: Mapping[str, Any], filter_: str) -> Json:
    """The harness's own line, from what was kept of its judgement."""
    kept = sample["harness"]
    judged = kept["filters"][filter_]
    if "answer" in sample:
        arguments = [[sample["asked"], settings] for _, settings in sample["arguments"]]
        responses: list[Any] = [[sample["answer"]]]
    else:
        arguments = sample.get("arguments") or [[sample["asked"], choice] for choice in sample["choices"]]
        both = zip(sample["scores"], sample["greedy"], strict=True)
        responses = [[logprob] if len(arguments[0]) == 1 else [[logprob, greedy]] for logprob, greedy in both]
    return {
        "doc_id": kept["doc_id"],
        "doc": kept["doc"],
        "target": _string(kept["target"]),
        "arguments": _arguments(arguments),
        "resps": _strings(responses),
        "filtered_resps": _strings(judged["filtered_resps"]),
        "filter": filter_,
        "metrics": list(judged["metrics"]),
        "doc_hash": kept["doc_hash"],
        "prompt_hash": kept["prompt_hash"],
        "target_hash": kept["target_hash"],
        **judged["metrics"],
    }


def _sample(
    task: Task[Any], item: Any, number: int, sample: Mapping[str, Any], score: Mapping[str, Any], shots: int
) -> Json:
    """A line of a task of ours: its item is the document, and what it asks are the arguments."""
    responses: list[Any] = []
    if isinstance(task, WrittenTask):
        request = task.ask(item, shots, sample.get("asked_as") == "chat")
        arguments: list[Sequence[Any]] = [_written(request)]
        responses = [[sample["answer"]]] if "answer" in sample else []
    else:
        assert isinstance(task, ScoredTask)
        asked = task.ask(item, shots)
        arguments = [(request.context, request.continuation) for request in asked]
        if len(sample.get("scores", ())) == len(asked):
            # Whether each was the likeliest reading, the second of the harness's pair, is not in the record.
            responses = [[[logprob, None]] for logprob in sample["scores"]]
    doc, target = dataclasses.asdict(item), _string(sample.get("gold", ""))
    measures = {
        NAMES.get(name, name): value
        for name, value in score.items()
        if name not in ("model", "task", "id", "domain", "cluster")
    }
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": _arguments(arguments),
        "resps": _strings(responses),
        "filtered_resps": _strings([response[0] for response in responses]),
        "filter": "none",
        "metrics": list(measures),
        "doc_hash": _hash(_dumped(doc, indent=2)),
        "prompt_hash": _hash(str(arguments[0][0])),
        "target_hash": _hash(target),
        **measures,
    }


def _written(request: Request) -> tuple[str, Json]:
    prompt = request.prompt
    if not isinstance(prompt, str):
        prompt = "\n".join(getattr(part, "content", str(part)) for part in prompt)
    sampling = request.sampling
    settings = {"until": list(sampling.stop), "max_gen_toks": sampling.max_tokens, "temperature": sampling.temperature}
    return prompt, {**settings, "do_sample": sampling.temperature > 0}


def _arguments(arguments: Sequence[Sequence[Any]]) -> Json:
    return {
        f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(one)} for i, one in enumerate(arguments)
    }  # fmt: skip


def _results(run: Run, suite: Suite, model: Json, measured: Sequence[_TaskRun], date: float, folder: str) -> Json:
    about, ours = run.leaderboard["run"], model["model"]
    by_name = {one.task.name: one for one in measured}
    harness = any(isinstance(task, HarnessTask) for task in suite.tasks)
    results = {name: one.metrics for name, one in by_name.items()}
    versions = {name: _version(one.task, suite) for name, one in by_name.items()}
    shots = {name: one.shots for name, one in by_name.items()}
    higher = {name: _higher(one) for name, one in by_name.items()}
    groups = _groups(measured)
    for group in groups:
        results[group.name], versions[group.name] = group.aggregate(results), group.version
        if len(alike := {shots[name] for name in group.child_names if name in shots}) == 1:
            shots[group.name] = alike.pop()
        higher[group.name] = _alike([higher[name] for name in group.child_names if name in higher])
    whole = {group.name: results[group.name] for group in groups if group.has_aggregation}
    return {
        "results": results,
        **({"groups": whole} if whole else {}),
        "group_subtasks": {group.name: group.child_names for group in groups},
        "configs": {name: _config(one, suite) for name, one in sorted(by_name.items())},
        "versions": dict(sorted(versions.items())),
        "n-shot": dict(sorted(shots.items())),
        "higher_is_better": dict(sorted(higher.items())),
        "n-samples": {
            name: {"original": len(one.task.items), "effective": one.metrics["sample_len"]}
            for name, one in by_name.items()
        },
        "config": {
            "model": "fairground",
            "model_args": f"pretrained={ours},dtype={model['precision']}",
            "model_num_parameters": model["parameters"],
            "model_dtype": model["precision"],
            "model_revision": None,
            "model_sha": None,
            "batch_size": None,
            "batch_sizes": [],
            "device": None,
            "use_cache": None,
            "limit": about["limit"],
            "bootstrap_iters": 0,
            "gen_kwargs": None,
            "random_seed": SEEDS[0] if harness else None,
            "numpy_seed": SEEDS[1] if harness else None,
            "torch_seed": None,
            "fewshot_seed": FEWSHOT_SEED if harness else None,
        },
        "git_hash": None,
        "date": date,
        "pretty_env_info": "\n".join(f"{key}: {value}" for key, value in about["environment"].items()),
        "transformers_version": None,
        "lm_eval_version": suite.version if harness else None,
        "upper_git_hash": None,
        "task_hashes": {
            name: _hash("".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in one.samples))
            for name, one in by_name.items()
        },
        "model_source": "fairground",
        "model_name": ours,
        "model_name_sanitized": folder,
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": False,
        "chat_template": None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": str(about["seconds"]),
    }


def _groups(measured: Sequence[_TaskRun]) -> list[Any]:
    """The harness's groups all of whose tasks were measured, each after those that are parts of it."""
    known: dict[str, Any] = {}
    for one in measured:
        if isinstance(one.task, HarnessTask):
            known |= {group.name: group for group in one.task.documents.groups}
    names = {one.task.name for one in measured}
    whole = [group for group in known.values() if all(task.task_name in names for task in group.get_all_tasks())]
    return sorted(whole, key=lambda group: len(group.get_all_groups()))


def _alike(parts: Sequence[Json]) -> Json:
    """By metric, what all parts say of it; None where they differ."""
    found: Json = {}
    for part in parts:
        for metric, value in part.items():
            found[metric] = value if found.get(metric, value) == value else None
    return found


def _config(one: _TaskRun, suite: Suite) -> Json:
    if isinstance(one.task, HarnessTask):
        return {**one.task.documents.task.dump_config(), "num_fewshot": one.shots}
    kind: str
    if isinstance(one.task, WrittenTask):
        kind = "generate_until"
    elif isinstance(one.task, MultipleChoice | ChoiceInContext):
        kind = "multiple_choice"
    else:
        kind = "loglikelihood_rolling" if isinstance(one.task, BitsPerByte) else "loglikelihood"
    return {
        "task": one.task.name,
        "dataset_name": suite.name,
        "output_type": kind,
        "num_fewshot": one.shots,
        "metadata": {"version": suite.version, "kind": one.task.kind, "hash": suite.hash, "licence": suite.licence},
    }


def _version(task: Task[Any], suite: Suite) -> Any:
    return task.documents.task.VERSION if isinstance(task, HarnessTask) else suite.version


def _higher(one: _TaskRun) -> Json:
    if isinstance(one.task, HarnessTask):
        return dict(one.task.documents.task.higher_is_better())
    metrics = {name for sample in one.samples for name in sample["metrics"]}
    back = {theirs: ours for ours, theirs in NAMES.items()}
    return {name: HIGHER.get(back.get(name, name), True) for name in sorted(metrics)}


def _strings(value: Any) -> Any:
    """Numbers in nested lists as text, as the harness writes them, so that a column has one type."""
    return [_strings(one) for one in value] if isinstance(value, list | tuple) else str(value)


def _string(value: Any) -> str:
    return str(value)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="backslashreplace")).hexdigest()


def _dumped(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, default=str, ensure_ascii=False)
