"""`advise`: is it worth showing a model examples, or training it on them? Measured on held-out items, pair by pair.

An item is a question with its answer, perhaps with wrong ones beside it. Every way is measured on the same held-out
items: as the model is (zero-shot), with solved examples before the question (few-shot), and after a short training of
an adapter on the rest (LoRA). What is better has to be so significantly, and the cheaper way wins where it is not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairground.errors import DataError, RequestError
from fairground.evaluation.comparison import Values, compare_all
from fairground.evaluation.intervals import Interval, cluster_bootstrap, share
from fairground.loop.held_out import Reader, answer_lead, answer_logprobs
from fairground.types import Generator, Message, Request, Sampling

WAYS = ("zero-shot", "few-shot", "LoRA")  # the cheapest first
LEAST = 20  # items in all
HELD_OUT, MOST_HELD_OUT = 0.3, 200  # share of the items that is measured, and how many at most
LONGEST_EXACT = 32  # tokens of an answer, beyond which nobody writes it to the letter
LOGLIK, EXACT, ACCURACY = "log-likelihood", "exact match", "accuracy"


@dataclass(frozen=True, slots=True)
class Item:
    """A conversation that ends with a question, and its answer; `wrong`: the other choices, if it has some."""

    id: str
    prompt: tuple[Message, ...]
    answer: str
    wrong: tuple[str, ...] = ()

    def as_chat(self) -> dict[str, Any]:
        """As OpenAI's fine-tuning takes it."""
        turns = [*self.prompt, Message("assistant", self.answer)]
        return {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}


@dataclass(frozen=True, slots=True)
class Split:
    """Items to learn from or to show, and others to measure on."""

    shown: Sequence[Item]
    measured: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Way:
    """One way as it was measured: by measure the value of each item. `prompt_tokens`: the mean of a request."""

    name: str
    values: Mapping[str, Values]
    prompt_tokens: float

    def interval(self, measure: str) -> Interval:
        """The mean with its 95% interval."""
        values = [value for value, _ in self.values[measure].values()]
        clusters = [cluster for _, cluster in self.values[measure].values()]
        return cluster_bootstrap(values, clusters) if measure == LOGLIK else share(values, clusters)


def read_items(path: Path) -> list[Item]:
    """JSON lines of {"messages"} that end with the assistant's, {"prompt", "completion"}, or {"question", "choices",
    "gold"} (the place of the right choice).

    Raises DataError, which names file and line, for anything else, and for fewer than 20 items.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"{path} cannot be read ({reason}); give a file of JSON lines.") from None
    items: dict[str, Item] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = _item(json.loads(line))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            raise DataError(
                f'{path}, line {number}: not {{"messages"}} that end with an answer, {{"prompt", "completion"}} or '
                '{"question", "choices", "gold"}; correct it or take it out.'
            ) from None
        items.setdefault(item.id, item)
    if len(items) < LEAST:
        raise DataError(f"{path} has {len(items)} different items, but {LEAST} are needed to say anything; give more.")
    return list(items.values())


def _item(row: dict[str, Any]) -> Item:
    if "choices" in row:
        choices, gold = [str(choice) for choice in row["choices"]], row["gold"]
        if not isinstance(gold, int) or not 0 <= gold < len(choices) or len(choices) < 2:
            raise ValueError
        if len(set(choices)) != len(choices):
            raise ValueError
        wrong = (*choices[:gold], *choices[gold + 1 :])
        return _made(_turns(row.get("question") or row["prompt"]), choices[gold], wrong)
    if "messages" in row:
        turns = _turns(row["messages"])
        if turns[-1].role != "assistant" or len(turns) < 2:
            raise ValueError
        return _made(turns[:-1], turns[-1].content)
    completion = row["completion"]
    answer = completion if isinstance(completion, str) else _turns(completion)[-1].content
    return _made(_turns(row["prompt"]), answer)


def _turns(said: Any) -> tuple[Message, ...]:
    turns = (Message("user", said),) if isinstance(said, str) else tuple(Message(t["role"], t["content"]) for t in said)
    if not turns or not all(t.role in ("system", "user", "assistant") and t.content.strip() for t in turns):
        raise ValueError
    return turns


def _made(prompt: tuple[Message, ...], answer: str, wrong: tuple[str, ...] = ()) -> Item:
    if not answer.strip():
        raise ValueError
    text = json.dumps([[turn.role, turn.content] for turn in prompt])
    return Item(hashlib.sha256(text.encode()).hexdigest()[:16], prompt, answer, wrong)


def split(items: Sequence[Item]) -> Split:
    """Three items in ten are measured, 200 at most, by a hash of what is asked; equal questions are one item."""
    order = sorted(items, key=lambda item: item.id)
    count = min(MOST_HELD_OUT, max(1, round(HELD_OUT * len(order))))
    return Split(order[count:], order[:count])


def fitting_shots(reader: Reader, parts: Split, wanted: int, context: int | None) -> list[Item]:
    """So many examples that every held-out item fits into the context with them and its answer."""
    shots = list(parts.shown[:wanted])

    def fits() -> bool:
        try:
            longest = max(
                len(reader.prompt_tokens(Request(_with(shots, item)))) + len(reader.encode(item.answer, special=False))
                for item in parts.measured
            )
        except RequestError:
            return False
        return context is None or longest + 2 <= context

    while shots and not fits():
        shots.pop()
    return shots


def batch_tokens(reader: Reader, items: Sequence[Item]) -> int:
    """Tokens of a step of the short training: a dozen steps to a pass, but neither tiny nor huge ones."""
    whole = sum(len(reader.prompt_tokens(Request(item.prompt))) for item in items)
    whole += sum(len(reader.encode(item.answer, special=False)) for item in items)
    return min(1024, max(64, whole // 12))


def measure(
    name: str,
    reader: Reader,
    generator: Generator,
    items: Sequence[Item],
    shots: Sequence[Item] = (),
    progress: Callable[[int], None] = lambda items: None,
) -> Way:
    """One way on the held-out items; `reader` and `generator` are the same model.

    Log-likelihood is in nats per token of the answer, its end included. Items with choices have accuracy besides: the
    right one has the greatest log-likelihood. Short answers are also written, greedily, and compared as they are but
    for white space. Raises RequestError for an item that is longer than the model's context.
    """
    rows, owner = [], []
    for item in items:
        for other in item.wrong or (item.answer,):
            rows.append(_row(_with(shots, item), item.answer, other))
            owner.append(item)
    found: dict[str, list[tuple[float, float]]] = {item.id: [] for item in items}
    for item, both in zip(owner, answer_logprobs(reader, rows, progress), strict=True):
        found[item.id].append(both)
    lead = answer_lead(reader)
    tokens = {item.id: len(reader.encode(lead + item.answer, special=False)) + 1 for item in items}
    values: dict[str, Values] = {
        LOGLIK: {item.id: (found[item.id][0][0] / tokens[item.id], item.id) for item in items},
    }
    if all(item.wrong for item in items):
        values[ACCURACY] = {
            item.id: (float(all(right > wrong for right, wrong in found[item.id])), item.id) for item in items
        }
    elif max(tokens.values()) <= LONGEST_EXACT:
        asked = [Request(_with(shots, item), Sampling(max_tokens=LONGEST_EXACT)) for item in items]
        texts = [stream.completion().text for stream in [generator.submit(request) for request in asked]]
        values[EXACT] = {
            item.id: (float(text.split() == item.answer.split()), item.id)
            for item, text in zip(items, texts, strict=True)
        }
    lengths = [len(reader.prompt_tokens(Request(_with(shots, item)))) for item in items]
    return Way(name, values, sum(lengths) / len(lengths))


def _with(shots: Sequence[Item], item: Item) -> tuple[Message, ...]:
    """The item's conversation after those of the examples; a system prompt of its own stays first."""
    system = [turn for turn in item.prompt if turn.role == "system"]
    before = [
        turn for shot in shots for turn in (*shot.prompt, Message("assistant", shot.answer)) if turn.role != "system"
    ]
    return (*system, *before, *(turn for turn in item.prompt if turn.role != "system"))


def _row(prompt: Sequence[Message], answer: str, other: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in prompt],
        "chosen": [{"role": "assistant", "content": answer}],
        "rejected": [{"role": "assistant", "content": other}],
    }


@dataclass(frozen=True, slots=True)
class Advice:
    """Which way is worth it, by which measure, and every paired comparison (Holm over all of them)."""

    way: str
    measure: str
    comparisons: Sequence[Mapping[str, Any]]
    sentence: str


def advise(ways: Sequence[Way]) -> Advice:
    """The cheapest way that no dearer one beats significantly.

    It is judged by accuracy where the items have choices, and else by log-likelihood per token. `ways`: the cheapest
    first.
    """
    by = ACCURACY if ACCURACY in ways[0].values else LOGLIK
    found = compare_all(
        [
            ({"a": dear.name, "b": cheap.name, "metric": metric}, dear.values[metric], cheap.values[metric])
            for place, dear in enumerate(ways)
            for cheap in ways[:place]
            for metric in dear.values
        ]
    )
    best = ways[0].name
    for way in ways[1:]:
        entry = next((e for e in found if (e["a"], e["b"], e["metric"]) == (way.name, best, by)), None)
        if entry is not None and entry["significant"] and entry["difference"] > 0:
            best = way.name
    return Advice(best, by, found, _sentence(best, by, ways, found))


def _sentence(best: str, by: str, ways: Sequence[Way], found: Sequence[Mapping[str, Any]]) -> str:
    beside = ways[0].name if best != ways[0].name else ways[-1].name
    entry = next((e for e in found if {e["a"], e["b"]} == {best, beside} and e["metric"] == by), None)
    if entry is None:
        return "There was nothing to compare."
    sign = 1 if entry["a"] == best else -1
    ends = sorted((sign * entry["low"], sign * entry["high"]))
    digits, factor, unit = (2, 1, "nats per token") if by == LOGLIK else (1, 100, "points")
    size = f"{factor * sign * entry['difference']:+.{digits}f} {unit}"
    p = "p < 0.001" if entry["p"] < 0.001 else f"p = {entry['p']:.3f}"
    shown = f"{size} (95% {factor * ends[0]:+.{digits}f} to {factor * ends[1]:+.{digits}f}), {p}"
    if best == ways[0].name:
        return f"Keep the model as it is: nothing was shown to be better in {by} ({best} beside {beside}: {shown})."
    return f"{best} is worth it: {shown} in {by} beside {beside}."
