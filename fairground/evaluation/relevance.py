"""Relevance: how much likelier answers are after their questions than alone, under one fixed scorer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fairground.errors import RemoteError
from fairground.evaluation import metrics
from fairground.evaluation.tasks import OpenAnswers, Outcome
from fairground.types import Generator, Score, ScoreRequest


def requests(task: OpenAnswers, outcome: Outcome) -> list[ScoreRequest]:
    """The answer after its prompt (as plain text, whoever wrote it) and the same answer from the start of a text."""
    text = f" {outcome.record['answer'].strip()}"
    return [ScoreRequest(task.text_prompt.format(prompt=outcome.record["asked"]), text), ScoreRequest("", text)]


def relevances(scorer: Generator, task: OpenAnswers, outcomes: Sequence[Outcome]) -> list[float | None]:
    """For each answer its relevance under the scorer, None where a score is not finite; all in one call to `score`.

    An answer of nothing but space gets 0: it says nothing of its prompt.
    """
    written = [outcome for outcome in outcomes if outcome.record["answer"].strip()]
    asked = [request for outcome in written for request in requests(task, outcome)]
    scores = scorer.score(asked) if asked else []
    if len(scores) != len(asked):
        raise RemoteError(f"The scorer gave {len(scores)} scores for {len(asked)} requests; use another scorer.")
    pairs = iter(zip(scores[::2], scores[1::2], strict=True))
    return [_finite(*next(pairs)) if outcome.record["answer"].strip() else 0.0 for outcome in outcomes]


def _finite(given_prompt: Score, alone: Score) -> float | None:
    value = metrics.relevance(given_prompt, alone)
    return value if math.isfinite(value) else None


def with_relevance(outcome: Outcome, relevance: float | None) -> Outcome:
    """The outcome, with its relevance where it has one."""
    if relevance is None:
        return outcome
    return replace(
        outcome,
        measures={**outcome.measures, "relevance": relevance},
        record={**outcome.record, "relevance": relevance},
    )
