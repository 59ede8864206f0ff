"""Documents as token ids, and the batches that are made of them.

A document longer than the context is cut into stretches of it, each of which starts at position 0 again; a batch is
filled with whole stretches and a part of one, whose rest begins the next batch. No token is lost or seen twice in a
pass over the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairground.errors import DataError
from fairground.models.chat_template import ChatTemplate
from fairground.models.packed import Packed
from fairground.models.tokenizer import Tokenizer
from fairground.training.text import Document, read_documents


@dataclass(frozen=True, slots=True)
class Tokens:
    """Documents one after another.

    `ids` int32 [T]; `learned` bool [T]: whether predicting this token counts; document d owns `starts[d]` up to
    `starts[d + 1]`. `sources[d]` says where it came from. `bytes_of` int32 [V]: UTF-8 bytes that each token spells.
    """

    ids: NDArray[np.int32]
    learned: NDArray[np.bool_]
    starts: NDArray[np.int64]
    sources: Sequence[str]
    bytes_of: NDArray[np.int32]

    def __len__(self) -> int:
        """Documents."""
        return len(self.starts) - 1

    @property
    def predictions(self) -> int:
        """Tokens that are predicted in one pass: all but each document's first."""
        return len(self.ids) - len(self)

    def only(self, chosen: NDArray[np.bool_]) -> Tokens:
        """The documents d with `chosen[d]`, bool [D]."""
        lengths = np.diff(self.starts)
        kept = np.repeat(chosen, lengths)
        starts = np.concatenate(([0], np.cumsum(lengths[chosen], dtype=np.int64)))
        sources = [source for source, keep in zip(self.sources, chosen.tolist(), strict=True) if keep]
        return Tokens(self.ids[kept], self.learned[kept], starts, sources, self.bytes_of)

    def joined(self, other: Tokens) -> Tokens:
        """These documents and then the other's, of the same tokenizer."""
        starts = np.concatenate((self.starts, self.starts[-1] + other.starts[1:]))
        ids, learned = np.concatenate((self.ids, other.ids)), np.concatenate((self.learned, other.learned))
        return Tokens(ids, learned, starts, [*self.sources, *other.sources], self.bytes_of)

    def digest(self) -> str:
        """SHA-256 of ids, starts and what is learned: two runs on one text agree in it."""
        digest = hashlib.sha256(self.ids.tobytes())
        digest.update(self.starts.tobytes())
        digest.update(np.packbits(self.learned).tobytes())
        return digest.hexdigest()


def tokenize(paths: Sequence[Path], tokenizer: Tokenizer, *, progress: Callable[[int], None] | None = None) -> Tokens:
    """Reads and tokenizes all documents under the paths. `progress` is told how many documents there are so far.

    Raises DataError as `tokenize_documents`, and for text that cannot be read.
    """
    documents = (document for path in paths for document in read_documents(path))
    return tokenize_documents(documents, tokenizer, ", ".join(map(str, paths)), progress=progress)


def tokenize_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    named: str,
    *,
    progress: Callable[[int], None] | None = None,
) -> Tokens:
    """The documents as tokens; `named` is what an error calls them.

    A text begins with the token that begins texts (bos, else eos) and ends with eos; a conversation is what the chat
    template makes of it, and only the assistant's turns are learned. Raises
    DataError where no document has two tokens, and for a tokenizer that cannot end a text.
    """
    if tokenizer.eos_id is None:
        raise DataError(
            "The tokenizer has no token that ends a text (eos_token), so documents could not be told apart."
        )
    template = ChatTemplate(tokenizer.chat_template, special_tokens=tokenizer.special_tokens)
    ids: list[NDArray[np.int32]] = []
    learned: list[NDArray[np.bool_]] = []
    sources: list[str] = []
    for document in documents:
        pieces = [*_pieces(document, tokenizer, template), ([tokenizer.eos_id], True)]
        row = np.concatenate([np.asarray(part, dtype=np.int32) for part, _ in pieces])
        if len(row) < 2:
            continue
        ids.append(row)
        learned.append(np.concatenate([np.full(len(part), counts) for part, counts in pieces]))
        sources.append(document.source)
        if progress:
            progress(len(ids))
    if not ids:
        raise DataError(f"{named}: no document is longer than a token; give more text.")
    starts = np.concatenate(([0], np.cumsum([len(row) for row in ids], dtype=np.int64)))
    return Tokens(np.concatenate(ids), np.concatenate(learned), starts, sources, token_bytes(tokenizer))


def _pieces(document: Document, tokenizer: Tokenizer, template: ChatTemplate) -> Iterable[tuple[list[int], bool]]:
    """Token ids, and whether they are learned. An assistant's turn is tokenized apart from what it answers, because
    that is how the model meets it when it answers."""
    if document.messages is None:
        first = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        ids = tokenizer.encode(document.text)
        yield [first] if first is not None and ids[:1] != [first] else [], True
        yield ids, True
        return
    written = ""
    special = template.fallback
    for number, message in enumerate(document.messages):
        if message.role != "assistant":
            continue
        asked = template.render(document.messages[:number]) if number else ""
        answered = template.render(document.messages[: number + 1], add_generation_prompt=False)
        if not asked.startswith(written) or not answered.startswith(asked):
            asked = written  # a template that rewrites earlier turns: the whole turn is learned
        yield tokenizer.encode(asked[len(written) :], special=special and not written), False
        yield tokenizer.encode(answered[len(asked) :], special=False), True
        written = answered


def token_bytes(tokenizer: Tokenizer) -> NDArray[np.int32]:
    """How many UTF-8 bytes each token spells: int32 [V]; 0 for special tokens."""
    return np.asarray([tokenizer.byte_length(token) for token in range(tokenizer.vocab_size)], dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Batch:
    """Stretches of documents, packed: `ids` and `targets` int64 [N], `learned` bool [N] of the targets.

    `index` int64 [N], always on the CPU: where in the text each of `ids` stands.
    """

    ids: Tensor
    targets: Tensor
    learned: Tensor
    packed: Packed
    documents: tuple[int, ...]
    index: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        ids, targets, learned = (x.to(device, non_blocking=True) for x in (self.ids, self.targets, self.learned))
        return Batch(ids, targets, learned, self.packed, self.documents, self.index)

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch's stretches in order, in parts of about `size` predictions (0: all at once)."""
        if not size:
            yield self
            return
        first = 0
        starts, count = self.packed.starts, len(self.documents)
        while first < count:
            last = first + 1
            while last < count and starts[last + 1] - starts[first] <= size:
                last += 1
            yield self.only(first, last)
            first = last

    def only(self, first: int, last: int) -> Batch:
        """The stretches from `first` up to `last`."""
        rows = slice(self.packed.starts[first], self.packed.starts[last])
        packed, documents = Packed.of(self.packed.lengths[first:last]), self.documents[first:last]
        index = None if self.index is None else self.index[rows]
        return Batch(self.ids[rows], self.targets[rows], self.learned[rows], packed, documents, index)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next batch begins: the pass over the text, the stretch in its order, the tokens of it already used."""

    epoch: int = 0
    stretch: int = 0
    used: int = 0


class Batches:
    """Batches of exactly `size` predictions in an order that `seed` and the pass decide; no state between calls."""

    def __init__(self, tokens: Tokens, size: int, context: int, seed: int) -> None:
        self.tokens, self.size, self.context, self.seed = tokens, size, context, seed
        lengths = np.diff(tokens.starts) - 1
        counts = -(-lengths // context)
        self._document = np.repeat(np.arange(len(tokens)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self._first = tokens.starts[self._document] + within * context
        self._length = np.minimum(context, tokens.starts[self._document + 1] - 1 - self._first)
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The stretches in the order of one pass."""
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self._first))
        return self._order[1]

    def at(self, place: Place) -> tuple[Batch, Place]:
        """The batch that begins there, and where the one after it begins."""
        left, spans = self.size, []
        epoch, number, used = place.epoch, place.stretch, place.used
        while left:
            order = self.order(epoch)
            if number == len(order):
                epoch, number = epoch + 1, 0
                continue
            stretch = int(order[number])
            length = min(left, int(self._length[stretch]) - used)
            spans.append((int(self._first[stretch]) + used, length, int(self._document[stretch])))
            left, used = left - length, used + length
            if used == self._length[stretch]:
                number, used = number + 1, 0
        return self._batch(spans), Place(epoch, number, used)

    def whole(self) -> Iterable[Batch]:
        """Every stretch once, in the text's order, in batches of at most `size`: for measuring."""
        spans: list[tuple[int, int, int]] = []
        room = self.size
        for first, length, document in zip(
            self._first.tolist(), self._length.tolist(), self._document.tolist(), strict=True
        ):
            if spans and length > room:
                yield self._batch(spans)
                spans, room = [], self.size
            spans.append((first, length, document))
            room -= length
        if spans:
            yield self._batch(spans)

    def _batch(self, spans: Sequence[tuple[int, int, int]]) -> Batch:
        index = np.concatenate([np.arange(first, first + length) for first, length, _ in spans])
        ids = torch.from_numpy(self.tokens.ids[index].astype(np.int64))
        targets = torch.from_numpy(self.tokens.ids[index + 1].astype(np.int64))
        learned = torch.from_numpy(self.tokens.learned[index + 1])
        packed = Packed.of([length for _, length, _ in spans])
        documents = tuple(document for _, _, document in spans)
        return Batch(ids, targets, learned, packed, documents, torch.from_numpy(index))
