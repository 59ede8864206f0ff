"""How likely words are without any context: what SLOR divides out of a sentence's probability."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from fairground.errors import DataError

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")
_END = "\0"  # of a word, as the spelling sees it; never a character of one


def words(text: str) -> list[str]:
    """Words, with the apostrophes inside them, and punctuation marks, all in lower case; spaces count for nothing."""
    return _WORD.findall(text.casefold().replace("’", "'"))


class Unigrams:
    """p(w) = (c(w) + T q(w)) / (N + T), from N words of T different kinds in a reference text.

    Witten and Bell's interpolation (1991, "The zero-frequency problem", IEEE Transactions on Information Theory
    37:1085-1094, method C) with a spelling q(w) as what is backed off to: the product of its characters' frequencies in
    the T kinds, its end among them, each count plus one, one for all characters that never occurred. So no word is
    impossible, and a long made-up one is less likely than a short one.

    Raises DataError for a reference without a word.
    """

    def __init__(self, reference: Iterable[str]) -> None:
        self._counts: Counter[str] = Counter()
        for text in reference:
            self._counts.update(words(text))
        if not self._counts:
            raise DataError("The reference text for word frequencies holds no word; give text that people wrote.")
        letters: Counter[str] = Counter()
        for word in self._counts:
            letters.update(word + _END)
        below = math.log(letters.total() + len(letters) + 1)
        self._letters = {letter: math.log(count + 1) - below for letter, count in letters.items()}
        self._other_letter = -below
        self.words, self.kinds = self._counts.total(), len(self._counts)

    def word(self, word: str) -> float:
        """ln p(w) of one word as `words` gives it, in nats."""
        spelling = sum(self._letters.get(letter, self._other_letter) for letter in word + _END)
        backed_off = math.log(self.kinds) + spelling
        count = self._counts[word]
        top = float(np.logaddexp(math.log(count), backed_off)) if count else backed_off
        return top - math.log(self.words + self.kinds)

    def log_prob(self, sentence: str) -> float:
        """ln p_u(s): the sum over the sentence's words, in nats."""
        return sum(map(self.word, words(sentence)))
