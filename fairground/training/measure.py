"""What a model makes of held-out text, document by document, and what learning from a token takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fairground.models.config import DecoderConfig
from fairground.models.decoder import Decoder
from fairground.training.objective import head
from fairground.training.tokens import Batches, Tokens


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Per document: negative log-likelihood in nats of its learned tokens, float64 [D], and their bytes, int64 [D]."""

    nats: NDArray[np.float64]
    bytes: NDArray[np.int64]

    @property
    def bits_per_byte(self) -> float:
        """Over all documents together; a document's end counts, but spells no bytes."""
        return float(self.nats.sum() / math.log(2) / self.bytes.sum())


@torch.no_grad()
def held_out(decoder: Decoder, tokens: Tokens, context: int, *, batch_tokens: int = 8192) -> HeldOut:
    """Scores every document once; what is longer than the context is cut as in training."""
    nats = torch.zeros(len(tokens), dtype=torch.float64)
    sizes = np.zeros(len(tokens), dtype=np.int64)
    for batch in Batches(tokens, batch_tokens, context, 0).whole():
        hidden = decoder(batch.ids.to(decoder.device), batch.packed)
        weight, bias = head(decoder)  # after the pass, which gathers it where a run is split over processes
        owner = torch.repeat_interleave(torch.tensor(batch.documents), torch.tensor(batch.packed.lengths))
        for rows in torch.split(torch.arange(hidden.shape[0]), 1024):
            logits = torch.nn.functional.linear(hidden[rows], weight, bias).float()
            loss = torch.nn.functional.cross_entropy(logits, batch.targets[rows].to(logits.device), reduction="none")
            nats.index_add_(0, owner[rows], (loss.cpu() * batch.learned[rows]).double())
        spelt = tokens.bytes_of[batch.targets.numpy()] * batch.learned.numpy()
        np.add.at(sizes, owner.numpy(), spelt)
    return HeldOut(nats.numpy(), sizes)


def operations_per_token(c: DecoderConfig, length: float, *, fixed: bool = False) -> float:
    """Floating-point operations to learn from one token in a document of `length`: 6 N, and attention's 6 L H D T.

    Twice for every weight that multiplies, three times for there and back (Kaplan et al., 2020, section 2.1); causal
    attention is counted by the half that it needs (Chowdhery et al., 2022, appendix B, counts it whole). With `fixed`
    weights, whose own gradients nobody wants, it is 4 N; adapters are not counted.
    """
    embeddings = c.vocab_size * c.width * (1 if c.tied_head else 2) + (0 if c.rotary else c.context_length * c.width)
    multiplying = c.parameter_count() - embeddings + c.vocab_size * c.width
    seen = sum(min(length / 2, window or length) for window in c.windows)
    return (4 if fixed else 6) * multiplying + 12 * seen * c.heads * c.head_dim
