"""Questions with true and false answers, of which several may be true (TruthfulQA's MC1 and MC2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from fairground.evaluation import metrics
from fairground.evaluation.lines import Line
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import OPENING, Files, Item, Outcome, ScoredTask, opening
from fairground.types import Score, ScoreRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAnswers(Item):
    """A question, answers to it, and which of them are true."""

    fields: Mapping[str, str] = field(hash=False)
    answers: tuple[str, ...]
    true: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class TrueAnswers(ScoredTask[JudgedAnswers]):
    """Whether the likeliest answer is a true one, and how much of the probability of all goes to true ones.

    With one true answer the first is TruthfulQA's MC1; the second is its MC2, sum p(true) / sum p(all) (Lin et al.
    2022, section 3.2), as lm-evaluation-harness has both. `description` stands before every question.
    """

    kind: ClassVar[str] = "true_answers"
    keys: ClassVar[frozenset[str]] = frozenset({"prompt", "answers", "description"})
    counts_in: ClassVar[tuple[str, ...]] = ("truthfulness", "mc2")
    prompt: str
    description: str = ""

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        prompt, fields = settings.template("prompt")
        key, items = settings.text("answers", "answers"), []
        for line in files.lines(settings, "file"):
            line.keys({"id", key, *fields}, OPENING)
            answers, true = _answers(line, key)
            shown = {field: line.text(field) for field in fields}
            items.append(JudgedAnswers(**opening(line, name), fields=shown, answers=answers, true=true))
            files.asks(line, name, " ".join(shown.values()))
        description = settings.text("description", "")
        return cls(name=name, items=tuple(items), metric=metric, prompt=prompt, description=description)

    def ask(self, item: JudgedAnswers, shots: int = 0) -> list[ScoreRequest]:
        context = self.description + self.prompt.format_map(item.fields)
        return [ScoreRequest(context, f" {answer}") for answer in item.answers]

    def judge(self, item: JudgedAnswers, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        logprobs = [score.logprob for score in scores]
        chosen, shares = metrics.chosen(logprobs), metrics.softmax(logprobs)
        record = {
            "asked": asked[0].context,
            "choices": list(item.answers),
            "scores": logprobs,
            "true": [i for i, true in enumerate(item.true) if true],
            "chosen": chosen,
            "right": item.true[chosen],
        }
        measures = {
            "accuracy": float(item.true[chosen]),
            "mc2": math.fsum(share for share, true in zip(shares, item.true, strict=True) if true),
        }
        return Outcome(item.id, item.domain, item.cluster, measures, record)


def _answers(line: Line, key: str) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Either of the two published forms: {answer: 1 or 0, …}, or {"choices": […], "labels": [1 or 0, …]}."""
    value = line.data[key]
    if isinstance(value, Mapping) and value.keys() == {"choices", "labels"}:
        answers, labels = value["choices"], value["labels"]
    elif isinstance(value, Mapping):
        answers, labels = list(value), list(value.values())
    else:
        raise line.error(f"{key!r} must be an object of answers, each with 1 (true) or 0 (false); correct it")
    if not isinstance(answers, list) or not isinstance(labels, list) or len(answers) != len(labels):
        raise line.error(f"{key!r} must have as many labels as choices; correct it")
    if not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise line.error(f"an answer of {key!r} is empty or no string; correct it")
    if not all(label in (0, 1) for label in labels) or not 0 < sum(labels) < len(labels):
        raise line.error(f"{key!r} must mark at least one answer as true (1) and one as false (0); correct it")
    return tuple(answers), tuple(bool(label) for label in labels)
