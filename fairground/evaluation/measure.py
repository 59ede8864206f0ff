"""Measuring one open model: its scores and answers on a task, whatever fails on the way, and the row that holds it."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from fairground.errors import BrokenAnswer, FairgroundError, RemoteError, RequestError
from fairground.evaluation.journal import Journal, entry, outcome
from fairground.evaluation.response_times import ResponseTimes
from fairground.evaluation.tasks import ItemT, Outcome, ScoredTask, Task, WrittenTask
from fairground.types import Completion, Generator, ModelInfo, Request, Score, ScoreRequest, Stream

Known = dict[ScoreRequest, Score]
"""What a model has scored before: the same passage is the original at both difficulties, and is read once."""

Asked = tuple[ScoredTask[Any], Any, list[ScoreRequest]]
"""A task, one of its items, and what is to be scored for it."""

PORTION = 2048  # requests that are scored between two entries into the journal, about
ABREAST = 256  # answers that are written at a time; a pass of the engine costs the same for up to so many
ATTEMPTS = 3  # at an answer that comes to no good end
PATIENCE = 3  # items in a row that may fail before the rest of a task is not asked for


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
    """What was found out about a model so far. `times`: by concurrency."""

    results: dict[str, TaskResult] = field(default_factory=dict)
    times: dict[int, ResponseTimes] = field(default_factory=dict)
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
    the first name that first one in `shared_with`. `identity` names the model's content in the journal.
    """

    label: str
    name: str
    shots: int
    shared: Measured
    identity: str = ""
    own: Measured = field(default_factory=Measured)
    info: ModelInfo | None = None
    failure: FairgroundError | None = None
    shared_with: str | None = None

    @property
    def results(self) -> dict[str, TaskResult]:
        return {**self.own.results, **self.shared.results}

    @property
    def measured(self) -> bool:
        return bool(self.shared.times) or any(result.outcomes for result in self.results.values())


@dataclass(slots=True)
class _Conversation:
    """An item that is being answered: what was asked and said so far, and what is being written."""

    task: WrittenTask[Any]
    item: Any
    stream: Stream
    asked: list[Request]
    said: list[Completion] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """One model at work on the tasks of a run: what it is asked with, and where its outcomes are kept."""

    generator: Generator
    journal: Journal
    identity: str
    known: Known = field(default_factory=dict)

    def score_together(
        self, tasks: Sequence[ScoredTask[Any]], shots: int, on_done: Callable[[str], Callable[[int], None]]
    ) -> list[TaskResult]:
        """Scores several tasks at once: the engine fills its passes, and computes what requests begin alike once.

        The journal is told after every PORTION of requests. What goes wrong in such a portion goes wrong again item by
        item, where it is recorded.
        """
        found = {task.name: self._kept(task, shots) for task in tasks}
        left = [
            (task, item, task.ask_of(self.generator, item, shots))
            for task in tasks
            for item in task.items
            if item.id not in found[task.name]
        ]
        if tasks:
            on_done(tasks[0].name)(0)
        for part in _portions(left):
            with suppress(FairgroundError):
                score_all(self.generator, [request for _, _, asked in part for request in asked], self.known)
            scored = [one for one in part if all(request in self.known for request in one[2])]
            for name, own in self._judged(scored).items():
                self._keep(name, shots, own)
                found[name].update({one.id: one for one in own})
            on_done(part[-1][0].name)(0)
        return [self._score(task, shots, found[task.name], on_done(task.name)) for task in tasks]

    def score(self, task: ScoredTask[ItemT], shots: int, on_done: Callable[[int], None]) -> TaskResult:
        """All of a task's items, those that the journal knows and the others in one call.

        Where the call fails because of some request (one prompt is longer than the model's context, one answer of a
        server is garbage), each item is asked for by itself, so that the others keep their outcomes. A score that is
        not finite is a failure of its item. Calls `on_done` with the number of items.
        """
        return self._score(task, shots, self._kept(task, shots), on_done)

    def _score(
        self, task: ScoredTask[ItemT], shots: int, found: dict[str, Outcome], on_done: Callable[[int], None]
    ) -> TaskResult:
        """As `score`, where `found` holds the outcomes that there are already."""
        left = [(task, item, task.ask_of(self.generator, item, shots)) for item in task.items if item.id not in found]
        refused: dict[str, str] = {}
        try:
            score_all(self.generator, [request for _, _, asked in left for request in asked], self.known)
        except FairgroundError:
            refused = self._one_by_one(left)
        scored = [one for one in left if one[1].id not in refused]
        judged = self._judged(scored).get(task.name, [])
        self._keep(task.name, shots, judged)
        found.update({one.id: one for one in judged})
        for _, item, asked in scored:
            if item.id not in found:
                logprobs = [self.known[request].logprob for request in asked]
                refused[item.id] = f"The model gave log-likelihoods that are not finite: {logprobs}."
        on_done(len(task.items))
        return _result(task, found, refused)

    def _one_by_one(self, left: Sequence[Asked]) -> dict[str, str]:
        """Scores item by item, and says by item what went wrong; gives up on a model that fails at every one."""
        refused: dict[str, str] = {}
        in_a_row = 0
        for place, (_, item, asked) in enumerate(left):
            try:
                score_all(self.generator, asked, self.known)
            except FairgroundError as error:
                refused[item.id] = str(error)
                # A prompt that is refused says nothing about the next one.
                in_a_row = 0 if isinstance(error, RequestError) else in_a_row + 1
            else:
                in_a_row = 0
            if in_a_row == PATIENCE:
                return refused | {item.id: refused[left[place][1].id] for _, item, _ in left[place:]}
        return refused

    def _kept(self, task: ScoredTask[Any] | WrittenTask[Any], shots: int) -> dict[str, Outcome]:
        """What the journal knows of the task's items."""
        kept = self.journal.known(self.identity, task.name, shots)
        return {item.id: outcome(kept[item.id]) for item in task.items if item.id in kept}

    def _keep(self, task: str, shots: int, outcomes: Sequence[Outcome]) -> None:
        self.journal.keep(self.identity, task, shots, [entry(one) for one in outcomes])

    def _judged(self, part: Sequence[Asked]) -> dict[str, list[Outcome]]:
        """By task, the outcomes of what was scored; an item with a score that is not finite has none."""
        found: dict[str, list[Outcome]] = {}
        for task, item, asked in part:
            scores = [self.known[request] for request in asked]
            if all(math.isfinite(score.logprob) for score in scores):
                found.setdefault(task.name, []).append(task.judge(item, asked, scores))
        return found

    def write_together(
        self, tasks: Sequence[WrittenTask[Any]], shots: int, on_done: Callable[[str], Callable[[int], None]]
    ) -> list[TaskResult]:
        """All answers to several tasks, ABREAST at a time, each into the journal as it comes.

        They are asked for in any company alike (`exact`), so that a run that goes on later writes the same, and tasks
        can share the engine's passes. What came to no good end is asked for again, and an item with several turns is
        kept when all are answered. Whatever ends this early cancels what still runs.
        """
        found = {task.name: self._kept(task, shots) for task in tasks}
        failed: dict[str, dict[str, str]] = {task.name: {} for task in tasks}
        for task in tasks:
            on_done(task.name)(len(found[task.name]))
        waiting = [(task, item) for task in tasks for item in task.items if item.id not in found[task.name]]
        waiting.reverse()
        running: deque[_Conversation] = deque()
        attempts: Counter[str] = Counter()
        chat = self.generator.info.can.chat

        def fail(task: WrittenTask[Any], item: Any, error: FairgroundError) -> None:
            attempts[item.id] += 1
            if isinstance(error, BrokenAnswer) and attempts[item.id] < ATTEMPTS:
                waiting.append((task, item))
                return
            failed[task.name][item.id] = str(error)
            on_done(task.name)(1)

        try:
            while waiting or running:
                while waiting and len(running) < ABREAST:
                    task, item = waiting.pop()
                    asked = replace(task.ask(item, shots, chat), exact=True)
                    try:
                        running.append(_Conversation(task, item, self.generator.submit(asked), [asked]))
                    except FairgroundError as error:
                        fail(task, item, error)
                if not running:
                    break
                one = running[0]
                task, item = one.task, one.item
                try:
                    one.said.append(one.stream.completion())
                    if (further := task.next_turn(item, one.said, chat)) is not None:
                        one.asked.append(replace(further, exact=True))
                        one.stream = self.generator.submit(one.asked[-1])
                        running.rotate(-1)
                        continue
                    judged = task.judge_turns(item, one.asked, one.said)
                except FairgroundError as error:
                    running.popleft()
                    fail(task, item, error)
                    continue
                running.popleft()
                found[task.name][item.id] = judged
                self._keep(task.name, shots, [judged])
                on_done(task.name)(1)
        finally:
            for one in running:
                one.stream.cancel()
        return [_result(task, found[task.name], failed[task.name]) for task in tasks]


def _portions(left: Sequence[Asked]) -> list[list[Asked]]:
    parts: list[list[Asked]] = []
    size = PORTION
    for one in left:
        if size >= PORTION:
            parts.append([])
            size = 0
        parts[-1].append(one)
        size += len(one[2])
    return parts


def _result(task: Task[Any], found: Mapping[str, Outcome], failed: Mapping[str, str]) -> TaskResult:
    """Outcomes and failures in the order of the task's items."""
    outcomes = tuple(found[item.id] for item in task.items if item.id in found)
    failures = tuple((item.id, failed[item.id]) for item in task.items if item.id in failed)
    return TaskResult(task.name, outcomes, failures)


def score_all(generator: Generator, requests: Sequence[ScoreRequest], known: Known) -> None:
    """Scores the requests in one call, but for those whose scores are known, and adds them to `known`."""
    new = list(dict.fromkeys(request for request in requests if request not in known))
    if not new:
        return
    scores = generator.score(new)
    if len(scores) != len(new):
        raise RemoteError(f"The model gave {len(scores)} scores for {len(new)} requests, so none can be trusted.")
    known.update(zip(new, scores, strict=True))
