"""Ranking: every model on every task of a suite, one model open at a time."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fairground.errors import CapabilityError, FairgroundError, RequestError
from fairground.evaluation import leaderboard, open_answers, probe, tasks
from fairground.evaluation.items import ChoiceItem, OpenItem, Passage
from fairground.evaluation.measure import Known, Measured, Row, TaskResult, score_all, score_task
from fairground.evaluation.progress import Meter, Progress
from fairground.evaluation.suite import MultipleChoice, OpenAnswers, OrderDiscrimination, Suite, Task
from fairground.types import Generator, ModelInfo

ItemT = TypeVar("ItemT", ChoiceItem, Passage, OpenItem)


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model to rank: its name, how it is opened, and how many solved examples it is shown.

    `label` is what the leaderboard calls it; without one, that is its name, followed by "(5-shot)" where the same model
    is also ranked with another number of shots.
    """

    name: str
    open: Callable[[], Generator]
    shots: int = 0
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What `leaderboard.json` and `samples.jsonl` hold."""

    leaderboard: dict[str, Any]
    samples: list[dict[str, Any]]


def rank(
    entrants: Sequence[Entrant],
    suite: Suite,
    *,
    limit: int | None = None,
    scorer: Entrant | None = None,
    progress: Callable[[Progress], None] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Run:
    """Measures the entrants on the suite and compares every pair.

    Entrants of one name are one model shown different numbers of examples: it is opened once, and what does not depend
    on the examples is measured once and shared (`shared_with` says so). `limit` takes the first items of each task
    after a fixed shuffle that keeps domains balanced. `scorer` is the one model under which relevance is computed, for
    all alike; without it there is none. `environment` adds to what the run says of its machine (threads, revision).

    A model that fails (any FairgroundError) keeps its place with the reason under `errors`, and the others go on.
    Raises RequestError for entrants or a limit that make no sense, and the first failure where no model but the
    baselines could be measured.
    """
    started = time.time()
    _check(entrants, suite, limit)
    suite = replace(suite, tasks=tuple(first_items(task, limit) for task in suite.tasks))
    models: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        models.setdefault(entrant.name, []).append(entrant)
    answers = sum(len(task.items) for task in suite.of(OpenAnswers))
    works = [_work(suite, len(settings)) for settings in models.values()]
    meter = Meter(progress, [*works, len(models) * answers if scorer else 0])
    rows = [row for settings in models.values() for row in _measure(settings, suite, meter)]
    _raise_if_all_failed(rows)
    scored_by = _judge_answers(rows, suite, scorer, meter)
    built = leaderboard.build(rows, suite, limit=limit, scorer=scored_by, started=started, environment=environment)
    meter.finish()
    return Run(built, leaderboard.samples(rows))


def first_items(task: Task, limit: int | None) -> Task:
    """The task with its first `limit` items after a fixed shuffle that takes domains (or groups) in turn."""
    if limit is None:
        return task
    if isinstance(task, MultipleChoice):
        return replace(task, items=_in_turn(task.items, limit))
    if isinstance(task, OrderDiscrimination):
        return replace(task, items=_in_turn(task.items, limit))
    return replace(task, items=_in_turn(task.items, limit))


def _in_turn(items: Sequence[ItemT], limit: int) -> tuple[ItemT, ...]:
    parts: dict[str, list[ItemT]] = {}
    for item in items:
        parts.setdefault(item.group if isinstance(item, ChoiceItem) and item.group else item.domain, []).append(item)
    for name, part in parts.items():
        random.Random(f"limit {name}").shuffle(part)
    taken: list[ItemT] = []
    for place in range(max(map(len, parts.values()))):
        taken += [part[place] for part in parts.values() if place < len(part)]
    return tuple(taken[:limit])


def _check(entrants: Sequence[Entrant], suite: Suite, limit: int | None) -> None:
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
        if entrant.shots < 0 or (most is not None and entrant.shots > most):
            raise RequestError(
                f"{entrant.name} asks for {entrant.shots} shots, but the suite {suite.name} can give 0 to {most}; "
                "choose a number among these."
            )


def _label(entrant: Entrant, settings: int) -> str:
    """The model's name, with the number of shots where the name alone would stand for several rows."""
    if entrant.label is not None:
        return entrant.label
    return f"{entrant.name} ({entrant.shots}-shot)" if settings > 1 and entrant.shots else entrant.name


def _work(suite: Suite, settings: int) -> int:
    """What `Meter` counts for one model that is shown examples in so many settings."""
    with_shots = sum(len(task.items) for task in suite.of(MultipleChoice))
    counted = sum(len(task.items) for task in suite.of(MultipleChoice) if task.metric)
    ordered = sum(len(task.items) for task in suite.of(OrderDiscrimination))
    written = sum(len(task.items) for task in suite.of(OpenAnswers))
    return settings * with_shots + counted + ordered + written + suite.probe.warmup + suite.probe.repeats


def _measure(settings: Sequence[Entrant], suite: Suite, meter: Meter) -> list[Row]:
    """Opens one model, measures all that it can do in every setting, and closes it, whatever happens."""
    shared = Measured()
    rows = [Row(_label(entrant, len(settings)), entrant.name, entrant.shots, shared) for entrant in settings]
    for row in rows[1:]:
        row.shared_with = rows[0].label
    meter.begin(settings[0].name)
    try:
        generator = settings[0].open()
    except FairgroundError as error:
        shared.errors.append(str(error))
        for row in rows:
            row.failure = error
        return rows
    try:
        can = generator.info.can
        if can.generate:
            _measure_writing(generator, suite, shared, meter)
        else:
            shared.notes.append("It cannot generate text, so response time, relevance and repetition are not measured.")
        if can.score:
            for row in rows:
                choices = [tasks.multiple_choice(task, task.items, row.shots) for task in suite.of(MultipleChoice)]
                for result in _score_together(generator, choices, {}, meter):
                    row.own.add(result)
            _measure_reading(generator, suite, shared, meter)
        else:
            shared.notes.append("It cannot score text, so accuracy and coherence are not measured.")
        for row in rows:
            row.info = generator.info
    finally:
        generator.close()
    return rows


def _measure_writing(generator: Generator, suite: Suite, shared: Measured, meter: Meter) -> None:
    """Response time first, while nothing else is under way, then the answers to open prompts."""
    try:
        shared.times = probe.measure(generator, suite.probe, meter.of("response_time"))
    except FairgroundError as error:
        shared.errors.append(f"response_time: {error}")
    for task in suite.of(OpenAnswers):
        shared.answers[task.name] = open_answers.collect(generator, task, task.items, meter.of(task.name))


def _measure_reading(generator: Generator, suite: Suite, shared: Measured, meter: Meter) -> None:
    """What is scored without solved examples."""
    known: Known = {}
    orders = [tasks.order_discrimination(task, task.items) for task in suite.of(OrderDiscrimination)]
    for result in _score_together(generator, orders, known, meter):
        shared.add(result)
    if counted := [(task, task.items) for task in suite.of(MultipleChoice) if task.metric]:
        shared.add(score_task(generator, tasks.choices_only(counted), known, meter.of(tasks.CHOICES_ONLY)))


def _score_together(
    generator: Generator, parts: Sequence[tasks.ScoredTask[Any]], known: Known, meter: Meter
) -> list[TaskResult]:
    """Scores several tasks in one call: the engine fills its passes, and computes what requests begin alike once.

    What goes wrong in that call goes wrong again task by task, where it is recorded.
    """
    if parts:
        meter.of(parts[0].name)(0)
    with suppress(FairgroundError):
        score_all(generator, [request for part in parts for item in part.items for request in part.ask(item)], known)
    return [score_task(generator, part, known, meter.of(part.name)) for part in parts]


def _raise_if_all_failed(rows: Sequence[Row]) -> None:
    """A run in which only the floor was measured ranks nothing."""
    real = [row for row in rows if row.info is None or row.info.family != "baseline"]
    if not real or any(row.measured or any(answers for answers, _ in row.shared.answers.values()) for row in real):
        return
    if real[0].failure is not None:
        raise real[0].failure
    reasons = real[0].shared.errors + real[0].own.errors + real[0].shared.notes
    raise FairgroundError(f"No model could be measured; the first, {real[0].label}: {reasons[0]}")


def _judge_answers(rows: Sequence[Row], suite: Suite, scorer: Entrant | None, meter: Meter) -> ModelInfo | None:
    """Turns all answers into outcomes, with relevance where the scorer can be had; returns what the scorer was."""
    models = list({id(row.shared): row for row in rows}.values())
    generator: Generator | None = None
    why = "no scorer was named" if scorer is None else ""
    if scorer is not None and any(row.shared.answers for row in models):
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
            for task in suite.of(OpenAnswers):
                if task.name in row.shared.answers:
                    on_done = meter.of("relevance") if info else _ignore
                    row.shared.add(_judged(row.shared, task, generator if info else None, why, on_done))
    finally:
        if generator is not None:
            generator.close()
    return info


def _ignore(items: int) -> None:
    """For work that nobody counts."""


def _judged(
    shared: Measured, task: OpenAnswers, scorer: Generator | None, why: str, on_done: Callable[[int], None]
) -> TaskResult:
    answers, failures = shared.answers[task.name]
    relevances: list[float | None] = [None] * len(answers)
    if scorer is not None:
        try:
            relevances = open_answers.relevances(scorer, task, answers)
            if None in relevances:
                shared.errors.append(
                    f"{task.name}: {relevances.count(None)} relevances were not finite and are left out."
                )
        except FairgroundError as error:
            why = f"the scorer failed ({error})"
    if why:
        shared.notes.append(f"Relevance is not measured: {why}.")
    on_done(len(answers))
    outcomes = [open_answers.outcome(answer, value) for answer, value in zip(answers, relevances, strict=True)]
    return TaskResult(task.name, tuple(outcomes), tuple(failures))
