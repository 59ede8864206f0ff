"""Bits per byte: how well a model predicts whole texts, whatever its tokenizer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from fairground.errors import RequestError
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import OPENING, Files, Item, Outcome, ScoredTask, opening
from fairground.types import Generator, Score, ScoreRequest

_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Item):
    """A text that the model reads from its start."""

    text: str


@dataclass(frozen=True, kw_only=True)
class BitsPerByte(ScoredTask[Text]):
    """-log2 p(text) over its bytes in UTF-8; over several texts, all bits over all bytes. Less is better.

    A text longer than the model's context is read in pieces (`requests_for`).
    """

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

    def ask_of(self, generator: Generator, item: Text, shots: int = 0) -> list[ScoreRequest]:
        return requests_for(generator, item.text)

    def judge(self, item: Text, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        logprobs = [score.logprob for score in scores]
        bits, size = -sum(logprobs) / math.log(2), float(len(item.text.encode()))
        record = {"asked": item.text, "scores": logprobs}
        return Outcome(item.id, item.domain, item.cluster, {"bits": bits, "bytes": size}, record)


def requests_for(generator: Generator, document: str) -> list[ScoreRequest]:
    """What is to be scored so that every token of the document is predicted once, after the start of a text.

    Where it is longer than the model's context, pieces of at most half of it, each after the one before. Raises
    RequestError for an empty document.
    """
    if not document.strip():
        raise RequestError("A document is empty, so it has no probability; leave it out.")
    context = generator.info.can.context_length
    # The token that begins a text takes a place too.
    if context is None or generator.count_tokens(document) < context:
        return [ScoreRequest("", document)]
    pieces = [""]
    size = 0
    for word in _WORD.findall(document):
        tokens = generator.count_tokens(word)
        if pieces[-1] and size + tokens > context // 2:
            pieces.append("")
            size = 0
        pieces[-1] += word
        size += tokens
    pieces[-1] += document[len(document.rstrip()) :]
    return [ScoreRequest(before, piece) for before, piece in zip(["", *pieces], pieces, strict=False)]
