"""What is measured of one item: pure functions of values, each with the definition that it follows."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fairground.types import Score


def chosen(logprobs: Sequence[float]) -> int:
    """The index of the likeliest choice, the first of equals: lm-evaluation-harness's `acc` takes numpy's argmax."""
    return int(np.argmax(logprobs))


def chosen_norm(logprobs: Sequence[float], choices: Sequence[str]) -> int:
    """As `chosen`, after dividing by each choice's length in characters: lm-evaluation-harness's `acc_norm`.

    The length is that of the choice, without the space that joins it to the prompt.
    """
    lengths = np.array([float(len(choice)) for choice in choices])
    return int(np.argmax(np.asarray(logprobs) / lengths))


def softmax(logprobs: Sequence[float]) -> list[float]:
    """What the log-likelihoods say of each choice, if one of them is right: exp(l) / sum exp(l)."""
    x = np.asarray(logprobs, dtype=np.float64)
    odds = np.exp(x - x.max())
    shares: list[float] = (odds / odds.sum()).tolist()
    return shares


def longest_choice(choices: Sequence[str], gold: int) -> float:
    """How often "take the longest choice" is right here: where several are the longest, one of them is drawn."""
    longest = max(map(len, choices))
    among = [i for i, choice in enumerate(choices) if len(choice) == longest]
    return 1 / len(among) if gold in among else 0.0


def prefers_original(original: Score, reordered: Score) -> float:
    """1 where the original order is the likelier, 0.5 for a tie (Barzilay & Lapata 2008, section 4.1)."""
    if original.logprob == reordered.logprob:
        return 0.5
    return 1.0 if original.logprob > reordered.logprob else 0.0


def relevance(given_prompt: Score, alone: Score) -> float:
    """(log p(answer | prompt) - log p(answer)) / tokens, in nats per token of the scorer: pointwise mutual information.

    An answer without tokens says nothing of its prompt: 0.
    """
    if given_prompt.tokens == 0:
        return 0.0
    return (given_prompt.logprob - alone.logprob) / given_prompt.tokens


def repetition(text: str) -> float:
    """seq-rep-4: the share of 4-grams that stood before, 1 - unique / all (Welleck et al. 2020, section 6.1).

    Over words here, not the model's own tokens, so that models with different tokenizers can be compared. 0 where the
    text has fewer than four words.
    """
    words = text.split()
    grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"[\w']+", text.casefold())


def chrf(text: str, references: Sequence[str]) -> float:
    """Sentence-level chrF (Popović 2015) against the best of the references, from 0 to 1, by sacrebleu."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(text, list(references)).score) / 100


def corpus_chrf(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus chrF, from 0 to 1, by sacrebleu. Raises ValueError where there is no text."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(texts), _streams(references)).score) / 100


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU (Papineni et al. 2002), from 0 to 1, by sacrebleu with its own tokenization (13a)."""
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU().corpus_score(list(texts), _streams(references)).score) / 100


def _streams(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """sacrebleu wants the first reference of every text, then the second of every text; a missing one is None."""
    most = max(map(len, references))
    return [[own[i] if i < len(own) else None for own in references] for i in range(most)]  # type: ignore[misc]


def calibration_bins(confidences: ArrayLike, right: ArrayLike, bins: int = 10) -> list[tuple[float, float, int]]:
    """A reliability diagram's points: mean confidence, accuracy and number of items of each equal-mass bin.

    Items are sorted by confidence and cut into `bins` parts that differ in size by at most one (fewer where there are
    fewer items). Raises ValueError for no item.
    """
    p, y = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not len(p):
        raise ValueError("calibration needs at least one item")
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return [(float(p[part].mean()), float(y[part].mean()), len(part)) for part in parts]


def expected_calibration_error(confidences: ArrayLike, right: ArrayLike, bins: int = 10) -> float:
    """ECE over equal-mass bins (Naeini et al. 2015; Nixon et al. 2019): the mean gap of confidence and accuracy over
    the items, by the bins of `calibration_bins`. Raises ValueError for no item."""
    points = calibration_bins(confidences, right, bins)
    return sum(n * abs(confidence - accuracy) for confidence, accuracy, n in points) / sum(n for *_, n in points)
