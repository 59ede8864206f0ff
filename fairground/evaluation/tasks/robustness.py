"""Robustness: the same questions written in other ways. What is only right in one way is not known."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from fairground.evaluation import metrics
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import Files, Outcome, ScoredTask
from fairground.evaluation.tasks.multiple_choice import ChoiceItem, MultipleChoice
from fairground.types import Score, ScoreRequest

TYPO_EVERY = 12  # letters, about; one in a dozen is much, and still easy to read
Rewrite = Callable[[str, random.Random], str]


def typos(text: str, rng: random.Random) -> str:
    """Neighbouring letters inside words swapped, or one left out or doubled, about one in TYPO_EVERY letters."""
    out: list[str] = []
    for word in text.split(" "):
        letters = list(word)
        inside = [i for i in range(1, len(letters) - 2) if letters[i].isalpha() and letters[i + 1].isalpha()]
        if inside and rng.random() < len(letters) / TYPO_EVERY:
            at, how = rng.choice(inside), rng.randrange(3)
            if how == 0:
                letters[at], letters[at + 1] = letters[at + 1], letters[at]
            elif how == 1:
                del letters[at]
            else:
                letters.insert(at, letters[at])
        out.append("".join(letters))
    return " ".join(out)


def lower_case(text: str, rng: random.Random) -> str:
    return text.lower()


def upper_case(text: str, rng: random.Random) -> str:
    return text.upper()


def spacing(text: str, rng: random.Random) -> str:
    """Double spaces, and spaces before punctuation, here and there."""
    chances = {" ": 0.3, **dict.fromkeys(".,;:?!", 0.5)}
    return "".join(" " * (rng.random() < chances.get(character, 0.0)) + character for character in text)


REWRITES: dict[str, Rewrite] = {
    "typos": typos,
    "lower_case": lower_case,
    "upper_case": upper_case,
    "spacing": spacing,
}


@dataclass(frozen=True, kw_only=True)
class Robustness(ScoredTask[ChoiceItem]):
    """Multiple choice, each question as it is, after every rewrite of REWRITES, and in every other prompt.

    `robust` is 1 where the choice is right in all of them: worst-case accuracy, as HELM's robustness (Liang et al.
    2022, section 4.4). `accuracy` is the mean over them, `original` of the question as it is. Choices stay as they
    are, and what is random has the item's id as its seed.
    """

    kind: ClassVar[str] = "robustness"
    keys: ClassVar[frozenset[str]] = frozenset({"prompts", "per_file", "files", "prompt"})
    counts_in: ClassVar[tuple[str, ...]] = ("robustness",)
    prompt: str
    prompts: tuple[str, ...]  # other ways to ask

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        other = settings.texts("prompts")
        for prompt in other:
            if settings.fields(prompt, "prompts") != settings.template("prompt")[1]:
                raise settings.error("each of 'prompts' must have the fields of 'prompt'; correct it", "prompts")
        plain = {key: value for key, value in settings.data.items() if key not in ("prompts", "files", "per_file")}
        most = settings.count("per_file", 10**9)
        found: list[ChoiceItem] = []
        for file in settings.texts("files"):
            part = Settings(settings.path, settings.at, {**plain, "file": file, "shots": file}, settings.source)
            found += MultipleChoice.read(name, part, files, None).items[:most]
        if not found:
            raise settings.error("'files' must name at least one file of multiple-choice items; set it", "files")
        return cls(name=name, items=tuple(found), metric=metric, prompt=settings.text("prompt"), prompts=other)

    def ways(self, item: ChoiceItem) -> dict[str, str]:
        """By the name of each way, the question as it is asked so."""
        fields = dict(item.fields)
        asked = {"original": self.prompt.format_map(fields)}
        for name, rewrite in REWRITES.items():
            rng = random.Random(f"{item.id} {name}")
            asked[name] = self.prompt.format_map({key: rewrite(text, rng) for key, text in fields.items()})
        for number, prompt in enumerate(self.prompts, start=1):
            asked[f"prompt {number}"] = prompt.format_map(fields)
        return asked

    def ask(self, item: ChoiceItem, shots: int = 0) -> list[ScoreRequest]:
        return [ScoreRequest(asked, f" {choice}") for asked in self.ways(item).values() for choice in item.choices]

    def judge(self, item: ChoiceItem, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        width, logprobs = len(item.choices), [score.logprob for score in scores]
        names = list(self.ways(item))
        each = [logprobs[start : start + width] for start in range(0, len(logprobs), width)]
        chosen = [metrics.chosen(own) for own in each]
        right = [float(one == item.gold) for one in chosen]
        record = {
            "asked": asked[0].context,
            "choices": list(item.choices),
            "gold": item.gold,
            "ways": dict(zip(names, chosen, strict=True)),
            "scores": each[0],
            "chosen": chosen[0],
            "right": all(right),
        }
        measures = {"robustness": min(right), "accuracy": sum(right) / len(right), "original": right[0]}
        return Outcome(item.id, item.domain, item.cluster, measures, record)
