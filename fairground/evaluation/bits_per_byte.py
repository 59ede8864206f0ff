"""How well a model predicts held-out text: bits per byte, which models with different tokenizers can be compared by."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from fairground.errors import RequestError
from fairground.evaluation.intervals import RESAMPLES, Floats
from fairground.evaluation.measure import Known, score_all
from fairground.evaluation.ratios import Ratios
from fairground.types import Generator, ScoreRequest

_WORD = re.compile(r"\s*\S+")


def document_bits(generator: Generator, documents: Sequence[str]) -> Floats:
    """-log2 p(document) of each, float64 [D]: nats / ln 2, from the start of a text; its end is not predicted.

    A document longer than the model's context is read in pieces of at most half of it, each after the one before, so
    that every token is predicted once. Raises RequestError for an empty document or a score that is not finite,
    CapabilityError where the model cannot score.
    """
    asked = [_requests(generator, document) for document in documents]
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


def _requests(generator: Generator, document: str) -> list[ScoreRequest]:
    if not document.strip():
        raise RequestError("A document is empty, so it has no probability; leave it out.")
    context = generator.info.can.context_length
    # The token that begins a text takes a place too.
    if context is None or generator.count_tokens(document) < context:
        return [ScoreRequest("", document)]
    pieces = [""]
    size = 0
    for word in _WORD.findall(document):
        tokens = generator.count_tokens(word)
        if pieces[-1] and size + tokens > context // 2:
            pieces.append("")
            size = 0
        pieces[-1] += word
        size += tokens
    pieces[-1] += document[len(document.rstrip()) :]
    return [ScoreRequest(before, piece) for before, piece in zip(["", *pieces], pieces, strict=False)]
