"""Open questions: every model answers freely; a scorer, a judge or people say what the answers are worth."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from fairground.evaluation import metrics
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import OPENING, Files, Item, Outcome, WrittenTask, opening
from fairground.evaluation.tasks.generation import written
from fairground.types import Completion, Message, Request, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenItem(Item):
    """A question that has no single right answer; `rubric` says what a judge should look for.

    `further`: what is asked after the answer, and after the answer to that.
    """

    prompt: str
    rubric: str = ""
    further: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OpenAnswers(WrittenTask[OpenItem]):
    """Prompts answered freely. `text_prompt` and `stop` serve models that have no chat template.

    Where suite.toml names the field of each line that lists a conversation's `turns`, they are asked one after the
    other, each after the answers so far (MT-Bench, Zheng et al. 2023). The record's `asked` and `answer` are the first
    turn's, `turns` has all.
    """

    kind: ClassVar[str] = "open"
    keys: ClassVar[frozenset[str]] = frozenset({"text_prompt", "max_tokens", "stop", "turns", "domain"})
    counts_in: ClassVar[tuple[str, ...]] = ("relevance",)
    text_prompt: str = "{prompt}"
    max_tokens: int = 64
    stop: tuple[str, ...] = ()

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        text_prompt, fields = settings.template("text_prompt", "{prompt}")
        if fields != ("prompt",):
            raise settings.error("text_prompt must have the one field {prompt}; correct it", "text_prompt")
        turns, domain, items = settings.text("turns", "") or None, settings.text("domain", "domain"), []
        for line in files.lines(settings, "file"):
            line.keys({"id", turns or "prompt"}, OPENING | {"rubric", domain})
            first, *further = line.texts(turns, at_least=1) if turns else [line.text("prompt")]
            known = {**opening(line, name), "domain": line.text(domain, name)}
            items.append(OpenItem(**known, prompt=first, rubric=line.text("rubric", ""), further=tuple(further)))
            files.asks(line, "", items[-1].prompt)
        return cls(
            name=name, items=tuple(items), metric=metric, text_prompt=text_prompt,
            max_tokens=settings.count("max_tokens", 64), stop=settings.texts("stop"),
        )  # fmt: skip

    def ask(self, item: OpenItem, shots: int, chat: bool) -> Request:
        prompt = (Message("user", item.prompt),) if chat else self.text_prompt.format(prompt=item.prompt)
        sampling = Sampling(temperature=0.0, max_tokens=self.max_tokens, stop=() if chat else self.stop)
        return Request(prompt, sampling)

    def next_turn(self, item: OpenItem, said: Sequence[Completion], chat: bool) -> Request | None:
        if len(said) > len(item.further):
            return None
        turns = (item.prompt, *item.further)
        sampling = self.ask(item, 0, chat).sampling
        if not chat:
            before = "".join(
                f"{self.text_prompt.format(prompt=turn)}{answer.text.rstrip()}\n\n"
                for turn, answer in zip(turns, said, strict=False)
            )
            return Request(before + self.text_prompt.format(prompt=turns[len(said)]), sampling)
        messages = [Message("user", turns[0])]
        for turn, answer in zip(item.further, said, strict=False):
            messages += [Message("assistant", answer.text), Message("user", turn)]
        return Request(tuple(messages), sampling)

    def judge_turns(self, item: OpenItem, asked: Sequence[Request], said: Sequence[Completion]) -> Outcome:
        first = self.judge(item, asked[0], said[0])
        if not item.further:
            return first
        turns = [
            {"asked": turn, "answer": answer.text, "tokens": len(answer.tokens), "finish_reason": answer.finish_reason}
            for turn, answer in zip((item.prompt, *item.further), said, strict=True)
        ]
        repetition = statistics.fmean(metrics.repetition(answer.text) for answer in said)
        measures, record = {"repetition": repetition}, {**first.record, "repetition": repetition, "turns": turns}
        return Outcome(item.id, item.domain, item.cluster, measures, record)

    def judge(self, item: OpenItem, asked: Request, answer: Completion) -> Outcome:
        repetition = metrics.repetition(answer.text)
        record = {**written(asked, answer), "asked": item.prompt, "repetition": repetition}
        return Outcome(item.id, item.domain, item.cluster, {"repetition": repetition}, record)
