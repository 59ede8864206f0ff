"""Log-probabilities of some next tokens, without ever holding all logits.

The vocabulary comes in parts. Of each, only its greatest logit, the sum of exponentials and the logits that are asked
for are kept: with m the greatest and s the sum of exp(x - m), the whole's logarithm is that of the sum of s exp(m) over
the parts. A row's numbers have the same bits in any company, because torch's log-softmax goes row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairground.models.decoder import HEAD_CHUNK, Decoder


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """`own[j]`: the j-th asked token's log-probability; `greedy[j]`: whether none was likelier; `beside[row]`: the
    likeliest tokens of a row with theirs, best first."""

    own: list[float]
    greedy: list[bool]
    beside: list[tuple[tuple[int, float], ...]]


def likelihoods(
    decoder: Decoder, hidden_MD: Tensor, rows: Sequence[int], tokens: Sequence[int], alternatives: int
) -> Likelihoods:
    """Of `tokens[j]` after the hidden state in row `rows[j]`, and of each row's `alternatives` likeliest tokens."""
    count, device = hidden_MD.shape[0], hidden_MD.device
    parts = -(-decoder.config.vocab_size // HEAD_CHUNK)
    row, token = torch.tensor(rows, device=device), torch.tensor(tokens, device=device)
    own = torch.empty(len(tokens), device=device)
    most, sums = torch.empty(2, count, parts, device=device)
    best: list[list[tuple[float, int]]] = [[] for _ in range(count)]  # logits of the likeliest of each part
    for piece, part, logits in decoder.exact_logits(hidden_MD):
        number = part.start // HEAD_CHUNK
        mine = ((row >= piece.start) & (row < piece.stop) & (token >= part.start) & (token < part.stop)).nonzero()[:, 0]
        own[mine] = logits[row[mine] - piece.start, token[mine] - part.start]
        most[piece, number] = logits.amax(-1)
        # The greatest's own log-probability is minus the logarithm of the sum.
        sums[piece, number] = -logits.log_softmax(-1).amax(-1)
        if alternatives:
            top = logits.topk(min(alternatives, logits.shape[1]))
            for one, values, indices in zip(best[piece], top.values.tolist(), top.indices.tolist(), strict=True):
                one += zip(values, (part.start + index for index in indices), strict=True)
    logs = most + sums
    whole = logs.amax(-1) - logs.log_softmax(-1).amax(-1)
    likeliest = [sorted(one, key=lambda pair: -pair[0])[:alternatives] for one in best]
    logprobs = torch.tensor([[value for value, _ in one] for one in likeliest]) - whole[:, None].cpu()
    beside = [
        tuple(zip((index for _, index in one), values, strict=True))
        for one, values in zip(likeliest, logprobs.tolist(), strict=True)
    ]
    greedy = own >= most.amax(-1)[row]
    return Likelihoods((own - whole[row]).tolist(), greedy.tolist(), beside)
