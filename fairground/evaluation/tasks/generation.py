"""Written answers: filtered and matched, compared with references, or looked at for what should not be in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from fairground.evaluation import metrics
from fairground.evaluation.lines import Line
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import OPENING, Files, Item, Outcome, WrittenTask, opening
from fairground.evaluation.tasks.few_shot import FewShotTask, read_items
from fairground.types import Completion, Message, Request, Sampling

MATCHES = ("exact", "numeric", "regex")
DEFAULT_FILTER = r"(?s)(.*)"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionItem(Item):
    """A question, what the right answer is, and how it would be written out in a solved example."""

    fields: Mapping[str, str] = field(hash=False)
    answer: str
    written: str


@dataclass(frozen=True, kw_only=True)
class Generation(FewShotTask[QuestionItem], WrittenTask[QuestionItem]):
    """Questions answered in writing: what the filter finds in the answer must match the right one.

    `filter` is a regular expression; of what it finds, `take` is "first" or "last", its first group where it has one.
    Then "exact" compares without regard to case, space at the ends and a final full stop, "numeric" by value (commas
    and $ are left out, as lm-evaluation-harness does for GSM8K), and "regex" takes the right answer as a pattern.
    """

    kind: ClassVar[str] = "generation"
    keys: ClassVar[frozenset[str]] = frozenset(
        {"prompt", "answer", "answer_filter", "filter", "take", "match", "max_tokens", "stop", "shots", "description"}
    )
    counts_in: ClassVar[tuple[str, ...]] = ("exact_match",)
    prompt: str
    filter: str
    take: str
    match: str
    max_tokens: int
    stop: tuple[str, ...]
    description: str = ""

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        prompt, fields = settings.template("prompt")
        answer, pattern = settings.text("answer", "answer"), settings.pattern("answer_filter", DEFAULT_FILTER)

        def item(line: Line) -> QuestionItem:
            line.keys({"id", answer, *fields}, OPENING)
            written = line.text(answer)
            right = taken(pattern, written, "last")
            if right is None:
                raise line.error(f"the answer_filter finds nothing in {answer!r}; correct one of them")
            shown = {key: line.text(key) for key in fields}
            return QuestionItem(**opening(line, name), fields=shown, answer=right, written=written)

        items, shots = read_items(settings, files, item, _asked, name)
        return cls(
            name=name,
            items=items,
            shots=shots,
            metric=metric,
            prompt=prompt,
            filter=settings.pattern("filter", DEFAULT_FILTER),
            take=settings.one_of("take", ("first", "last"), "first"),
            match=settings.one_of("match", MATCHES, "exact"),
            max_tokens=settings.count("max_tokens", 128),
            stop=settings.texts("stop"),
            description=settings.text("description", ""),
        )

    def question(self, item: QuestionItem) -> str:
        return _asked(item)

    def label(self, item: QuestionItem) -> str:
        return item.answer.strip().casefold()

    def solved(self, shot: QuestionItem) -> str:
        return f"{self.prompt.format_map(shot.fields)} {shot.written}\n\n"

    def ask(self, item: QuestionItem, shots: int, chat: bool) -> Request:
        """As plain text, also of a chat model, since solved examples are text; as lm-evaluation-harness does."""
        prompt = self.description + self.examples(item, shots) + self.prompt.format_map(item.fields)
        return Request(prompt, Sampling(temperature=0.0, max_tokens=self.max_tokens, stop=self.stop))

    def judge(self, item: QuestionItem, asked: Request, answer: Completion) -> Outcome:
        found = taken(self.filter, answer.text, self.take)
        right = found is not None and matches(self.match, found, item.answer)
        record = {**written(asked, answer), "found": found, "gold": item.answer, "right": right}
        return Outcome(item.id, item.domain, item.cluster, {"exact_match": float(right)}, record)


def _asked(item: QuestionItem) -> str:
    return " ".join(item.fields.values())


def taken(pattern: str, text: str, take: str) -> str | None:
    """The first or last thing, not empty, that the pattern finds; its first group that took part, else all of it."""
    found = [match for match in re.finditer(pattern, text) if match.group()]
    if not found:
        return None
    match = found[0 if take == "first" else -1]
    return next((group for group in match.groups() if group is not None), match.group())


def matches(kind: str, found: str, right: str) -> bool:
    """Whether what was found is the right answer, in one of the ways of MATCHES."""
    if kind == "regex":
        return re.fullmatch(right, found.strip()) is not None
    if kind == "numeric":
        value = _number(found)
        return value is not None and value == _number(right)
    one, other = (text.strip().removesuffix(".").casefold() for text in (found, right))
    return one == other


def _number(text: str) -> float | None:
    try:
        return float(re.sub(r"[,$\s]", "", text).removesuffix("."))
    except ValueError:
        return None


def written(asked: Request, answer: Completion) -> dict[str, Any]:
    """What the record says of any written answer."""
    chat = not isinstance(asked.prompt, str)
    prompt = asked.prompt if isinstance(asked.prompt, str) else "\n".join(
        part.content for part in asked.prompt if isinstance(part, Message)
    )  # fmt: skip
    return {
        "asked": prompt,
        "asked_as": "chat" if chat else "text",
        "answer": answer.text,
        "tokens": len(answer.tokens),
        "finish_reason": answer.finish_reason,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceText(Item):
    """A sentence and how it may be translated."""

    source: str
    references: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Translation(WrittenTask[SourceText]):
    """Sentences to translate, by chrF (Popović 2015) and BLEU (Papineni et al. 2002) of sacrebleu (Post 2018).

    Each item's measure is its own chrF, from 0 to 1; the corpus scores of both stand beside the task.
    """

    kind: ClassVar[str] = "translation"
    keys: ClassVar[frozenset[str]] = frozenset({"prompt", "stop", "max_tokens", "language"})
    counts_in: ClassVar[tuple[str, ...]] = ("chrf",)
    prompt: str
    max_tokens: int
    stop: tuple[str, ...]

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        prompt, fields = settings.template("prompt")
        if fields != ("source",):
            raise settings.error("the prompt must have the one field {source}; correct it", "prompt")
        language, items = settings.text("language"), []
        for line in files.lines(settings, "file"):
            line.keys({"id", "source", "references"}, OPENING)
            known = {**opening(line, name), "language": language}
            references = line.texts("references", at_least=1)
            items.append(SourceText(**known, source=line.text("source"), references=references))
            files.asks(line, name, items[-1].source)
        return cls(
            name=name, items=tuple(items), metric=metric, prompt=prompt, max_tokens=settings.count("max_tokens", 96),
            stop=settings.texts("stop"),
        )  # fmt: skip

    def ask(self, item: SourceText, shots: int, chat: bool) -> Request:
        prompt = self.prompt.format(source=item.source)
        sampling = Sampling(temperature=0.0, max_tokens=self.max_tokens, stop=() if chat else self.stop)
        return Request((Message("user", prompt),) if chat else prompt, sampling)

    def judge(self, item: SourceText, asked: Request, answer: Completion) -> Outcome:
        text = " ".join(answer.text.split())
        record = {**written(asked, answer), "references": list(item.references)}
        return Outcome(item.id, item.domain, item.cluster, {"chrf": metrics.chrf(text, item.references)}, record)


def corpus_scores(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Corpus chrF and BLEU, both from 0 to 1, of a translation task's outcomes; nothing where there are none, as where
    no prompt fitted into the model."""
    if not outcomes:
        return {}
    answers = [" ".join(str(outcome.record["answer"]).split()) for outcome in outcomes]
    references = [outcome.record["references"] for outcome in outcomes]
    return {"corpus_chrf": metrics.corpus_chrf(answers, references), "bleu": metrics.bleu(answers, references)}
