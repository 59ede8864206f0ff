"""What is measured of one item: pure functions of values, each with the definition that it follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
