"""Two kinds that score one continuation: the words after a text (LAMBADA), and one text after several beginnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from fairground.evaluation import metrics
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import OPENING, Files, Item, Outcome, ScoredTask, opening
from fairground.types import Score, ScoreRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuedText(Item):
    """A text and what comes after it, one space between them."""

    context: str
    continuation: str


@dataclass(frozen=True, kw_only=True)
class Continuation(ScoredTask[ContinuedText]):
    """Texts whose last words the model should expect: right where each of their tokens is the likeliest one.

    As lm-evaluation-harness measures LAMBADA (Paperno et al. 2016): `acc` of a greedy reading.
    """

    kind: ClassVar[str] = "continuation"
    keys: ClassVar[frozenset[str]] = frozenset({"prompt", "answer"})
    counts_in: ClassVar[tuple[str, ...]] = ("last_word",)
    prompt: str

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        prompt, fields = settings.template("prompt", "{context}")
        answer = settings.text("answer", "continuation")
        items = []
        for line in files.lines(settings, "file"):
            line.keys({"id", answer, *fields}, OPENING)
            context = prompt.format_map({key: line.text(key) for key in fields})
            items.append(ContinuedText(**opening(line, name), context=context, continuation=line.text(answer)))
            files.asks(line, name, context)
        return cls(name=name, items=tuple(items), metric=metric, prompt=prompt)

    def ask(self, item: ContinuedText, shots: int = 0) -> list[ScoreRequest]:
        return [ScoreRequest(item.context, f" {item.continuation}")]

    def judge(self, item: ContinuedText, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        (score,) = scores
        record = {
            "asked": item.context,
            "gold": item.continuation,
            "scores": [score.logprob],
            "right": score.greedy,
        }
        measures = {"last_word": float(score.greedy), "logprob": score.logprob}
        return Outcome(item.id, item.domain, item.cluster, measures, record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginnings(Item):
    """Several beginnings of one text; `gold` is the index of the one after which it makes sense."""

    contexts: tuple[str, ...]
    continuation: str
    gold: int


@dataclass(frozen=True, kw_only=True)
class ChoiceInContext(ScoredTask[Beginnings]):
    """Texts that begin in several ways and end in one: after which beginning is the end likeliest?

    Partial scoring, as WinoGrande is measured (Trinh & Le 2018; Sakaguchi et al. 2020; lm-evaluation-harness's `acc`).
    """

    kind: ClassVar[str] = "choice_in_context"
    keys: ClassVar[frozenset[str]] = frozenset({"contexts", "answer", "gold"})
    counts_in: ClassVar[tuple[str, ...]] = ("accuracy",)

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        contexts, answer = settings.text("contexts", "contexts"), settings.text("answer", "continuation")
        gold, items = settings.text("gold", "gold"), []
        for line in files.lines(settings, "file"):
            line.keys({"id", contexts, answer, gold}, OPENING)
            begun = line.texts(contexts, at_least=2)
            items.append(
                Beginnings(
                    **opening(line, name), contexts=begun, continuation=line.text(answer), gold=line.gold(gold, begun)
                )
            )
            files.asks(line, name, f"{begun[0]} {items[-1].continuation}")
        return cls(name=name, items=tuple(items), metric=metric)

    def ask(self, item: Beginnings, shots: int = 0) -> list[ScoreRequest]:
        return [ScoreRequest(context, f" {item.continuation}") for context in item.contexts]

    def judge(self, item: Beginnings, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        logprobs = [score.logprob for score in scores]
        chosen, probabilities = metrics.chosen(logprobs), metrics.softmax(logprobs)
        record = {
            "asked": f"… {item.continuation}",
            "choices": list(item.contexts),
            "scores": logprobs,
            "gold": item.gold,
            "chosen": chosen,
            "right": chosen == item.gold,
        }
        measures = {
            "accuracy": float(chosen == item.gold),
            "confidence": max(probabilities),
            "brier": math.fsum((p - (i == item.gold)) ** 2 for i, p in enumerate(probabilities)),
        }
        return Outcome(item.id, item.domain, item.cluster, measures, record)
