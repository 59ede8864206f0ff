"""The kinds of task that are scored by log-likelihood, each as one sentence: these items, asked so, judged so."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fairground.evaluation import metrics
from fairground.evaluation.items import ChoiceItem, Passage
from fairground.evaluation.suite import MultipleChoice, OrderDiscrimination
from fairground.types import Score, ScoreRequest

ItemT = TypeVar("ItemT", ChoiceItem, Passage)

CHOICES_ONLY = "choices_only"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one item: its measures, and for the record what was asked, scored and chosen."""

    id: str
    domain: str
    cluster: str
    measures: Mapping[str, float]
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ScoredTask(Generic[ItemT]):
    """Items, how each is asked, and how its scores (in the order of the requests) are judged."""

    name: str
    items: Sequence[ItemT]
    ask: Callable[[ItemT], list[ScoreRequest]]
    judge: Callable[[ItemT, Sequence[Score]], Outcome]


def multiple_choice(task: MultipleChoice, items: Sequence[ChoiceItem], shots: int) -> ScoredTask[ChoiceItem]:
    """Each question after the same `shots` solved examples, answered by the likeliest choice."""
    examples = _solved_examples(task, shots)

    def ask(item: ChoiceItem) -> list[ScoreRequest]:
        context = examples.get(item.group, "") + task.prompt.format_map(item.fields)
        return [ScoreRequest(context, f" {choice}") for choice in item.choices]

    def judge(item: ChoiceItem, scores: Sequence[Score]) -> Outcome:
        return _judge_choices(item, ask(item), scores)

    return ScoredTask(task.name, items, ask, judge)


def choices_only(parts: Sequence[tuple[MultipleChoice, Sequence[ChoiceItem]]]) -> ScoredTask[ChoiceItem]:
    """The same choices without their question: what a model gets right here, the choices gave away.

    Above chance, the items can be answered without being read (Poliak et al. 2018, "Hypothesis only baselines").
    """
    prompts = {item.id: task.choices_only_prompt for task, items in parts for item in items}

    def ask(item: ChoiceItem) -> list[ScoreRequest]:
        return [ScoreRequest(prompts[item.id], f" {choice}") for choice in item.choices]

    def judge(item: ChoiceItem, scores: Sequence[Score]) -> Outcome:
        return _judge_choices(item, ask(item), scores)

    return ScoredTask(CHOICES_ONLY, [item for _, items in parts for item in items], ask, judge)


def order_discrimination(task: OrderDiscrimination, items: Sequence[Passage]) -> ScoredTask[Passage]:
    """Each passage beside the same sentences in another order: the original should be the likelier."""
    reorder = shuffled if task.difficulty == "random" else neighbours_swapped

    def ask(item: Passage) -> list[ScoreRequest]:
        return [ScoreRequest("", " ".join(order)) for order in (item.sentences, reorder(item))]

    def judge(item: Passage, scores: Sequence[Score]) -> Outcome:
        original, reordered = scores
        right = metrics.prefers_original(original, reordered)
        record = {
            "asked": "Which order of the sentences is likelier?",
            "choices": [request.continuation for request in ask(item)],
            "scores": [original.logprob, reordered.logprob],
            "gold": 0,
            # A tie chooses neither, and counts as half.
            "chosen": {1.0: 0, 0.0: 1}.get(right),
            "right": {1.0: True, 0.0: False}.get(right),
        }
        return Outcome(item.id, item.domain, item.id, {"coherence": right}, record)

    return ScoredTask(task.name, items, ask, judge)


def shuffled(passage: Passage) -> tuple[str, ...]:
    """The sentences in a random order that is never the original one; the passage's id is the seed."""
    rng = random.Random(f"{passage.id} shuffled")
    order = list(passage.sentences)
    while tuple(order) == passage.sentences:
        rng.shuffle(order)
    return tuple(order)


def neighbours_swapped(passage: Passage) -> tuple[str, ...]:
    """The sentences with one pair of neighbours swapped; the passage's id is the seed."""
    first = random.Random(f"{passage.id} swapped").randrange(len(passage.sentences) - 1)
    order = list(passage.sentences)
    order[first : first + 2] = reversed(order[first : first + 2])
    return tuple(order)


def _solved_examples(task: MultipleChoice, shots: int) -> dict[str, str]:
    """For each group the text of its first `shots` examples, the same for every item so that prefixes are shared."""
    examples: dict[str, str] = {}
    for group in dict.fromkeys(item.group for item in task.items):
        own = [shot for shot in task.shots if shot.group == group][:shots]
        solved = [f"{task.prompt.format_map(shot.fields)} {shot.choices[shot.gold]}\n\n" for shot in own]
        examples[group] = "".join(solved)
    return examples


def _judge_choices(item: ChoiceItem, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
    logprobs = [score.logprob for score in scores]
    chosen = metrics.chosen(logprobs)
    chosen_norm = metrics.chosen_norm(logprobs, item.choices)
    record = {
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
    measures = {"accuracy": float(chosen == item.gold), "accuracy_norm": float(chosen_norm == item.gold)}
    return Outcome(item.id, item.domain, item.cluster, measures, record)
