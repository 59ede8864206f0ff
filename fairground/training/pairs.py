"""Pairs of answers, of which people liked one better: read, checked, tokenized, and put into batches.

A row is {"prompt", "chosen", "rejected"}, each text or each messages, as TRL's trainers take them; messages may leave
the prompt out where both conversations begin with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fairground.errors import DataError
from fairground.models.chat_template import ChatTemplate
from fairground.models.packed import Packed
from fairground.models.tokenizer import Tokenizer
from fairground.training import rows
from fairground.training.text import read_messages
from fairground.training.tokens import Batch, Batches, Place, Tokens, token_bytes, too_long
from fairground.types import Message


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with a better and a worse answer, all text or all messages. `source`: file and line."""

    prompt: str | tuple[Message, ...]
    chosen: str | tuple[Message, ...]
    rejected: str | tuple[Message, ...]
    source: str

    @property
    def text(self) -> str:
        """Everything that is said in it, with an empty line between the turns."""
        parts = [part if isinstance(part, str) else _spoken(part) for part in (self.prompt, self.chosen, self.rejected)]
        return "\n\n".join(parts)


def _spoken(messages: Sequence[Message]) -> str:
    return "\n\n".join(message.content for message in messages)


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a file of JSON lines or parquet, or of all such files below a folder, sorted by name.

    Raises DataError, which names file and line, for a row that is no pair, or whose answers are empty or the same.
    """
    for file in rows.files(path, rows.ROWS):
        for row, where in rows.rows(file):
            yield _pair(row, where)


def _pair(row: Any, where: str) -> Pair:
    try:
        pair = _content(row, where)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(
            f'{where}: not {{"prompt": …, "chosen": …, "rejected": …}}, each of them text or each a list of {{"role", '
            '"content"}; correct it or take it out.'
        ) from None
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not isinstance(answer, str) and [message.role for message in answer][-1:] != ["assistant"]:
            raise DataError(f"{where}: {name} has no answer of the assistant at its end; correct it or take it out.")
        rows.check_text(answer if isinstance(answer, str) else answer[-1].content, f"{where}, {name}")
    if pair.chosen == pair.rejected:
        raise DataError(f"{where}: chosen and rejected are the same, so nothing is preferred; take the line out.")
    return pair


def _content(row: dict[str, Any], where: str) -> Pair:
    """A row's pair; whatever Python raises means that it is none."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if isinstance(chosen, str):
        return Pair(rows.line_ends(prompt or ""), rows.line_ends(chosen), rows.line_ends(rejected), where)
    better, worse = read_messages(chosen), read_messages(rejected)
    if prompt is not None:
        return Pair(read_messages(_turns(prompt)), better, worse, where)
    most = min(len(better), len(worse)) - 1
    shared = next((n for n in range(most) if better[n] != worse[n]), most)
    return Pair(better[:shared], better[shared:], worse[shared:], where)


def _turns(prompt: Any) -> Any:
    if isinstance(prompt, str):
        raise ValueError
    return prompt


@dataclass(frozen=True, slots=True)
class Pairs(Tokens):
    """Pairs as documents: 2p is prompt and chosen answer of pair p, 2p + 1 prompt and rejected; answers are learned.

    `reference`: each document's log-probability of its answer before training, float32 [D], once it is known.
    """

    reference: NDArray[np.float32] | None = None
    together: ClassVar[int] = 2

    def only(self, chosen: NDArray[np.bool_]) -> Pairs:
        """The documents d with `chosen[d]`, bool [D], the same for both of a pair."""
        kept = Tokens.only(self, chosen)
        reference = None if self.reference is None else self.reference[chosen]
        return Pairs(kept.ids, kept.learned, kept.starts, kept.sources, kept.bytes_of, reference)

    def better(self) -> Tokens:
        """The chosen answers alone, as documents."""
        return Tokens.only(self, np.arange(len(self)) % 2 == 0)

    def batches(self, size: int, context: int, seed: int) -> PairBatches:
        """Batches of whole pairs, about `size` predictions each; the context was seen to when they were tokenized."""
        return PairBatches(self, size, context, seed)


def tokenize_pairs(
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    named: str,
    *,
    context: int,
    cut: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Pairs:
    """The pairs as tokens; `named` is what an error calls them.

    As in TRL's DPOTrainer: prompt and answer are tokenized as one text, an answer in text ends with eos, and it begins
    where the prompt's own tokens end (or part from those of the whole). Raises DataError, naming file and line, for a
    pair of more than `context` predictions unless `cut`, which takes away its end; for one whose prompt leaves no room
    for an answer; and where there is no pair.
    """
    template = ChatTemplate(tokenizer.chat_template, special_tokens=tokenizer.special_tokens)
    ids: list[NDArray[np.int32]] = []
    learned: list[NDArray[np.bool_]] = []
    sources: list[str] = []
    for pair in pairs:
        prompt = _encoded(pair.prompt, (), tokenizer, template)
        both = [_encoded(pair.prompt, answer, tokenizer, template) for answer in (pair.chosen, pair.rejected)]
        begin = min(_common(prompt, row) for row in both)
        longest = max(len(row) for row in both) - 1
        if longest > context:
            if not cut:
                raise too_long(pair.source, longest, context)
            both = [row[: context + 1] for row in both]
        if any(len(row) <= max(begin, 1) for row in both) or both[0] == both[1]:
            raise DataError(
                f"{pair.source}: in {context:,} tokens the answers do not differ; shorten the prompt or take it out."
            )
        for row in both:
            ids.append(np.asarray(row, dtype=np.int32))
            learned.append(np.arange(len(row)) >= begin)
            sources.append(pair.source)
        if progress:
            progress(len(ids) // 2)
    if not ids:
        raise DataError(f"{named}: holds no pair of answers; give more data.")
    starts = np.concatenate(([0], np.cumsum([len(row) for row in ids], dtype=np.int64)))
    return Pairs(np.concatenate(ids), np.concatenate(learned), starts, sources, token_bytes(tokenizer))


def _encoded(
    prompt: str | tuple[Message, ...],
    answer: str | tuple[Message, ...],
    tokenizer: Tokenizer,
    template: ChatTemplate,
) -> list[int]:
    """The ids of prompt and answer; of the prompt up to where an answer begins where there is none yet."""
    end = tokenizer.special_tokens.get("eos_token", "")
    if isinstance(prompt, str):
        if not answer:
            return tokenizer.encode(prompt)
        assert isinstance(answer, str)
        return tokenizer.encode(prompt + answer + ("" if answer.endswith(end) else end))
    assert not isinstance(answer, str)
    if not prompt and not answer:
        return []
    text = template.render((*prompt, *answer), add_generation_prompt=not answer)
    if template.fallback and answer:
        text += end
    return tokenizer.encode(text, special=template.fallback)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class PairBatches(Batches):
    """Batches of whole pairs in an order that `seed` and the pass decide.

    A batch takes pairs until it has its `size` of predictions, and the next has as many fewer as the one before took
    too many (`Place.used`), so that a number of steps learns from as many tokens as in any other training.
    """

    def __init__(self, tokens: Pairs, size: int, context: int, seed: int) -> None:
        super().__init__(tokens, size, max(context, int(np.diff(tokens.starts).max())), seed)
        self._pairs = tokens
        self._lengths = np.diff(tokens.starts).reshape(-1, 2).sum(1) - 2

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The pairs in the order of one pass."""
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self._lengths))
        return self._order[1]

    def at(self, place: Place) -> tuple[Batch, Place]:
        """The batch that begins there, and where the one after it begins."""
        left, chosen = self.size - place.used, list[int]()
        epoch, number = place.epoch, place.stretch
        while left > 0 or not chosen:
            order = self.order(epoch)
            if number == len(order):
                epoch, number = epoch + 1, 0
                continue
            chosen.append(int(order[number]))
            left, number = left - int(self._lengths[chosen[-1]]), number + 1
        return self.batch(chosen), Place(epoch, number, min(-left, self.size))

    def whole(self) -> Iterator[Batch]:
        """Every pair once, in the data's order, in batches of at most `size` or of one pair."""
        held, room = list[int](), self.size
        for pair, length in enumerate(self._lengths.tolist()):
            if held and length > room:
                yield self.batch(held)
                held, room = [], self.size
            held.append(pair)
            room -= length
        yield self.batch(held)

    def batch(self, pairs: Sequence[int]) -> Batch:
        """The batch of these pairs: of each its prompt, once, and both answers.

        An answer begins with the prompt's last token, from which two different tokens are predicted.
        """
        spans, firsts, parents = list[tuple[int, int, int]](), list[int](), list[int]()
        for pair in pairs:
            starts = self._pairs.starts[2 * pair : 2 * pair + 3].tolist()
            answer = int(self._pairs.learned[starts[0] : starts[1]].argmax())
            shared = max(0, answer - 1)
            spans.append((starts[0], shared, 2 * pair))
            for document in (0, 1):
                rest = starts[document + 1] - starts[document] - 1 - shared
                spans.append((starts[document] + shared, rest, 2 * pair + document))
            parent = len(parents)
            firsts += [0, shared, shared]
            parents += [-1, parent, parent]
        made, known = self._batch(spans), self._pairs.reference
        packed = Packed.of([length for _, length, _ in spans], firsts, parents)
        reference = None if known is None else torch.from_numpy(known.reshape(-1, 2)[list(pairs)])
        return replace(made, packed=packed, together=3, reference=reference)
