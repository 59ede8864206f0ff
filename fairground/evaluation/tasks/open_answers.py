"""Open questions: every model answers freely; a scorer, a judge or people say what the answers are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from fairground.evaluation import metrics
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import OPENING, Files, Item, Outcome, WrittenTask, opening
from fairground.evaluation.tasks.generation import written
from fairground.types import Completion, Message, Request, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenItem(Item):
    """A question that has no single right answer; `rubric` says what a judge should look for."""

    prompt: str
    rubric: str = ""


@dataclass(frozen=True, kw_only=True)
class OpenAnswers(WrittenTask[OpenItem]):
    """Prompts answered freely. `text_prompt` and `stop` serve models that have no chat template."""

    kind: ClassVar[str] = "open"
    keys: ClassVar[frozenset[str]] = frozenset({"text_prompt", "max_tokens", "stop"})
    counts_in: ClassVar[tuple[str, ...]] = ("relevance",)
    text_prompt: str = "{prompt}"
    max_tokens: int = 64
    stop: tuple[str, ...] = ()

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        text_prompt, fields = settings.template("text_prompt", "{prompt}")
        if fields != ("prompt",):
            raise settings.error("text_prompt must have the one field {prompt}; correct it", "text_prompt")
        items = []
        for line in files.lines(settings, "file"):
            line.keys({"id", "prompt"}, OPENING | {"rubric"})
            items.append(OpenItem(**opening(line, name), prompt=line.text("prompt"), rubric=line.text("rubric", "")))
            files.asks(line, "", items[-1].prompt)
        return cls(
            name=name, items=tuple(items), metric=metric, text_prompt=text_prompt,
            max_tokens=settings.count("max_tokens", 64), stop=settings.texts("stop"),
        )  # fmt: skip

    def ask(self, item: OpenItem, shots: int, chat: bool) -> Request:
        prompt = (Message("user", item.prompt),) if chat else self.text_prompt.format(prompt=item.prompt)
        sampling = Sampling(temperature=0.0, max_tokens=self.max_tokens, stop=() if chat else self.stop)
        return Request(prompt, sampling)

    def judge(self, item: OpenItem, asked: Request, answer: Completion) -> Outcome:
        repetition = metrics.repetition(answer.text)
        record = {**written(asked, answer), "asked": item.prompt, "repetition": repetition}
        return Outcome(item.id, item.domain, item.cluster, {"repetition": repetition}, record)
