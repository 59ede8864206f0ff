"""How well a model predicts held-out text: bits per byte, which models with different tokenizers can be compared by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fairground.errors import RequestError
from fairground.evaluation.intervals import RESAMPLES, Floats
from fairground.evaluation.measure import Known, score_all
from fairground.evaluation.ratios import Ratios
from fairground.evaluation.tasks.text import requests_for
from fairground.types import Generator


def document_bits(generator: Generator, documents: Sequence[str]) -> Floats:
    """-log2 p(document) of each, float64 [D]: nats / ln 2, from the start of a text; its end is not predicted.

    A document longer than the model's context is read in pieces of at most half of it, each after the one before, so
    that every token is predicted once. Raises RequestError for an empty document or a score that is not finite,
    CapabilityError where the model cannot score.
    """
    asked = [requests_for(generator, document) for document in documents]
    known: Known = {}
    score_all(generator, [request for requests in asked for request in requests], known)
    bits = [-sum(known[request].logprob for request in requests) / math.log(2) for requests in asked]
    for number, each in enumerate(bits, 1):
        if not math.isfinite(each):
            raise RequestError(f"{generator.info.name} gave no finite log-likelihood for document {number}.")
    return np.array(bits, dtype=np.float64)


def bits_per_byte(
    bits: Mapping[str, Sequence[float] | Floats], documents: Sequence[str], *, resamples: int = RESAMPLES
) -> Ratios:
    """For each model all documents' bits over all their UTF-8 bytes, and paired differences; resampled by document.

    bits: for each model what `document_bits` gave.
    """
    sizes = [float(len(document.encode())) for document in documents]
    return Ratios({name: list(each) for name, each in bits.items()}, dict.fromkeys(bits, sizes), resamples=resamples)
