"""The record: published facts about the models of 2023, so that the first leaderboard a person sees is real.

Two tables lie in the folder `record/` beside this file, with their sources, licences and changes in its `SOURCES.md`:
8,931 crowd votes on 59 models with their response times (D. Ustalov, LLMFAO, CC-BY-4.0), and GPT-4's scores of 16
models on 300 questions (LMSYS, Apache-2.0).
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib.resources import as_file, files

import numpy as np
from scipy.special import stdtrit

from fairground.arena.battles import read_battles
from fairground.arena.ratings import Rating, rate
from fairground.types import Battle

ATTRIBUTION = (
    "Votes and response times: D. Ustalov, LLMFAO, 2023, with llmonitor.com's Crowdsourced LLM Benchmark (CC-BY-4.0, "
    "changed). Scores: LMSYS, early Arena-Hard (Apache-2.0)."
)

_FOLDER = files("fairground.arena").joinpath("record")


@dataclass(frozen=True, slots=True)
class RecordModel:
    """A model that was voted on in 2023.

    `open`: whether its weights were published, and `weights` where (None: they were not). `response_ms`: median time
    from request to the whole answer over its `answers`, in milliseconds, through the service that offered it then.
    `tokens_per_s`: median tokens per second, as that service's client measured it.
    """

    model: str
    maker: str
    open: bool
    weights: str | None
    answers: int
    response_ms: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class RecordRow(Rating):
    """A model's rating from the record's votes, and what is known of it: see `Rating` and `RecordModel`."""

    maker: str
    open: bool
    response_ms: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class RecordScore:
    """A model's mean score from GPT-4, from 1 to 10, with its 95% interval over the `questions` that it was scored on.

    `open`: whether its weights were published, and `weights` where (None: they were not).
    """

    model: str
    maker: str
    open: bool
    weights: str | None
    mean: float
    low: float
    high: float
    questions: int


def votes() -> list[Battle]:
    """The 8,931 votes, in the source's order, each with its voter."""
    name = {row["id"]: row["model"] for row in _table("llmfao_models.csv")}
    with as_file(_FOLDER.joinpath("llmfao_votes.csv")) as path:
        battles = read_battles(path)
    return [Battle(name[battle.model_a], name[battle.model_b], battle.winner, battle.voter) for battle in battles]


def models() -> list[RecordModel]:
    """The 59 models that were voted on, by name."""
    rows = [
        RecordModel(
            model=row["model"],
            maker=row["maker"],
            open=row["access"] == "open",
            weights=row["weights"] or None,
            answers=int(row["answers"]),
            response_ms=float(row["response_ms"]),
            tokens_per_s=float(row["tokens_per_s"]),
        )
        for row in _table("llmfao_models.csv")
    ]
    return sorted(rows, key=lambda row: row.model)


def record_ratings() -> list[RecordRow]:
    """Ratings of the 59 models with intervals clustered by voter, best first."""
    return of_record(rate(votes()))


def of_record(ratings: Sequence[Rating]) -> list[RecordRow]:
    """Ratings of the record's models, with what is known of them."""
    known = {model.model: model for model in models()}
    return [
        RecordRow(
            **{field.name: getattr(rating, field.name) for field in fields(rating)},
            maker=known[rating.model].maker,
            open=known[rating.model].open,
            response_ms=known[rating.model].response_ms,
            tokens_per_s=known[rating.model].tokens_per_s,
        )
        for rating in ratings
    ]


def scores() -> list[RecordScore]:
    """GPT-4's mean scores of 16 models, best first.

    A model has at most one score a question, so the interval clustered by question is Student's, with n - 1 degrees of
    freedom. Two models' intervals share their questions, so comparing them by overlap is too cautious.
    """
    by_model: dict[str, list[float]] = defaultdict(list)
    for row in _table("arena_hard_scores.csv"):
        by_model[row["model"]].append(float(row["score"]))
    rows = []
    for row in _table("arena_hard_models.csv"):
        score = np.array(by_model[row["model"]])
        n, mean = len(score), float(score.mean())
        half = float(stdtrit(n - 1, 0.975)) * float(score.std(ddof=1)) / math.sqrt(n)
        weights = row["weights"] or None
        rows.append(
            RecordScore(row["model"], row["maker"], row["access"] == "open", weights, mean, mean - half, mean + half, n)
        )
    return sorted(rows, key=lambda row: (-row.mean, row.model))


def _table(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(_FOLDER.joinpath(name).read_text(encoding="utf-8").splitlines())
