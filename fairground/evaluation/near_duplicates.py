"""Questions of a suite that ask the same."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from fairground.evaluation.lines import Line

NEAR_DUPLICATE = 0.75
"""Two questions whose sets of words have a larger Jaccard index than this are the same question."""

FEWEST_WORDS = 5
"""Shorter questions share most of their words by nature ("What is 8 plus 6?"), so only equality is refused there."""


def refuse_near_duplicates(asked: Sequence[tuple[Line, str, str]]) -> None:
    """Raises SuiteError where two lines ask the same: `asked` holds (line, group, text).

    Equal texts of one group are refused whatever their length; texts of at least FEWEST_WORDS distinct words also where
    the Jaccard index of their word sets is above NEAR_DUPLICATE. Pairs are found by prefix filtering (Bayardo, Ma &
    Srikant 2007, "Scaling up all pairs similarity search"), so that a suite of thousands of items is read in a moment.
    """
    exact: dict[tuple[str, str], Line] = {}
    for line, group, text in asked:
        key = (group, " ".join(text.casefold().split()))
        if key in exact:
            raise line.error(f"{line.id!r} asks the same as {exact[key].id!r} ({exact[key].where}); remove one of them")
        exact[key] = line
    words = [frozenset(re.findall(r"\w+", text.casefold())) for _, _, text in asked]
    frequency = Counter(word for words_ in words for word in words_)
    index: dict[str, list[int]] = {}
    for i, own in enumerate(words):
        if len(own) < FEWEST_WORDS:
            continue
        rarest = sorted(own, key=lambda word: (frequency[word], word))
        prefix = rarest[: len(own) - math.ceil(NEAR_DUPLICATE * len(own)) + 1]
        for j in sorted({j for word in prefix for j in index.get(word, ())}):
            if len(own & words[j]) / len(own | words[j]) > NEAR_DUPLICATE:
                line, other = asked[i][0], asked[j][0]
                raise line.error(
                    f"{line.id!r} is nearly the same question as {other.id!r} ({other.where}); rewrite or remove one"
                )
        for word in prefix:
            index.setdefault(word, []).append(i)
