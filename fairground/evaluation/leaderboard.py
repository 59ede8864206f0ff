"""From outcomes to what `leaderboard.json` and `samples.jsonl` hold."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np

from fairground.evaluation import environment as machine
from fairground.evaluation import intervals, metrics
from fairground.evaluation.comparison import ALPHA, compare_pair, holm, smallest_detectable_difference
from fairground.evaluation.intervals import RESAMPLES
from fairground.evaluation.measure import Row
from fairground.evaluation.suite import MultipleChoice, OpenAnswers, OrderDiscrimination, Suite
from fairground.evaluation.tasks import CHOICES_ONLY
from fairground.types import ModelInfo

COMPARED = ("accuracy", "coherence", "relevance")
SHARES = {"accuracy", "accuracy_norm", "coherence", "repetition"}
"""Measures whose values lie from 0 to 1."""

Json = dict[str, Any]
Values = dict[str, tuple[float, str]]
"""By item: its value and its cluster."""


def build(
    rows: Sequence[Row],
    suite: Suite,
    *,
    limit: int | None,
    scorer: ModelInfo | None,
    started: float,
    environment: Mapping[str, Any] | None,
) -> Json:
    """The leaderboard of `rows`, best first by accuracy, then coherence; a model without either comes last."""
    columns = {row.label: _columns(row, suite) for row in rows}
    models = [_model(row, columns[row.label]) for row in rows]
    models.sort(key=lambda model: [-_value(model, "accuracy"), -_value(model, "coherence")])
    by_label = {row.label: row for row in rows}
    ranked = [by_label[model["model"]] for model in models]
    comparisons = _comparisons(ranked, columns)
    about = {"model": scorer.name, "precision": scorer.precision} if scorer else None
    settings = {
        "suite": suite.hash,
        "models": sorted([m["model"], m["family"], m["parameters"], m["precision"], m["shots"]] for m in models),
        "limit": limit,
        "scorer": about,
        "probe": [suite.probe.prompt_tokens, suite.probe.output_tokens, suite.probe.warmup, suite.probe.repeats],
    }
    run = {
        "id": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16],
        "suite": {
            "name": suite.name,
            "version": suite.version,
            "licence": suite.licence,
            "hash": suite.hash,
            "items": len({item.id for task in suite.tasks for item in task.items}),
            "tasks": {task.name: len(task.items) for task in suite.tasks},
        },
        "created": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 3),
        "limit": limit,
        "scorer": about,
        "environment": {**machine.describe(), **(environment or {})},
        "probe": {
            "prompt_tokens": suite.probe.prompt_tokens,
            "output_tokens": suite.probe.output_tokens,
            "warmup": suite.probe.warmup,
            "repeats": suite.probe.repeats,
            "concurrency": 1,
            "prompts": "each repeat begins at another sentence of one neutral text, so that no prefix cache answers",
        },
        "chance": _chance(suite),
        "baselines": _baselines(rows, suite),
        "smallest_detectable_difference": {"accuracy": _smallest_detectable(comparisons)},
        "methods": {
            "level": intervals.LEVEL,
            "resamples": RESAMPLES,
            "correction": f"Holm over {len(comparisons)} tests",
            "power": "80%, two-sided 5%, one test, at the median discordance of the pairs (Connor 1987)",
        },
    }
    return {"run": run, "models": models, "comparisons": comparisons}


def samples(rows: Sequence[Row]) -> list[Json]:
    """A record per model, task and item; where there is no outcome, why."""
    records: list[Json] = []
    for row in rows:
        for result in row.results.values():
            head = {"model": row.label, "task": result.task}
            for outcome in result.outcomes:
                records.append({**head, "id": outcome.id, "domain": outcome.domain, **outcome.record})
            records += [{**head, "id": id_, "error": reason} for id_, reason in result.failures]
    return records


def _model(row: Row, columns: Mapping[str, Values]) -> Json:
    info = row.info
    found: Json = {name: _interval(name, values) for name, values in columns.items() if values}
    if row.shared.times is not None:
        found["ttft_ms"] = intervals.student_t(row.shared.times.ttft_ms).as_json()
        found["tokens_per_s"] = intervals.student_t(row.shared.times.tokens_per_s).as_json()
    tasks: Json = {}
    for result in row.results.values():
        measures = dict.fromkeys(measure for outcome in result.outcomes for measure in outcome.measures)
        if measures:
            tasks[result.task] = {name: _interval(name, _values(row, [result.task], name)) for name in measures}
    model: Json = {
        "model": row.label,
        "family": info.family if info else None,
        "parameters": info.parameters if info else None,
        "precision": info.precision if info else None,
        "shots": row.shots,
        "memory_mb": round(info.memory_bytes / 1e6, 1) if info and info.memory_bytes is not None else None,
        "licence": info.licence if info else None,
        "metrics": found,
        "tasks": tasks,
        "notes": row.shared.notes + row.own.notes,
        "errors": row.own.errors + row.shared.errors,
    }
    if row.shared.times is not None:
        model["probe"] = {
            "prompt_tokens": list(row.shared.times.prompt_tokens),
            "output_tokens": list(row.shared.times.output_tokens),
            "ttft_ms": list(row.shared.times.ttft_ms),
            "tokens_per_s": list(row.shared.times.tokens_per_s),
        }
    if row.shared_with is not None:
        model["shared_with"] = row.shared_with
        model["shared"] = [*row.shared.results, *(["response_time"] if row.shared.times else [])]
    return model


def _columns(row: Row, suite: Suite) -> dict[str, Values]:
    """The values of each column's items; a passage's coherence is the mean over its difficulties."""
    choice = [task.name for task in suite.of(MultipleChoice) if task.metric]
    order = [task.name for task in suite.of(OrderDiscrimination) if task.metric]
    written = [task.name for task in suite.of(OpenAnswers) if task.metric]
    return {
        "accuracy": _values(row, choice, "accuracy"),
        "accuracy_norm": _values(row, choice, "accuracy_norm"),
        "coherence": _values(row, order, "coherence"),
        "relevance": _values(row, written, "relevance"),
        "repetition": _values(row, written, "repetition"),
    }


def _values(row: Row, tasks: Sequence[str], measure: str) -> Values:
    """By item the measure's mean over the tasks that have this item; an item that failed in one of them is left out."""
    found: dict[str, list[float]] = {}
    clusters: dict[str, str] = {}
    failed: set[str] = set()
    for task in tasks:
        if (result := row.results.get(task)) is None:
            continue
        failed |= {id_ for id_, _ in result.failures}
        for outcome in result.outcomes:
            if measure in outcome.measures:
                found.setdefault(outcome.id, []).append(outcome.measures[measure])
                clusters[outcome.id] = outcome.cluster
    return {id_: (statistics.fmean(values), clusters[id_]) for id_, values in found.items() if id_ not in failed}


def _interval(name: str, values: Values) -> Json:
    numbers = [value for value, _ in values.values()]
    clusters = [cluster for _, cluster in values.values()]
    if name in SHARES:
        return intervals.share(numbers, clusters).as_json()
    if len(set(clusters)) < 2:
        return {"value": statistics.fmean(numbers), "low": None, "high": None, "n": len(numbers), "method": "none"}
    return intervals.cluster_bootstrap(numbers, clusters).as_json()


def _value(model: Json, metric: str) -> float:
    entry = model["metrics"].get(metric)
    return float(entry["value"]) if entry else -1.0


def _chance(suite: Suite) -> Json:
    """What guessing gets."""
    counted = [item for task in suite.of(MultipleChoice) if task.metric for item in task.items]
    chance: Json = {"coherence": 0.5} if suite.of(OrderDiscrimination) else {}
    if counted:
        chance["accuracy"] = statistics.fmean(1 / len(item.choices) for item in counted)
    return chance


def _baselines(rows: Sequence[Row], suite: Suite) -> Json:
    """What the choices alone give away: to a rule, and to each model that does not see the question."""
    counted = [item for task in suite.of(MultipleChoice) if task.metric for item in task.items]
    if not counted:
        return {}
    longest = [metrics.longest_choice(item.choices, item.gold) for item in counted]
    bare = {
        row.label: _interval("accuracy", values)
        for row in rows
        if row.shared_with is None and (values := _values(row, [CHOICES_ONLY], "accuracy"))
    }
    by_rule = intervals.share(longest, [item.cluster for item in counted]).as_json()
    return {"longest_choice": by_rule, "choices_only": bare}


def _comparisons(rows: Sequence[Row], columns: Mapping[str, Mapping[str, Values]]) -> list[Json]:
    """Every pair that was measured on the same items; what two rows share is one measurement, and no comparison."""
    wanted = [
        (a, b, metric, ids)
        for metric in COMPARED
        for a, b in combinations(rows, 2)
        if metric == "accuracy" or a.shared is not b.shared
        if len(ids := sorted(columns[a.label][metric].keys() & columns[b.label][metric].keys())) > 1
    ]
    # Holm multiplies the smallest p by the number of tests, so the bootstrap must be able to show a p that survives it.
    resamples = max(RESAMPLES, 400 * len(wanted))
    found: list[Json] = []
    for a, b, metric, ids in wanted:
        values = [np.array([columns[row.label][metric][id_][0] for id_ in ids]) for row in (a, b)]
        clusters = [columns[a.label][metric][id_][1] for id_ in ids]
        if len(set(clusters)) < 2:
            continue
        test = compare_pair(values[0], values[1], clusters, resamples=resamples)
        entry: Json = {
            "a": a.label,
            "b": b.label,
            "metric": metric,
            "difference": test.difference,
            "low": test.low,
            "high": test.high,
            "p_raw": test.p,
            "n": test.n,
            "method": test.method,
        }
        if metric == "accuracy":
            entry["discordance"] = float(np.mean(values[0] != values[1]))
            entry["detectable"] = smallest_detectable_difference(entry["discordance"], test.n)
        found.append(entry)
    for entry, p in zip(found, holm([entry["p_raw"] for entry in found]), strict=True):
        entry["p"] = p
        entry["significant"] = p < ALPHA
    return found


def _smallest_detectable(comparisons: Sequence[Json]) -> float | None:
    """At the median discordance of the pairs; None where nothing was compared."""
    pairs = [entry for entry in comparisons if entry["metric"] == "accuracy"]
    if not pairs:
        return None
    return smallest_detectable_difference(
        statistics.median(entry["discordance"] for entry in pairs),
        int(statistics.median(entry["n"] for entry in pairs)),
    )
