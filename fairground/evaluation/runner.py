"""Ranking: every model on every task of a suite, one model open at a time."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fairground.errors import CapabilityError, FairgroundError, RequestError
from fairground.evaluation import energy, leaderboard, probe, relevance, response_times
from fairground.evaluation.exposure import CanaryExposure
from fairground.evaluation.journal import Journal, NoJournal
from fairground.evaluation.judges import Judging, judge_rows
from fairground.evaluation.measure import Bench, Measured, Row, TaskResult
from fairground.evaluation.progress import Meter, Progress
from fairground.evaluation.suite import Suite
from fairground.evaluation.tasks import (
    ChoicesOnly,
    Item,
    MultipleChoice,
    OpenAnswers,
    ScoredTask,
    Task,
    WrittenTask,
)
from fairground.types import Generator, ModelInfo

TaskT = TypeVar("TaskT", bound=Task[Any])


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model to rank: its name, how it is opened, and how many solved examples it is shown.

    `label` is what the leaderboard calls it; without one, that is its name, followed by "(5-shot)" where the same model
    is also ranked with another number of shots. `identity` names what the model is made of (its files' hash, its
    precision), so that a run that goes on knows it again; without one, its name does. `device` is where it computes
    ("cpu", "cuda"), so that the right energy is counted; None: on another machine. `known_as` holds the names that the
    same model has whatever its precision, so that no judge takes its own answers for another's. `canaries` were put
    into its text, to see what it keeps by heart.
    """

    name: str
    open: Callable[[], Generator]
    shots: int = 0
    label: str | None = None
    identity: str = ""
    device: str | None = "cpu"
    known_as: frozenset[str] = frozenset()
    canaries: CanaryExposure | None = None

    def same_model(self, other: Entrant) -> bool:
        """Whether the two are one model, perhaps at another precision or with other examples."""
        return self.name == other.name or bool(self.known_as & other.known_as)


@dataclass(frozen=True, slots=True)
class Run:
    """What the files of a run hold, each by its name; judgements where somebody judged."""

    leaderboard: dict[str, Any]
    samples: list[dict[str, Any]]
    scores: list[dict[str, Any]] = field(default_factory=list)
    times: list[dict[str, Any]] = field(default_factory=list)
    judgements: list[dict[str, Any]] = field(default_factory=list)


def rank(
    entrants: Sequence[Entrant],
    suite: Suite,
    *,
    limit: int | None = None,
    scorer: Entrant | None = None,
    judging: Judging | None = None,
    progress: Callable[[Progress], None] | None = None,
    environment: Mapping[str, Any] | None = None,
    journal: Journal | None = None,
    weights: Mapping[str, float] | None = None,
) -> Run:
    """Measures the entrants on the suite and compares every pair.

    Entrants of one name are one model shown different numbers of examples: it is opened once, and what does not depend
    on the examples is measured once and shared (`shared_with` says so). `limit` takes the first items of each task
    after a fixed shuffle that keeps domains balanced. `scorer` is the one model under which relevance is computed, for
    all alike; without it there is none. `judging` says who grades and compares open answers. `environment` adds to what
    the run says of its machine (threads, revision). What the `journal` knows is not measured again, and what is
    measured goes into it at once. `weights` (by column, as `weighted.read_weights` gives them) add a weighted total;
    they change nothing that is measured.

    A model that fails (any FairgroundError) keeps its place with the reason under `errors`, and the others go on.
    Raises RequestError for entrants or a limit that make no sense, and the first failure where no model but the
    baselines could be measured.
    """
    started = time.time()
    check(entrants, suite, limit)
    if judging and not suite.of(OpenAnswers):
        raise RequestError("There are no open answers to judge among these tasks; add a task of kind 'open'.")
    id_ = run_id(suite, entrants, limit=limit, scorer=scorer, judging=judging)
    suite = replace(suite, tasks=tuple(first_items(task, limit) for task in suite.tasks))
    models = by_model(entrants)
    answers = sum(len(task.items) for task in suite.of(OpenAnswers))
    works = [_work(suite, settings) for settings in models.values()]
    after = [len(models) * answers] if scorer else []
    after += [judging.work(len(models), answers) for _ in judging.judges] if judging else []
    meter = Meter(progress, [*works, *after])
    kept = journal or NoJournal()
    rows = [row for settings in models.values() for row in _measure(settings, suite, meter, kept)]
    _raise_if_all_failed(rows)
    scored_by = _judge_answers(rows, suite, scorer, meter)
    judges, judgements = judge_rows(rows, entrants, suite, judging, meter, kept) if judging else ([], [])
    built = leaderboard.build(
        rows,
        suite,
        id_=id_,
        limit=limit,
        scorer=scored_by,
        started=started,
        environment=environment,
        weights=weights,
    )
    if judging:
        built["judges"] = judges
    meter.finish()
    return Run(built, leaderboard.samples(rows), leaderboard.scores(rows), leaderboard.times(rows), judgements)


def run_id(
    suite: Suite,
    entrants: Sequence[Entrant],
    *,
    limit: int | None,
    scorer: Entrant | None,
    judging: Judging | None = None,
) -> str:
    """Names a run by what it measures: the suite's content and tasks, the models', and the settings.

    How examples are drawn is among these where any are shown.
    """
    settings: dict[str, Any] = {
        "suite": suite.hash,
        "tasks": [task.name for task in suite.tasks],
        "models": [[entrant.identity or entrant.name, entrant.name, entrant.shots] for entrant in entrants],
        "limit": limit,
        "scorer": (scorer.identity or scorer.name) if scorer else None,
        **({"judging": judging.settings()} if judging else {}),
        **({} if suite.probe.concurrencies else {"times": False}),
    }
    if any(entrant.shots for entrant in entrants):
        settings["few_shot"] = suite.selection.as_json()
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def first_items(task: Task[Any], limit: int | None) -> Task[Any]:
    """The task with its first `limit` items, after a fixed shuffle that takes domains (or groups) in turn.

    Those of the harness are taken as they come, as it does, and the same prompts are made of them.
    """
    if limit is None:
        return task
    return replace(task, items=task.items[:limit] if task.in_order else _in_turn(task.items, limit))


def _in_turn(items: Sequence[Item], limit: int) -> tuple[Item, ...]:
    parts: dict[str, list[Item]] = {}
    for item in items:
        parts.setdefault(item.group or item.domain, []).append(item)
    for name, part in parts.items():
        random.Random(f"limit {name}").shuffle(part)
    taken: list[Item] = []
    for place in range(max(map(len, parts.values()))):
        taken += [part[place] for part in parts.values() if place < len(part)]
    return tuple(taken[:limit])


def check(entrants: Sequence[Entrant], suite: Suite, limit: int | None) -> None:
    """Raises RequestError for entrants or a limit that make no sense."""
    if not entrants:
        raise RequestError("There is no model to rank; name at least one.")
    if limit is not None and limit < 1:
        raise RequestError(f"The limit is {limit}, but must be at least 1 item a task; choose another.")
    named = Counter(entrant.name for entrant in entrants)
    labels = Counter(_label(entrant, named[entrant.name]) for entrant in entrants)
    if repeated := [label for label, count in labels.items() if count > 1]:
        raise RequestError(f"Two models would both be called {repeated[0]!r}; name each once, or label them apart.")
    for entrant in entrants:
        most = suite.max_shots
        if not 0 <= entrant.shots <= most:
            raise RequestError(
                f"{entrant.name} asks for {entrant.shots} shots, but the suite {suite.name} can give 0 to {most}; "
                "choose a number among these."
            )


def _label(entrant: Entrant, settings: int) -> str:
    """The model's name, with the number of shots where the name alone would stand for several rows."""
    if entrant.label is not None:
        return entrant.label
    return f"{entrant.name} ({entrant.shots}-shot)" if settings > 1 and entrant.shots else entrant.name


def _shown(suite: Suite) -> tuple[list[ScoredTask[Any]], list[WrittenTask[Any]]]:
    """The tasks that solved examples are shown for, scored and written."""
    shown = [task for task in suite.tasks if task.max_shots is not None]
    scored = [task for task in shown if isinstance(task, ScoredTask)]
    return scored, [task for task in shown if isinstance(task, WrittenTask)]


def _alike(suite: Suite, entrant: Entrant) -> tuple[list[ScoredTask[Any]], list[WrittenTask[Any]]]:
    """The tasks that are the same however many examples are shown in others, the model's own canaries among them."""
    alike = [task for task in suite.tasks if task.max_shots is None]
    scored = [task for task in alike if isinstance(task, ScoredTask)]
    if bare := [task for task in suite.of(MultipleChoice) if task.metric == "accuracy" and task.choices_only]:
        scored.append(ChoicesOnly.of(bare))
    if entrant.canaries is not None:
        scored.append(entrant.canaries)
    return scored, [task for task in alike if isinstance(task, WrittenTask)]


def by_model(entrants: Sequence[Entrant]) -> dict[str, list[Entrant]]:
    """Entrants of one name, which are one model in several settings."""
    models: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        models.setdefault(entrant.name, []).append(entrant)
    return models


def asked(suite: Suite, settings: Sequence[Entrant]) -> list[tuple[list[Any], int]]:
    """What one model is measured on in these settings: tasks that go together, and their number of solved examples."""
    with_shots = [(tasks, entrant.shots) for entrant in settings for tasks in _shown(suite)]
    return [*with_shots, *((tasks, 0) for tasks in _alike(suite, settings[0]))]


def _work(suite: Suite, settings: Sequence[Entrant]) -> int:
    """What `Meter` counts for one model in these settings."""
    items = sum(len(task.items) for tasks, _ in asked(suite, settings) for task in tasks)
    return items + suite.probe.total


def _measure(settings: Sequence[Entrant], suite: Suite, meter: Meter, journal: Journal) -> list[Row]:
    """Opens one model, measures all that it can do in every setting, and closes it, whatever happens."""
    shared = Measured()
    first = settings[0]
    rows = [
        Row(_label(entrant, len(settings)), entrant.name, entrant.shots, shared, first.identity or first.name)
        for entrant in settings
    ]
    for row in rows[1:]:
        row.shared_with = rows[0].label
    meter.begin(first.name)
    try:
        generator = first.open()
    except FairgroundError as error:
        shared.errors.append(str(error))
        for row in rows:
            row.failure = error
        return rows
    try:
        can, bench = generator.info.can, Bench(generator, journal, rows[0].identity)
        scored, written = _shown(suite)
        scored_once, written_once = _alike(suite, first)
        if can.generate:
            # While nothing else is under way.
            _time(generator, suite, first.device, shared, meter.of("response_time"))
            written_once, notes = judgeable(written_once)
            shared.notes += notes
            for result in bench.write_together(written_once, 0, meter.of):
                shared.add(result)
            written, notes = judgeable(written)
            for row in rows:
                row.own.notes += notes
                for result in bench.write_together(written, row.shots, meter.of):
                    row.own.add(result)
        else:
            shared.notes.append("It cannot generate text, so response time and what is written are not measured.")
        if can.score:
            for row in rows:
                for result in bench.score_together(scored, row.shots, meter.of):
                    row.own.add(result)
            for result in bench.score_together(scored_once, 0, meter.of):
                shared.add(result)
        else:
            shared.notes.append(
                "It cannot score text, so accuracy, sentence order and what else is scored are not measured."
            )
        for row in rows:
            row.info = generator.info
    finally:
        generator.close()
    return rows


def _time(
    generator: Generator, suite: Suite, device: str | None, shared: Measured, on_done: Callable[[int], None]
) -> None:
    """Response times, and what energy they took where that can be known."""
    try:
        counted = energy.meter(device).rested()
    except CapabilityError as error:
        shared.notes.append(f"Energy is not measured: {error}")
        counted = None
    try:
        shared.times = probe.measure(generator, suite.probe, on_done, counted)
    except FairgroundError as error:
        shared.errors.append(f"response_time: {error}")
    shared.errors += response_times.failure_sentences(shared.times)


def judgeable(tasks: Sequence[TaskT]) -> tuple[list[TaskT], list[str]]:
    """The tasks whose answers can be judged here, and for each of the others a note that says why not."""
    able, notes = [], []
    for task in tasks:
        try:
            task.can_judge()
        except CapabilityError as error:
            notes.append(f"{task.name} is not measured: {error}")
        else:
            able.append(task)
    return able, notes


def _raise_if_all_failed(rows: Sequence[Row]) -> None:
    """A run in which only the floor was measured ranks nothing."""
    real = [row for row in rows if row.info is None or row.info.family != "baseline"]
    if not real or any(row.measured for row in real):
        return
    if real[0].failure is not None:
        raise real[0].failure
    reasons = real[0].shared.errors + real[0].own.errors + real[0].shared.notes
    raise FairgroundError(f"No model could be measured; the first, {real[0].label}: {reasons[0]}")


def _judge_answers(rows: Sequence[Row], suite: Suite, scorer: Entrant | None, meter: Meter) -> ModelInfo | None:
    """Adds relevance to all answers where the scorer can be had; returns what the scorer was."""
    models = [row for row in rows if row.shared_with is None]
    tasks = [task for task in suite.of(OpenAnswers) if any(task.name in row.shared.results for row in models)]
    if not tasks:
        return None
    generator: Generator | None = None
    why = "no scorer was named" if scorer is None else ""
    if scorer is not None:
        meter.begin(scorer.name)
        try:
            generator = scorer.open()
            if not generator.info.can.score:
                raise CapabilityError(f"{scorer.name} cannot score text")
        except FairgroundError as error:
            why = f"the scorer failed ({error})"
    try:
        info = generator.info if generator is not None and not why else None
        for row in models:
            for task in tasks:
                if (result := row.shared.results.get(task.name)) is None:
                    continue
                if generator is None or why:
                    row.shared.notes.append(f"Relevance is not measured: {why}.")
                else:
                    row.shared.results[task.name] = _with_relevance(row.shared, task, result, generator)
                    meter.of("relevance")(len(result.outcomes))
    finally:
        if generator is not None:
            generator.close()
    return info


def _with_relevance(shared: Measured, task: OpenAnswers, result: TaskResult, scorer: Generator) -> TaskResult:
    try:
        values = relevance.relevances(scorer, task, result.outcomes)
    except FairgroundError as error:
        shared.notes.append(f"Relevance is not measured: the scorer failed ({error}).")
        return result
    if None in values:
        shared.errors.append(f"{task.name}: {values.count(None)} relevances were not finite and are left out.")
    both = zip(result.outcomes, values, strict=True)
    return replace(result, outcomes=tuple(relevance.with_relevance(one, value) for one, value in both))
