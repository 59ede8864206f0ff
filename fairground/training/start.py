"""How a new model's weights begin, the same way for every family."""

from __future__ import annotations

import math

import torch
from torch import nn

from fairground.models.config import DecoderConfig
from fairground.models.decoder import Decoder
from fairground.training.optimiser import query_share


def new_decoder(config: DecoderConfig, seed: int) -> Decoder:
    """A decoder with random float32 weights; the same seed gives the same.

    GPT-2's start (Radford et al., 2019, section 2.3): normal with deviation 0.02, those that write into the residual
    stream divided by the square root of their number, biases 0, norms 1; queries by `query_share`.
    """
    with torch.device("meta"):
        decoder = Decoder(config)
    decoder.to_empty(device="cpu")
    random = torch.Generator().manual_seed(seed)
    residual = 0.02 / math.sqrt(2 * config.layers)
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            if weight.dim() > 1:
                writes = name.endswith(("attention.out.weight", "mlp.down.weight"))
                weight.normal_(0.0, residual if writes else 0.02 * query_share(config, name), generator=random)
            else:
                weight.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    if config.tied_head and isinstance(decoder.head, nn.Linear):
        decoder.head.weight = decoder.embed.weight
    return decoder
