"""Bits per byte: how well a model predicts whole texts, whatever its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import OPENING, Files, Item, Outcome, ScoredTask, opening
from fairground.types import Score, ScoreRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Item):
    """A text that the model reads from its start."""

    text: str


@dataclass(frozen=True, kw_only=True)
class BitsPerByte(ScoredTask[Text]):
    """-log2 p(text) over its bytes in UTF-8; over several texts, all bits over all bytes. Less is better."""

    kind: ClassVar[str] = "text"
    keys: ClassVar[frozenset[str]] = frozenset({"text"})
    counts_in: ClassVar[tuple[str, ...]] = ("bits_per_byte",)

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        key, items = settings.text("text", "text"), []
        for line in files.lines(settings, "file"):
            line.keys({"id", key}, OPENING)
            items.append(Text(**opening(line, name), text=line.text(key)))
            files.asks(line, name, items[-1].text)
        return cls(name=name, items=tuple(items), metric=metric)

    def ask(self, item: Text, shots: int = 0) -> list[ScoreRequest]:
        return [ScoreRequest("", item.text)]

    def judge(self, item: Text, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        (score,) = scores
        bits, size = -score.logprob / math.log(2), float(len(item.text.encode()))
        record = {"asked": item.text, "scores": [score.logprob]}
        return Outcome(item.id, item.domain, item.cluster, {"bits": bits, "bytes": size}, record)
