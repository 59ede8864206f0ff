"""From outcomes to what `leaderboard.json` and `samples.jsonl` hold."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from fairground.evaluation import aggregate, groups, intervals, metrics, pareto, response_times, weighted
from fairground.evaluation import environment as machine
from fairground.evaluation.aggregate import SOURCES, Json
from fairground.evaluation.comparison import Values, compare_all, smallest_detectable_difference
from fairground.evaluation.intervals import RESAMPLES
from fairground.evaluation.measure import Row
from fairground.evaluation.suite import Suite
from fairground.evaluation.tasks import (
    CHOICES_ONLY,
    BiasQuestions,
    ChoiceInContext,
    MultipleChoice,
    OrderDiscrimination,
    Translation,
)
from fairground.evaluation.tasks.fairness import bias_scores
from fairground.evaluation.tasks.generation import corpus_scores
from fairground.evaluation.tasks.harness import HarnessScored, HarnessTask
from fairground.types import ModelInfo


def build(
    rows: Sequence[Row],
    suite: Suite,
    *,
    id_: str,
    limit: int | None,
    scorer: ModelInfo | None,
    started: float,
    environment: Mapping[str, Any] | None,
    weights: Mapping[str, float] | None = None,
) -> Json:
    """The leaderboard of `rows`, best first by accuracy, coherence and bits per byte; a model without any comes last.

    `weights`: of which columns, and how, each model gets a weighted total.
    """
    columns = {row.label: aggregate.column_values(row, suite) for row in rows}
    models = [_model(row, suite, columns[row.label], weights or {}) for row in rows]
    models.sort(key=_place)
    by_label = {row.label: row for row in rows}
    ranked = [by_label[model["model"]] for model in models]
    comparisons = _comparisons(ranked, columns)
    few_shot = suite.selection if any(row.shots for row in rows) else None
    about = {"model": scorer.name, "precision": scorer.precision} if scorer else None
    run = {
        "id": id_,
        "suite": {
            "name": suite.name,
            "version": suite.version,
            "licence": suite.licence,
            "hash": suite.hash,
            "items": len({item.id for task in suite.tasks for item in task.items}),
            "tasks": {task.name: len(task.items) for task in suite.tasks},
            "counts_in": {task.name: task.metric for task in suite.tasks if task.metric},
        },
        "created": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 3),
        "limit": limit,
        "few_shot": few_shot.as_json() if few_shot else None,
        "weights": dict(weights) if weights else None,
        "scorer": about,
        "environment": {**machine.describe(), **(environment or {})},
        "probe": {
            "prompt_tokens": suite.probe.prompt_tokens,
            "output_tokens": suite.probe.output_tokens,
            "warmup": suite.probe.warmup,
            "repeats": suite.probe.repeats,
            "concurrency": 1,
            "concurrencies": list(suite.probe.concurrencies),
            "waves": suite.probe.waves,
            "goodput_ms": suite.probe.goodput.limits() if suite.probe.goodput else None,
            "prompts": "each begins with another sentence or number of one neutral text, so that no prefix cache "
            "answers",
        },
        "chance": _chance(suite),
        "baselines": _baselines(rows, suite),
        "smallest_detectable_difference": {"accuracy": _smallest_detectable(comparisons)},
        "methods": {
            "level": intervals.LEVEL,
            "resamples": RESAMPLES,
            "correction": f"Holm over {len(comparisons)} tests",
            "power": "80%, two-sided 5%, one test, at the median discordance of the pairs (Connor 1987)",
            **({"examples in the prompt": few_shot.sentence()} if few_shot else {}),
        },
    }
    return {"run": run, "models": models, "comparisons": comparisons, "pareto": pareto.fronts(models)}


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


def scores(rows: Sequence[Row]) -> list[Json]:
    """What `scores.jsonl` holds: the measures of every model, task and item, and nothing that a clock tells."""
    return [
        {
            "model": row.label,
            "task": result.task,
            "id": outcome.id,
            "domain": outcome.domain,
            "cluster": outcome.cluster,
            **outcome.measures,
        }
        for row in rows
        for result in row.results.values()
        for outcome in result.outcomes
    ]


def times(rows: Sequence[Row]) -> list[Json]:
    """What `times.jsonl` holds: what a clock told of every request of the response-time probe."""
    return [
        {"model": row.label, **record}
        for row in rows
        if row.shared_with is None
        for record in response_times.records(row.shared.times)
    ]


def _model(row: Row, suite: Suite, columns: Mapping[str, Values], weights: Mapping[str, float]) -> Json:
    info = row.info
    found = aggregate.columns(row, suite, columns)
    missing = [name for name in weights if not columns[name]]
    if weights and (total := weighted.weighted_total(columns, weights)) is not None:
        found[weighted.METRIC] = total
    found |= response_times.metrics(row.shared.times)
    kinds = {task.name: task for task in suite.tasks}
    tasks: Json = {}
    errors = row.own.errors + row.shared.errors
    for result in row.results.values():
        measures = dict.fromkeys(measure for outcome in result.outcomes for measure in outcome.measures)
        tasks[result.task] = {name: _measure(row, result.task, name) for name in measures}
        corpus: Json = {}
        kind = kinds.get(result.task)
        if isinstance(kind, Translation):
            corpus = corpus_scores(result.outcomes)
        elif isinstance(kind, BiasQuestions):
            corpus = bias_scores(result.outcomes)
        elif isinstance(kind, HarnessTask):
            corpus, failures = kind.documents.whole_task(result.outcomes)
            errors += failures
        for name, value in corpus.items():
            whole = {"value": value, "low": None, "high": None, "n": len(result.outcomes), "method": "whole task"}
            tasks[result.task][name] = whole
        if not tasks[result.task]:
            del tasks[result.task]
    model: Json = {
        "model": row.label,
        "name": row.name,
        "family": info.family if info else None,
        "parameters": info.parameters if info else None,
        "precision": info.precision if info else None,
        "shots": row.shots,
        "memory_mb": round(info.memory_bytes / 1e6, 1) if info and info.memory_bytes is not None else None,
        "licence": info.licence if info else None,
        "metrics": found,
        "tasks": tasks,
        "calibration": aggregate.reliability(row, suite),
        "fairness": groups.fairness(row, suite),
        "notes": row.shared.notes + row.own.notes + ([weighted.without_total(missing)] if missing else []),
        "errors": errors,
    }
    if row.shared.times:
        target = suite.probe.goodput
        model["response_time"] = {str(at): own.as_json(target) for at, own in row.shared.times.items()}
    if row.shared_with is not None:
        model["shared_with"] = row.shared_with
        model["shared"] = [*row.shared.results, *(["response_time"] if row.shared.times else [])]
    return model


def _measure(row: Row, task: str, measure: str) -> Json:
    own = aggregate.values(row, [task], measure)
    if measure == "judged":
        return aggregate.grades(own)
    source = SOURCES.get(measure)
    share = all(0 <= value <= 1 for value, _ in own.values()) if source is None else source.share
    return aggregate.interval(own, share)


def _place(model: Json) -> tuple[float, float, float]:
    """Less is better."""

    def value(metric: str, missing: float) -> float:
        entry = model["metrics"].get(metric)
        return float(entry["value"]) if entry else missing

    return -value("accuracy", -1.0), -value("coherence", -1.0), value("bits_per_byte", math.inf)


def _chance(suite: Suite) -> Json:
    """What guessing gets."""
    counted = [item for task in suite.of(MultipleChoice) if task.metric == "accuracy" for item in task.items]
    chances = [1 / len(item.choices) for item in counted]
    chances += [1 / len(item.contexts) for task in suite.of(ChoiceInContext) if task.metric for item in task.items]
    for task in suite.of(HarnessScored):
        if task.metric == "accuracy":
            guessed = [task.documents.chance(item.doc) for item in task.items]
            chances += [one for one in guessed if one is not None]
    chance: Json = {"coherence": 0.5} if suite.of(OrderDiscrimination) else {}
    if chances:
        chance["accuracy"] = statistics.fmean(chances)
    return chance


def _baselines(rows: Sequence[Row], suite: Suite) -> Json:
    """What the choices alone give away: to a rule, and to each model that does not see the question."""
    counted = [item for task in suite.of(MultipleChoice) if task.metric == "accuracy" for item in task.items]
    if not counted:
        return {}
    longest = [metrics.longest_choice(item.choices, item.gold) for item in counted]
    bare = {
        row.label: aggregate.interval(own, share=True)
        for row in rows
        if row.shared_with is None and (own := aggregate.values(row, [CHOICES_ONLY], "accuracy"))
    }
    by_rule = intervals.share(longest, [item.cluster for item in counted]).as_json()
    return {"longest_choice": by_rule, "choices_only": bare}


def _comparisons(rows: Sequence[Row], columns: Mapping[str, Mapping[str, Values]]) -> list[Json]:
    """Every pair that was measured on the same items; what two rows share is one measurement, and no comparison."""
    found = compare_all(
        [
            ({"a": a.label, "b": b.label, "metric": metric}, columns[a.label][metric], columns[b.label][metric])
            for metric, source in SOURCES.items()
            if source.compared
            for a, b in combinations(rows, 2)
            if metric in ("accuracy", "exact_match") or a.shared is not b.shared
        ]
    )
    for entry in found:
        discordance = entry.pop("discordance")
        if entry["metric"] == "accuracy":
            entry["discordance"] = discordance
            entry["detectable"] = smallest_detectable_difference(discordance, entry["n"])
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
