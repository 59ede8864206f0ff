"""The model itself: a trie of n-grams, and the probability of whatever comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairground.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Ids = Sequence[int] | NDArray[np.integer]  # of tokens, or places among them


@dataclass(frozen=True, slots=True)
class Level:
    """The n-grams of one order n, from 2 up.

    keys           int64 [n-grams], ascending: the place of the first n - 1 tokens in the order below, times the
                   vocabulary's size, plus the last token. A unigram's place is its token.
    probabilities  float32 [n-grams]: what this order by itself gives the last token.
    backoffs       float32 [n-grams of the order below]: the share that it leaves to shorter contexts, 1 where nothing
                   is stored after a context. A context's share and probabilities sum to 1.
    """

    keys: Ints
    probabilities: NDArray[np.float32]
    backoffs: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NGram:
    """An interpolated n-gram model (Chen and Goodman, 1999, section 2), in the form

        p(w | h) = probability(h w) + backoff(h) p(w | h without its first token)

    down to `unigrams`, float64 [V], which sum to 1 and are all above 0. Made by `fit` or `load`. Immutable, so methods
    may be called from several threads at once.
    """

    bos_id: int
    eos_id: int
    unigrams: Floats
    levels: tuple[Level, ...]

    @property
    def vocab_size(self) -> int:
        """Token ids are from 0 up to this, V, exclusive."""
        return len(self.unigrams)

    @property
    def order(self) -> int:
        """The longest n-gram's length: one more than the tokens that decide what comes next."""
        return len(self.levels) + 1

    @property
    def parameters(self) -> int:
        """How many probabilities are stored, and backoffs of contexts after which something is."""
        contexts = sum(len(np.unique(level.keys // self.vocab_size)) for level in self.levels)
        return self.vocab_size + sum(len(level.keys) for level in self.levels) + contexts

    @property
    def memory_bytes(self) -> int:
        """Bytes that the tables take as they run."""
        tables = [table for level in self.levels for table in (level.keys, level.probabilities, level.backoffs)]
        return self.unigrams.nbytes + sum(table.nbytes for table in tables)

    def log_probs(self, context: Ids) -> Floats:
        """ln p(w | context) for every token w: float64 [V]. Only the last order - 1 tokens of the context count.

        An empty context gives the unigrams; a text begins with bos. Raises DataError for an id outside the vocabulary.
        """
        tokens = np.array(context[max(0, len(context) - self.order + 1) :], np.int64)
        self._check(tokens)
        p, size = self.unigrams.copy(), self.vocab_size
        for length in range(1, len(tokens) + 1):
            place = self._place(tokens[-length:])
            if place < 0:
                continue
            level = self.levels[length - 1]
            start, stop = np.searchsorted(level.keys, np.array([place, place + 1], np.int64) * size)
            p *= level.backoffs[place]
            p[level.keys[start:stop] - place * size] += level.probabilities[start:stop]
        return np.log(p)

    def score(self, tokens: Ids, starts: Ids = (0,)) -> Floats:
        """ln p of each token after those before it in its own text: float64 [N] for N tokens, at once.

        `starts`: where texts begin, ascending; no context reaches across. A text's first token is only scored as a
        unigram, so let it be bos and leave its value out. Raises DataError for an id outside the vocabulary.
        """
        ids = np.asarray(tokens, np.int64)
        self._check(ids)
        if not len(ids):
            return np.zeros(0)
        p = self.unigrams[ids]
        begins = np.zeros(len(ids), np.int64)
        begins[np.asarray(starts, np.int64)] = starts
        age = np.arange(len(ids)) - np.maximum.accumulate(begins)  # tokens before each one in its text
        places = ids  # of the n-grams that end at each token, -1 for one that is not stored
        for n, level in enumerate(self.levels, 2):
            old = np.flatnonzero(age >= n - 1)
            contexts = places[old - 1]
            reached = old[contexts >= 0]
            contexts = contexts[contexts >= 0]
            places = np.full(len(ids), -1)
            found = _find(level.keys, contexts * self.vocab_size + ids[reached])
            places[reached] = found
            p[reached] *= level.backoffs[contexts]
            p[reached[found >= 0]] += level.probabilities[found[found >= 0]]
        return np.log(p)

    def _place(self, tokens: Ints) -> int:
        """The place of an n-gram in its order; -1 for one that is not stored."""
        place = int(tokens[0])
        for level, token in zip(self.levels, tokens[1:].tolist(), strict=False):
            key = np.int64(place * self.vocab_size + token)
            place = int(np.searchsorted(level.keys, key))
            if place == len(level.keys) or level.keys[place] != key:
                return -1
        return place

    def _check(self, ids: Ints) -> None:
        if len(ids) and (ids.min() < 0 or ids.max() >= self.vocab_size):
            bad = ids[(ids < 0) | (ids >= self.vocab_size)][0]
            raise DataError(
                f"The token id {bad} is outside the vocabulary of {self.vocab_size}; use the model's own tokenizer."
            )


def _find(keys: Ints, wanted: Ints) -> Ints:
    """Where each wanted key is; -1 for one that is not there."""
    if not len(keys):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)
