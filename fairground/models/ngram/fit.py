"""From counts to probabilities: interpolated Kneser-Ney smoothing with three discounts an order, as Chen and Goodman
modified it (An empirical study of smoothing techniques for language modeling, 1999, section 3), and cutoffs as in KenLM
(Heafield et al., Scalable modified Kneser-Ney language model estimation, 2013).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from fairground.errors import ConfigError
from fairground.models.ngram.counts import Counts, count
from fairground.models.ngram.file import LARGEST_ORDER, LARGEST_VOCABULARY, OTHER_BYTES, stored_bytes
from fairground.models.ngram.model import Floats, Ids, Ints, Level, NGram

Discounts = tuple[float, float, float]  # of counts 1, 2, and 3 or more
FALLBACK: Discounts = (0.5, 1.0, 1.5)  # KenLM's, for counts of counts that no natural text has
CUTOFFS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 1 << 62)


def fit(
    documents: Iterable[Ids],
    vocab_size: int,
    *,
    order: int = 5,
    bos_id: int,
    eos_id: int,
    prune: Sequence[int] | None = None,
    max_bytes: int | None = None,
    discounts: Sequence[Discounts] | None = None,
) -> NGram:
    """Counts the documents (token ids, without bos and eos) and smooths what was counted.

    `prune`: for each order, unigrams first, the least number of occurrences that an n-gram needs to be stored; it may
    not fall from one order to the next, and unigrams are all stored. `max_bytes`: choose the cutoffs so that what
    `save` writes is at most so large. Pruned n-grams leave their probability to the shorter context, so every
    distribution still sums to 1. `discounts`: for each order, instead of those estimated from the counts of counts.

    N-grams that begin with bos have nothing to their left, so their own counts stand for those of Kneser and Ney.

    Raises ConfigError for settings that contradict each other; DataError for documents that cannot be counted.
    """
    if not 1 <= order <= LARGEST_ORDER or not 1 <= vocab_size <= LARGEST_VOCABULARY:
        raise ConfigError(
            f"An n-gram model has an order from 1 to {LARGEST_ORDER} and a vocabulary of at most {LARGEST_VOCABULARY} "
            f"tokens, but order {order} and {vocab_size} tokens were asked for; choose smaller ones."
        )
    if not (0 <= bos_id < vocab_size and 0 <= eos_id < vocab_size):
        raise ConfigError(f"bos {bos_id} and eos {eos_id} must be ids below the vocabulary's size, {vocab_size}.")
    if prune is not None and max_bytes is not None:
        raise ConfigError("Both cutoffs and a size were given; give one of them, since each decides the other.")
    _check_cutoffs(prune, order)
    _check_discounts(discounts, order)
    counted = count(documents, vocab_size, order, bos_id, eos_id)
    cutoffs = tuple(prune or (1,) * order) if max_bytes is None else cutoffs_within(counted, max_bytes)
    kept = [table.counts >= cutoff for table, cutoff in zip(counted, cutoffs, strict=True)]
    kept[0][:] = True
    adjusted = adjusted_counts(counted)
    each = list(discounts) if discounts is not None else [estimated_discounts(counts) for counts in adjusted]

    unigrams, left = _smoothed(adjusted[0], np.zeros(vocab_size, np.int64), 1, kept[0], each[0])
    unigrams += left[0] / vocab_size
    if unigrams.min() <= 0:
        raise ConfigError(
            f"With these discounts the token {int(unigrams.argmin())} would be impossible, since it never comes; give "
            "the unigrams discounts above 0."
        )
    levels = []
    for n in range(1, order):
        prefixes = counted[n].keys // vocab_size
        probabilities, backoffs = _smoothed(adjusted[n], prefixes, len(kept[n - 1]), kept[n], each[n])
        places = np.cumsum(kept[n - 1]) - 1  # of what stays, where it stays
        keys = places[prefixes] * vocab_size + counted[n].keys % vocab_size
        levels.append(
            Level(keys[kept[n]], probabilities[kept[n]].astype(np.float32), backoffs[kept[n - 1]].astype(np.float32))
        )
    return NGram(bos_id, eos_id, unigrams / unigrams.sum(), tuple(levels))


def adjusted_counts(counted: Sequence[Counts]) -> list[Ints]:
    """Kneser and Ney's counts: of the longest n-grams their own, of others how many different tokens come before them.

    N-grams that begin with bos keep their own (Heafield et al., 2013, section 3.2).
    """
    adjusted = [counted[-1].counts]
    for shorter, longer in zip(counted[-2::-1], counted[:0:-1], strict=True):
        before = np.bincount(longer.suffixes, minlength=len(shorter.keys))
        adjusted.append(np.where(shorter.begins, shorter.counts, before))
    return adjusted[::-1]


def estimated_discounts(counts: Ints) -> Discounts:
    """From how many n-grams have the count 1, 2, 3 and 4 (Chen and Goodman's report TR-10-98, equation 26).

    `FALLBACK` where there are too few for an estimate inside its range.
    """
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if 0 in (n1, n2, n3):
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 < discount <= most for most, discount in enumerate(found, 1)) else FALLBACK


def _smoothed(
    counts: Ints, prefixes: Ints, contexts: int, kept: NDArray[np.bool_], discounts: Discounts
) -> tuple[Floats, Floats]:
    """Each n-gram's discounted share of its context's counts, and what each context leaves to shorter ones.

    A context leaves the discounts of what is kept and the whole counts of what is not; 1 where nothing comes after it.
    """
    discount = np.array([0.0, *discounts])[np.minimum(counts, 3)]
    total = np.bincount(prefixes, weights=counts, minlength=contexts)
    left = np.bincount(prefixes, weights=np.where(kept, discount, counts), minlength=contexts)
    share: Floats = np.where(total > 0, left / np.maximum(total, 1), 1.0)
    return (counts - discount) / np.maximum(total[prefixes], 1), share


def cutoffs_within(counted: Sequence[Counts], max_bytes: int) -> tuple[int, ...]:
    """For each order the least number of occurrences, such that what `save` writes takes at most so many bytes.

    Of those that fit, the ones that keep the most occurrences, where an order's weigh half of those of the order below:
    on eight million tokens of novels that found the best of 70 triples and more at nearly every size from 2 to 30 MB.
    Raises ConfigError where not even the unigrams fit.
    """
    size = len(counted[0].keys)
    kept: list[dict[int, tuple[int, int, float]]] = []  # n-grams, contexts, weighted occurrences, by cutoff
    for n, table in enumerate(counted[1:], 2):
        kept.append({})
        for cutoff in CUTOFFS:
            stay = table.counts >= cutoff
            prefixes = table.keys[stay] // size
            contexts = len(prefixes) and 1 + np.count_nonzero(np.diff(prefixes))
            kept[-1][cutoff] = len(prefixes), int(contexts), table.counts[stay].sum() / 2**n
    fitting = {}
    for cutoffs in combinations_with_replacement(CUTOFFS, len(kept)):
        chosen = [by[cutoff] for by, cutoff in zip(kept, cutoffs, strict=True)]
        below = [size, *(ngrams for ngrams, _, _ in chosen)]
        tables = [stored_bytes(here[0], here[1], under) for here, under in zip(chosen, below, strict=False)]
        if OTHER_BYTES + 4 * size + sum(tables) <= max_bytes:
            fitting[cutoffs] = sum(weight for _, _, weight in chosen)
    if not fitting:
        raise ConfigError(
            f"An n-gram model of {size} tokens does not fit {max_bytes} bytes however much is pruned; allow more."
        )
    return (1, *max(fitting, key=fitting.__getitem__))


def _check_cutoffs(prune: Sequence[int] | None, order: int) -> None:
    if prune is not None and (len(prune) != order or prune[0] > 1 or list(prune) != sorted(prune)):
        raise ConfigError(
            f"The cutoffs {tuple(prune)} are not {order} numbers that begin with 1 and never fall; give one an order."
        )


def _check_discounts(discounts: Sequence[Discounts] | None, order: int) -> None:
    if discounts is None:
        return
    good = len(discounts) == order and all(
        len(each) == 3 and all(0 <= d <= most and (d > 0 or n == 0) for most, d in enumerate(each, 1))
        for n, each in enumerate(discounts)
    )
    if not good:
        raise ConfigError(
            f"The discounts are not {order} triples of numbers above 0 (for unigrams, from 0) and at most 1, 2 and 3; "
            "give one triple an order."
        )
