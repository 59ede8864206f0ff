"""A few texts that a model writes while it is trained, for people to read."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fairground.models.decoder import Decoder
from fairground.models.packed import Packed
from fairground.models.tokenizer import Tokenizer
from fairground.training.tokens import Tokens

BEGINNINGS = 3
GIVEN = 12  # tokens of a held-out document, of which the rest is to be written
WRITTEN = 48  # tokens
TEMPERATURE = 0.7


def beginnings(measured: Tokens) -> list[list[int]]:
    """The first tokens of some held-out documents that are long enough, spread over the text."""
    lengths = measured.starts[1:] - measured.starts[:-1]
    long = [d for d in range(len(measured)) if lengths[d] > 2 * GIVEN]
    chosen = long[:: max(1, len(long) // BEGINNINGS)][:BEGINNINGS]
    return [measured.ids[measured.starts[d] :][:GIVEN].tolist() for d in chosen]


@torch.no_grad()
def write_samples(decoder: Decoder, words: Tokenizer, given: Sequence[Sequence[int]]) -> list[dict[str, str]]:
    """What the model writes after each beginning: [{"prompt", "text"}].

    Every token is computed from the whole text so far: a few dozen short passes, which need no cache.
    """
    random = torch.Generator().manual_seed(0)
    texts = [list(ids) for ids in given]
    most = min(GIVEN + WRITTEN, decoder.config.context_length)
    while texts and len(texts[0]) < most:
        packed = Packed.of([len(ids) for ids in texts])
        hidden = decoder(torch.tensor([token for ids in texts for token in ids], device=decoder.device), packed)
        logits = decoder.logits(hidden[[stop - 1 for stop in packed.starts[1:]]])[:, : words.vocab_size]
        drawn = torch.multinomial((logits.cpu() / TEMPERATURE).softmax(-1), 1, generator=random)
        for ids, token in zip(texts, drawn.flatten().tolist(), strict=True):
            ids.append(token)
    return [
        {"prompt": words.decode(ids[:GIVEN]), "text": words.decode(_until_end(ids[GIVEN:], words))} for ids in texts
    ]


def _until_end(ids: list[int], words: Tokenizer) -> list[int]:
    ends = [at for at, token in enumerate(ids) if token in words.eos_ids]
    return ids[: ends[0]] if ends else ids
