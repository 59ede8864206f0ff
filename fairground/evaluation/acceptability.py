"""Acceptability of written sentences, measured without people: SLOR and MeanLP under one fixed scorer.

SLOR follows people's judgements of acceptability closer than a sentence's probability does, because it takes out how
long a sentence is and how rare its words are (Lau, Clark & Lappin 2017, "Grammaticality, acceptability, and
probability", Cognitive Science 41:1202-1241; Kann, Rothe & Filippova 2018, "Sentence-level fluency
evaluation", CoNLL, section 3; the idea is Pauls & Klein's, 2012, ACL).

What differs from those papers, because a `Generator` tells the probability of a text and not of its tokens:

- p_u is of words and punctuation marks in a reference text that the caller gives (`Unigrams`), not of the scorer's own
  tokens in its own training text; case is ignored in it.
- A sentence is scored after a short lead. A chat model's first token is often one that no plain sentence followed in
  training, and short sentences pay most for that surprise: with SmolLM2-135M on 300 sentences of novels, SLOR's rank
  correlation with length was 0.57 without a lead and 0.25 after this one, so some of it is left.

Both measures ask whether a strong model expects the sentence. They are blind to truth and sense, and rare words or old
styles cost something; text sampled from a model at a low temperature is more expected than what people write. So a
value above the human group's is no proof of better writing, and belongs beside repetition and sentence length.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairground.errors import DataError, RequestError
from fairground.evaluation.intervals import RESAMPLES, Floats, Interval
from fairground.evaluation.measure import Known, score_all
from fairground.evaluation.ratios import Ratios
from fairground.evaluation.unigrams import Unigrams
from fairground.types import Generator, Score, ScoreRequest

LEAD = "Sentence:"


def slor(scorer: Generator, sentences: Sequence[str], unigrams: Unigrams, *, lead: str = LEAD) -> Floats:
    """(ln p_M(s) - ln p_u(s)) / |s| for each sentence, float64 [S], in nats per token of the scorer.

    Raises RequestError for a sentence without a word or a score that is not finite, CapabilityError where the scorer
    cannot score.
    """
    scores = _scores(scorer, sentences, lead)
    return np.array([_slor(s, score, unigrams) for s, score in zip(sentences, scores, strict=True)], dtype=np.float64)


def mean_lp(scorer: Generator, sentences: Sequence[str], *, lead: str = LEAD) -> Floats:
    """ln p_M(s) / |s| (Lau, Clark & Lappin 2017), float64 [S], nats per token. Raises as `slor`."""
    return np.array([_mean_lp(score) for score in _scores(scorer, sentences, lead)], dtype=np.float64)


def shuffled(sentence: str, seed: int = 0) -> str:
    """The same words in a random order: the floor, which a measure of acceptability must put far below the sentence.

    Its p_u is the sentence's own, so only the scorer can tell the two apart.
    """
    words = sentence.split()
    random.Random(f"{seed} {sentence}").shuffle(words)
    return " ".join(words)


@dataclass(frozen=True, slots=True)
class Acceptability:
    """What was measured: means over each group's sentences, and how many sentences there were.

    `slor` and `mean_lp` give any group's interval and any two groups' difference; n counts texts with a sentence.
    """

    slor: Ratios
    mean_lp: Ratios
    sentences: dict[str, int]
    human: str

    def as_json(self) -> dict[str, dict[str, Any]]:
        """By group: `slor`, `mean_lp`, `sentences`, and both measures less the human group's; null: too few texts."""
        found: dict[str, dict[str, Any]] = {}
        for group, count in self.sentences.items():
            found[group] = {"sentences": count}
            for name, ratios in (("slor", self.slor), ("mean_lp", self.mean_lp)):
                found[group][name] = _json(ratios.interval(group))
                if group != self.human:
                    found[group][f"{name}_less_{self.human}"] = _json(ratios.difference(group, self.human))
        return found


def acceptability(
    scorer: Generator,
    groups: Mapping[str, Sequence[Sequence[str]]],
    unigrams: Unigrams,
    *,
    human: str = "human",
    lead: str = LEAD,
    resamples: int = RESAMPLES,
) -> Acceptability:
    """Each group's mean SLOR and MeanLP over its sentences, with 95% bootstrap intervals that resample whole texts.

    A group is a list of texts, each as its sentences. Text i of every group goes on from the same beginning, so that
    differences are paired; it is an empty list where a group has no sentence. Everything is scored in one call.
    Raises DataError where the human group is missing or groups differ in their number of texts, and what `slor` raises.
    """
    if human not in groups:
        raise DataError(f"There is no group {human!r} to compare with among {', '.join(groups) or 'none'}; add it.")
    for name, texts in groups.items():
        if len(texts) != len(groups[human]):
            raise DataError(
                f"The group {name!r} has {len(texts)} texts, but {human!r} has {len(groups[human])}; give each "
                "beginning one text in every group."
            )
    every = [sentence for texts in groups.values() for text in texts for sentence in text]
    scores = dict(zip(every, _scores(scorer, every, lead), strict=True))
    values = {sentence: (_slor(sentence, score, unigrams), _mean_lp(score)) for sentence, score in scores.items()}
    counts = {name: [len(text) for text in texts] for name, texts in groups.items()}
    slor_sums, lp_sums = (
        {name: [sum(values[sentence][which] for sentence in text) for text in texts] for name, texts in groups.items()}
        for which in (0, 1)
    )
    return Acceptability(
        Ratios(slor_sums, counts, resamples=resamples),
        Ratios(lp_sums, counts, resamples=resamples),
        {name: sum(each) for name, each in counts.items()},
        human,
    )


def _json(interval: Interval | None) -> dict[str, Any] | None:
    return interval.as_json() if interval else None


def _slor(sentence: str, score: Score, unigrams: Unigrams) -> float:
    return (score.logprob - unigrams.log_prob(sentence)) / score.tokens


def _mean_lp(score: Score) -> float:
    return score.logprob / score.tokens


def _scores(scorer: Generator, sentences: Sequence[str], lead: str) -> list[Score]:
    """ln p(s | lead) of each sentence; the space between them is the sentence's."""
    requests = []
    for sentence in sentences:
        if not sentence.strip():
            raise RequestError("One of the sentences is empty, so it has no probability; leave it out.")
        requests.append(ScoreRequest(lead, f" {sentence}" if lead else sentence))
    known: Known = {}
    score_all(scorer, requests, known)
    for request in requests:
        score = known[request]
        if score.tokens < 1 or not math.isfinite(score.logprob):
            raise RequestError(
                f"The scorer gave no finite log-likelihood for {request.continuation.strip()!r}; use another scorer."
            )
    return [known[request] for request in requests]
