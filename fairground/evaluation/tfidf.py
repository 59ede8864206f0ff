"""How similar two texts are, from their characters alone: no model, no word list, any language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

SHORTEST, LONGEST = 3, 5  # characters in an n-gram


class TfIdf:
    """TF-IDF vectors of the character n-grams of a pool of texts, and the pool's texts that are nearest to another.

    The embedding of a text is the vector that scikit-learn's TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    gives it: each word in lower case between two spaces, how often each n-gram stands in it, times ln((1 + n) / (1 +
    n with it)) + 1 over the n texts of the pool, at length 1. n-grams that the pool does not have count for nothing.
    """

    def __init__(self, pool: Sequence[str]) -> None:
        counts = [_ngrams(text) for text in pool]
        self._places = {gram: i for i, gram in enumerate(dict.fromkeys(chain.from_iterable(counts)))}
        having = Counter(chain.from_iterable(counts))
        n = np.array([having[gram] for gram in self._places], dtype=float)
        self._weights = np.log((1 + len(pool)) / (1 + n)) + 1
        self._pool = self._embedded(counts)

    def embed(self, texts: Sequence[str]) -> Any:
        """A sparse array [texts, n-grams of the pool], float64, rows of length 1; a row of zeros shares no n-gram."""
        return self._embedded([_ngrams(text) for text in texts])

    def similarities(self, text: str) -> NDArray[np.float64]:
        """The cosine of the text and each of the pool's, [pool]."""
        return np.asarray((self._pool @ self.embed([text]).T).toarray()[:, 0])

    def nearest(self, text: str) -> list[int]:
        """The places of the pool's texts, the most similar first, equally similar ones in their order."""
        # Rounded, so that sums in another order of the same numbers do not decide between equals.
        return [int(at) for at in np.argsort(-self.similarities(text).round(12), kind="stable")]

    def _embedded(self, counts: Sequence[Counter[str]]) -> Any:
        entries = [
            (row, place, count * self._weights[place])
            for row, own in enumerate(counts)
            for gram, count in own.items()
            if (place := self._places.get(gram)) is not None
        ]
        rows, places, values = zip(*entries, strict=True) if entries else ((), (), ())
        matrix = sparse.csr_array((values, (rows, places)), shape=(len(counts), len(self._places)), dtype=float)
        lengths = np.sqrt(matrix.multiply(matrix).sum(axis=1))
        return sparse.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ matrix


def _ngrams(text: str) -> Counter[str]:
    """How often each run of SHORTEST to LONGEST characters stands within a word and the spaces around it."""
    words = [f" {word} " for word in text.lower().split()]
    sizes = range(SHORTEST, LONGEST + 1)
    return Counter(word[i : i + size] for word in words for size in sizes for i in range(len(word) - size + 1))
