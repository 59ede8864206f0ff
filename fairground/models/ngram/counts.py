"""Counting n-grams: sorted arrays instead of a dictionary, so that ten million tokens take seconds on one core."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairground.errors import DataError
from fairground.models.ngram.model import Ids, Ints


@dataclass(frozen=True, slots=True)
class Counts:
    """The n-grams of one order that occur, as parallel arrays.

    keys      int64, ascending, as in fairground.models.ngram.model.Level; for unigrams the token
    counts    int64: how often each occurs; for unigrams, how often as something to predict, so never at a text's start
    suffixes  int64: the place of its last n - 1 tokens in the order below; for unigrams 0
    begins    bool: whether its first token is bos; for unigrams False
    """

    keys: Ints
    counts: Ints
    suffixes: Ints
    begins: NDArray[np.bool_]


def count(documents: Iterable[Ids], vocab_size: int, order: int, bos_id: int, eos_id: int) -> list[Counts]:
    """Counts of every order from 1 to `order`. Each document is counted between one bos and one eos.

    An n-gram's key holds its prefix's place and not its tokens, so any order fits 64 bits. Raises DataError for an id
    outside the vocabulary, and where there is no token at all.
    """
    parts, lengths = [], []
    for number, document in enumerate(documents, 1):
        ids = np.asarray(document, np.int64)
        if len(ids) and (ids.min() < 0 or ids.max() >= vocab_size):
            bad = ids[(ids < 0) | (ids >= vocab_size)][0]
            raise DataError(
                f"Document {number} holds the token id {bad}, but the vocabulary has {vocab_size}; tokenize it with "
                "the model's own tokenizer."
            )
        parts.append(np.concatenate([[bos_id], ids, [eos_id]]).astype(np.uint16))
        lengths.append(len(ids) + 2)
    if sum(lengths) == 2 * len(lengths):
        raise DataError("The documents hold no token, so there is nothing to count; give some text.")
    tokens = np.concatenate(parts)
    remaining = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(tokens))  # in its document, itself included
    targets = np.ones(len(tokens), bool)
    targets[np.cumsum([0, *lengths[:-1]])] = False
    vocabulary = np.arange(vocab_size)
    found = [
        Counts(
            vocabulary,
            np.bincount(tokens[targets], minlength=vocab_size),
            np.zeros(vocab_size, np.int64),
            np.zeros(vocab_size, bool),
        )
    ]
    places = tokens.astype(np.int64)  # of the n-gram that begins at each token
    for n in range(2, order + 1):
        at = np.flatnonzero(remaining >= n)
        keys = places[at] * vocab_size + tokens[at + n - 1]
        by_key = np.argsort(keys)
        keys, at = keys[by_key], at[by_key]
        new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
        first = at[new]
        suffixes = places[first + 1]
        places = np.zeros(len(tokens), np.int64)
        places[at] = np.cumsum(new) - 1
        counts = np.diff(np.append(np.flatnonzero(new), len(keys)))
        found.append(Counts(keys[new], counts, suffixes, tokens[first] == bos_id))
    return found
