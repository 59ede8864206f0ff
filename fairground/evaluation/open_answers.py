"""Open prompts: every model writes answers, and one fixed scorer says how much each has to do with its prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fairground.errors import FairgroundError, RemoteError
from fairground.evaluation import metrics
from fairground.evaluation.items import OpenItem
from fairground.evaluation.suite import OpenAnswers
from fairground.evaluation.tasks import Outcome
from fairground.types import Generator, Message, Request, Sampling, Score, ScoreRequest, Stream


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote."""

    item: OpenItem
    asked_as: str  # "chat" or "text"
    text: str
    tokens: int
    finish_reason: str


def collect(
    generator: Generator, task: OpenAnswers, items: Sequence[OpenItem], on_done: Callable[[int], None]
) -> tuple[list[Answer], list[tuple[str, str]]]:
    """Submits all prompts at once (greedy; in the chat template where there is one) and collects the answers.

    Returns the answers and, for each prompt that failed, its id and the reason. Whatever ends this early cancels what
    still runs.
    """
    chat = generator.info.can.chat
    sampling = Sampling(temperature=0.0, max_tokens=task.max_tokens, stop=() if chat else task.stop)
    answers: list[Answer] = []
    failures: list[tuple[str, str]] = []
    running: dict[str, tuple[OpenItem, Stream]] = {}
    try:
        for item in items:
            prompt = (Message("user", item.prompt),) if chat else task.text_prompt.format(prompt=item.prompt)
            try:
                running[item.id] = (item, generator.submit(Request(prompt, sampling)))
            except FairgroundError as error:
                failures.append((item.id, str(error)))
                on_done(1)
        for id_ in list(running):
            item, stream = running[id_]
            try:
                written = stream.completion()
                answers.append(
                    Answer(item, "chat" if chat else "text", written.text, len(written.tokens), written.finish_reason)
                )
            except FairgroundError as error:
                failures.append((id_, str(error)))
            del running[id_]
            on_done(1)
    finally:
        for _, stream in running.values():
            stream.cancel()
    return answers, failures


def relevance_requests(task: OpenAnswers, answer: Answer) -> list[ScoreRequest]:
    """The answer after its prompt (as plain text, whoever wrote it) and the same answer from the start of a text."""
    text = f" {answer.text.strip()}"
    return [ScoreRequest(task.text_prompt.format(prompt=answer.item.prompt), text), ScoreRequest("", text)]


def relevances(scorer: Generator, task: OpenAnswers, answers: Sequence[Answer]) -> list[float | None]:
    """For each answer its relevance under the scorer, None where a score is not finite; all in one call to `score`.

    An answer of nothing but space gets 0: it says nothing of its prompt.
    """
    written = [answer for answer in answers if answer.text.strip()]
    requests = [request for answer in written for request in relevance_requests(task, answer)]
    scores = scorer.score(requests) if requests else []
    if len(scores) != len(requests):
        raise RemoteError(f"The scorer gave {len(scores)} scores for {len(requests)} requests; use another scorer.")
    pairs = iter(zip(scores[::2], scores[1::2], strict=True))
    return [_finite(*next(pairs)) if answer.text.strip() else 0.0 for answer in answers]


def _finite(given_prompt: Score, alone: Score) -> float | None:
    value = metrics.relevance(given_prompt, alone)
    return value if math.isfinite(value) else None


def outcome(answer: Answer, relevance: float | None) -> Outcome:
    """Repetition always; relevance where there was a scorer."""
    measures = {"repetition": metrics.repetition(answer.text)}
    if relevance is not None:
        measures["relevance"] = relevance
    record: dict[str, Any] = {
        "asked": answer.item.prompt,
        "asked_as": answer.asked_as,
        "answer": answer.text,
        "tokens": answer.tokens,
        "finish_reason": answer.finish_reason,
        **measures,
    }
    return Outcome(answer.item.id, answer.item.domain, answer.item.id, measures, record)
