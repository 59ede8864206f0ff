"""Documents as token ids, and the batches that are made of them.

A document longer than the context is cut into stretches of it, each of which starts at position 0 again; a batch is
filled with whole stretches and a part of one, whose rest begins the next batch. No token is lost or seen twice in a
pass over the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairground.errors import DataError
from fairground.models.chat_template import ChatTemplate
from fairground.models.packed import Packed
from fairground.models.tokenizer import Tokenizer
from fairground.training.chats import tokenize_chat
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
    together: ClassVar[int] = 1  # documents that belong together: they are learned, or measured, or neither

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

    def batches(self, size: int, context: int, seed: int) -> Batches:
        """Batches of `size` predictions of these documents."""
        return Batches(self, size, context, seed)

    def digest(self) -> str:
        """SHA-256 of ids, starts and what is learned: two runs on one text agree in it."""
        digest = hashlib.sha256(self.ids.tobytes())
        digest.update(self.starts.tobytes())
        digest.update(np.packbits(self.learned).tobytes())
        return digest.hexdigest()


def tokenize(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    *,
    context: int | None = None,
    cut: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Tokens:
    """Reads and tokenizes all documents under the paths. `progress` is told how many documents there are so far.

    Raises DataError as `tokenize_documents`, and for text that cannot be read.
    """
    documents = (document for path in paths for document in read_documents(path))
    named = ", ".join(map(str, paths))
    return tokenize_documents(documents, tokenizer, named, context=context, cut=cut, progress=progress)


def tokenize_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    named: str,
    *,
    context: int | None = None,
    cut: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Tokens:
    """The documents as tokens; `named` is what an error calls them.

    A text begins with the token that begins texts (bos, else eos) and ends with eos; a conversation is what the chat
    template makes of it, and only the assistant's turns are learned (`tokenize_chat`). Raises DataError where no
    document has two tokens, for a tokenizer that cannot end a text, and, naming file and line, for a conversation of
    more than `context` predictions unless `cut`, which takes away its end.
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
        if document.messages is None:
            row = _text(document.text, tokenizer, tokenizer.eos_id)
            counts = [True] * len(row)
        else:
            row, counts = tokenize_chat(document.messages, tokenizer, template)
            if context is not None and len(row) > context + 1:
                row, counts = _fitted(row, counts, document.source, context, cut)
        if len(row) < 2:
            continue
        ids.append(np.asarray(row, dtype=np.int32))
        learned.append(np.asarray(counts, dtype=np.bool_))
        sources.append(document.source)
        if progress:
            progress(len(ids))
    if not ids:
        raise DataError(f"{named}: no document is longer than a token; give more text.")
    starts = np.concatenate(([0], np.cumsum([len(row) for row in ids], dtype=np.int64)))
    return Tokens(np.concatenate(ids), np.concatenate(learned), starts, sources, token_bytes(tokenizer))


def _text(text: str, tokenizer: Tokenizer, end: int) -> list[int]:
    """A text's ids between those that begin and end it."""
    first = tokenizer.bos_id if tokenizer.bos_id is not None else end
    ids = tokenizer.encode(text)
    return [*([first] if ids[:1] != [first] else []), *ids, end]


def _fitted(row: list[int], counts: list[bool], source: str, context: int, cut: bool) -> tuple[list[int], list[bool]]:
    if not cut:
        raise too_long(source, len(row) - 1, context)
    row, counts = row[: context + 1], counts[: context + 1]
    if not any(counts[1:]):
        raise DataError(f"{source}: no answer of the assistant within {context:,} tokens; shorten it or take it out.")
    return row, counts


def too_long(source: str, length: int, context: int) -> DataError:
    """For a conversation or a pair that the context cannot hold; lengths in predictions."""
    return DataError(
        f"{source}: {length:,} tokens, more than the context of {context:,}; shorten it, give a longer --context, or "
        "--cut to leave out what is too long."
    )


def token_bytes(tokenizer: Tokenizer) -> NDArray[np.int32]:
    """How many UTF-8 bytes each token spells: int32 [V]; 0 for special tokens."""
    return np.asarray([tokenizer.byte_length(token) for token in range(tokenizer.vocab_size)], dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Batch:
    """Stretches of documents, packed: `ids` and `targets` int64 [N], `learned` bool [N] of the targets.

    `together`: stretches that no part may tear apart, 3 for a prompt and its two answers. `reference` float32
    [pairs, 2]: both answers' log-probabilities before training. `index` int64 [N], always on the CPU: where in the
    text each of `ids` stands.
    """

    ids: Tensor
    targets: Tensor
    learned: Tensor
    packed: Packed
    documents: tuple[int, ...]
    together: int = 1
    reference: Tensor | None = None
    index: Tensor | None = None

    @property
    def count(self) -> int:
        """What the step's sum is divided by: its learned predictions, or its pairs."""
        return len(self.documents) // self.together if self.together > 1 else int(self.learned.sum())

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        ids, targets, learned = (x.to(device, non_blocking=True) for x in (self.ids, self.targets, self.learned))
        reference = None if self.reference is None else self.reference.to(device, non_blocking=True)
        return replace(self, ids=ids, targets=targets, learned=learned, reference=reference)

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch's stretches in order, in parts of about `size` predictions (0: all at once)."""
        if not size:
            yield self
            return
        first = 0
        starts, count = self.packed.starts, len(self.documents)
        while first < count:
            last = first + self.together
            while last < count and starts[last + self.together] - starts[first] <= size:
                last += self.together
            yield self.only(first, last)
            first = last

    def only(self, first: int, last: int) -> Batch:
        """The stretches from `first` up to `last`, which tear none apart that belong together."""
        rows = slice(self.packed.starts[first], self.packed.starts[last])
        pairs = slice(first // self.together, last // self.together)
        return replace(
            self,
            ids=self.ids[rows],
            targets=self.targets[rows],
            learned=self.learned[rows],
            packed=self.packed.part(first, last),
            documents=self.documents[first:last],
            reference=None if self.reference is None else self.reference[pairs],
            index=None if self.index is None else self.index[rows],
        )


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
        return Batch(ids, targets, learned, packed, documents, index=torch.from_numpy(index))
