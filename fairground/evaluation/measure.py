"""Measuring one open model: its scores on a task, whatever fails on the way, and the row that holds it all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairground.errors import FairgroundError, RemoteError, RequestError
from fairground.evaluation.items import ChoiceItem, Passage
from fairground.evaluation.open_answers import Answer
from fairground.evaluation.probe import ResponseTimes
from fairground.evaluation.tasks import ItemT, Outcome, ScoredTask
from fairground.types import Generator, ModelInfo, Score, ScoreRequest

Known = dict[ScoreRequest, Score]
"""What a model has scored before: the same passage is the original at both difficulties, and is read once."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A task's outcomes and, by item, why there is none. A failure is never a wrong answer."""

    task: str
    outcomes: tuple[Outcome, ...]
    failures: tuple[tuple[str, str], ...] = ()

    def failure_sentence(self) -> str:
        """One sentence for the leaderboard; the samples have each failure."""
        first, reason = self.failures[0]
        asked = len(self.outcomes) + len(self.failures)
        return f"{self.task}: {len(self.failures)} of {asked} items could not be measured; the first, {first}: {reason}"


@dataclass(slots=True)
class Measured:
    """What was found out about a model so far."""

    results: dict[str, TaskResult] = field(default_factory=dict)
    answers: dict[str, tuple[list[Answer], list[tuple[str, str]]]] = field(default_factory=dict)
    times: ResponseTimes | None = None
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, result: TaskResult) -> None:
        self.results[result.task] = result
        if result.failures:
            self.errors.append(result.failure_sentence())


@dataclass(slots=True)
class Row:
    """One line of the leaderboard in the making.

    `shared` holds what does not depend on solved examples; rows of one model have the same object there, and all but
    the first name that first one in `shared_with`.
    """

    label: str
    name: str
    shots: int
    shared: Measured
    own: Measured = field(default_factory=Measured)
    info: ModelInfo | None = None
    failure: FairgroundError | None = None
    shared_with: str | None = None

    @property
    def results(self) -> dict[str, TaskResult]:
        return {**self.own.results, **self.shared.results}

    @property
    def measured(self) -> bool:
        return self.shared.times is not None or any(result.outcomes for result in self.results.values())


def score_task(
    generator: Generator, task: ScoredTask[ItemT], known: Known, on_done: Callable[[int], None]
) -> TaskResult:
    """Scores all of a task's items in one call, so that the engine can batch them and share their prefixes.

    Where the model refuses the call because of some request (one prompt is longer than its context), each item is
    asked for by itself, so that the others keep their outcomes. A score that is not finite is a failure of its item.
    Calls `on_done` with the number of items as they are done.
    """
    asked = {item.id: task.ask(item) for item in task.items}
    refused: dict[str, str] = {}
    try:
        score_all(generator, [request for requests in asked.values() for request in requests], known)
    except RequestError:
        for id_, requests in asked.items():
            try:
                score_all(generator, requests, known)
            except RequestError as error:
                refused[id_] = str(error)
            except FairgroundError as error:
                return _none(task, str(error), on_done)
    except FairgroundError as error:
        return _none(task, str(error), on_done)
    outcomes: list[Outcome] = []
    for item in task.items:
        if item.id in refused:
            continue
        scores = [known[request] for request in asked[item.id]]
        if all(math.isfinite(score.logprob) for score in scores):
            outcomes.append(task.judge(item, scores))
        else:
            refused[item.id] = f"The model gave log-likelihoods that are not finite: {[s.logprob for s in scores]}."
    on_done(len(task.items))
    return TaskResult(task.name, tuple(outcomes), tuple(refused.items()))


def _none(task: ScoredTask[Any], reason: str, on_done: Callable[[int], None]) -> TaskResult:
    on_done(len(task.items))
    items: Sequence[ChoiceItem | Passage] = task.items
    return TaskResult(task.name, (), tuple((item.id, reason) for item in items))


def score_all(generator: Generator, requests: Sequence[ScoreRequest], known: Known) -> None:
    """Scores the requests in one call, but for those whose scores are known, and adds them to `known`."""
    new = list(dict.fromkeys(request for request in requests if request not in known))
    if not new:
        return
    scores = generator.score(new)
    if len(scores) != len(new):
        raise RemoteError(f"The model gave {len(scores)} scores for {len(new)} requests, so none can be trusted.")
    known.update(zip(new, scores, strict=True))
