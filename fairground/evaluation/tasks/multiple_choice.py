"""Multiple choice: each question after the same solved examples, answered by the likeliest choice."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from fairground.evaluation import metrics
from fairground.evaluation.lines import Line
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import OPENING, Files, Item, Outcome, ScoredTask, opening
from fairground.evaluation.tasks.few_shot import FewShotTask, read_items
from fairground.types import Score, ScoreRequest

CHOICES_ONLY = "choices_only"
CHOICES_ONLY_PROMPT = "Answer:"
RESERVED = {"id", "choices", "gold", "note"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceItem(Item):
    """A question with its choices. `gold` is the index of the right one; `fields` fill the task's prompt.

    `misconception` is the index of a choice that many people believe and that is false.
    """

    fields: Mapping[str, str] = field(hash=False)
    choices: tuple[str, ...]
    gold: int
    difficulty: str = ""
    misconception: int | None = None


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(FewShotTask[ChoiceItem], ScoredTask[ChoiceItem]):
    """Questions answered by the choice that the model finds likeliest.

    `description` stands before the first example, as lm-evaluation-harness has it. Balanced examples have the right
    choice in every place equally often. With `choices_only` the choices are asked without their question too: where the
    items are a suite's own, because it tells their author what they give away; of a published set, only if it says so.
    """

    kind: ClassVar[str] = "multiple_choice"
    keys: ClassVar[frozenset[str]] = frozenset(
        {"shots", "prompt", "group", "choices_only", "choices_only_prompt", "description", "choices", "gold", "strip"}
    )
    counts_in: ClassVar[tuple[str, ...]] = ("accuracy", "truthfulness")
    prompt: str
    choices_only: bool = True
    choices_only_prompt: str = CHOICES_ONLY_PROMPT
    description: str = ""

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        prompt, fields = settings.template("prompt")
        if reserved := RESERVED & set(fields):
            raise settings.error(f"the prompt may not show {sorted(reserved)[0]!r}; use other fields", "prompt")
        group = settings.text("group", "") or None
        tests, shots = read_items(
            settings, files, lambda line: _item(line, settings, fields, group, name), _asked, name
        )
        return cls(
            name=name,
            items=tests,
            metric=metric,
            prompt=prompt,
            shots=shots,
            choices_only=settings.flag("choices_only", not settings.flag("foreign")),
            choices_only_prompt=settings.text("choices_only_prompt", CHOICES_ONLY_PROMPT),
            description=settings.text("description", ""),
        )

    def question(self, item: ChoiceItem) -> str:
        return _asked(item)

    def label(self, item: ChoiceItem) -> int:
        return item.gold

    def solved(self, shot: ChoiceItem) -> str:
        return f"{self.prompt.format_map(shot.fields)} {shot.choices[shot.gold]}\n\n"

    def ask(self, item: ChoiceItem, shots: int = 0) -> list[ScoreRequest]:
        context = self.description + self.examples(item, shots) + self.prompt.format_map(item.fields)
        return [ScoreRequest(context, f" {choice}") for choice in item.choices]

    def judge(self, item: ChoiceItem, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        return judge_choices(item, asked, scores)


@dataclass(frozen=True, kw_only=True)
class ChoicesOnly(ScoredTask[ChoiceItem]):
    """The same choices without their question: what a model gets right here, the choices gave away.

    Above chance, the items can be answered without being read (Poliak et al. 2018, "Hypothesis only baselines").
    """

    kind: ClassVar[str] = CHOICES_ONLY
    prompts: Mapping[str, str]  # by item

    @classmethod
    def of(cls, tasks: Sequence[MultipleChoice]) -> ChoicesOnly:
        """The items of all these tasks."""
        return cls(
            name=CHOICES_ONLY,
            items=tuple(item for task in tasks for item in task.items),
            prompts={item.id: task.choices_only_prompt for task in tasks for item in task.items},
        )

    def ask(self, item: ChoiceItem, shots: int = 0) -> list[ScoreRequest]:
        return [ScoreRequest(self.prompts[item.id], f" {choice}") for choice in item.choices]

    def judge(self, item: ChoiceItem, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        return judge_choices(item, asked, scores)


def judge_choices(item: ChoiceItem, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
    """Accuracy, normalised accuracy, and what calibration is computed from: the probability of the right choice (among
    the choices), of the chosen one, and Brier's score (1950): the squared distance from certainty of the right one."""
    logprobs = [score.logprob for score in scores]
    chosen = metrics.chosen(logprobs)
    chosen_norm = metrics.chosen_norm(logprobs, item.choices)
    probabilities = metrics.softmax(logprobs)
    record: dict[str, Any] = {
        "asked": asked[0].context,
        "choices": list(item.choices),
        "scores": logprobs,
        "gold": item.gold,
        "chosen": chosen,
        "chosen_norm": chosen_norm,
        "right": chosen == item.gold,
    }
    if item.difficulty:
        record["difficulty"] = item.difficulty
    measures = {
        "accuracy": float(chosen == item.gold),
        "accuracy_norm": float(chosen_norm == item.gold),
        "confidence": max(probabilities),
        "brier": math.fsum((p - (i == item.gold)) ** 2 for i, p in enumerate(probabilities)),
    }
    if item.misconception is not None:
        record["misconception"] = item.misconception
        measures["misconception"] = float(chosen == item.misconception)
    return Outcome(item.id, item.domain, item.cluster, measures, record)


def _asked(item: ChoiceItem) -> str:
    return " ".join(item.fields.values())


def _item(line: Line, settings: Settings, fields: Sequence[str], group: str | None, task: str) -> ChoiceItem:
    """A choice follows the prompt after one space, so one that begins or ends with space would be another text."""
    choices_key, gold_key = settings.data.get("choices", "choices"), settings.text("gold", "gold")
    literal = isinstance(choices_key, list)
    needed = {"id", gold_key, *fields} | ({group} if group else set()) | (set() if literal else {choices_key})
    line.keys(needed, OPENING | {"difficulty", "misconception"})
    choices = settings.texts("choices") if literal else line.texts(settings.text("choices", "choices"), at_least=2)
    for choice in choices:
        if choice != choice.strip() and not line.foreign:
            raise line.error(f"the choice {choice!r} begins or ends with space; trim it")
    passage = line.text("passage") if "passage" in fields else ""
    known, shown = opening(line, task), {key: line.text(key) for key in fields}
    stripped = settings.texts("strip")
    if passage:
        known["cluster"] = f"passage {hashlib.sha256(passage.encode()).hexdigest()[:16]}"
    false = line.index("misconception", len(choices)) if "misconception" in line.data else None
    return ChoiceItem(
        **known,
        group=line.text(group) if group else "",
        fields={key: text.strip() if key in stripped else text for key, text in shown.items()},
        choices=choices,
        gold=line.gold(gold_key, choices),
        difficulty=line.text("difficulty", ""),
        misconception=false,
    )
