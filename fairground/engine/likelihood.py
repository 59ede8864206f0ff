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

from fairground.models.decoder import Decoder


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
    row, token = torch.tensor(rows, device=device), torch.tensor(tokens, device=device)
    own = torch.empty(len(tokens), device=device)
    greatest: dict[int, list[Tensor]] = {}  # by the first token of a part: one tensor for each piece of rows
    sums: dict[int, list[Tensor]] = {}
    best: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for piece, part, logits in decoder.exact_logits(hidden_MD):
        mine = ((row >= piece.start) & (row < piece.stop) & (token >= part.start) & (token < part.stop)).nonzero()[:, 0]
        own[mine] = logits[row[mine] - piece.start, token[mine] - part.start]
        if alternatives:
            values, indices = logits.topk(min(alternatives, logits.shape[1]))
            best.setdefault(part.start, []).append((values, indices + part.start))
        greatest.setdefault(part.start, []).append(logits.amax(-1))
        # The greatest's own log-probability is minus the logarithm of the sum.
        sums.setdefault(part.start, []).append(logits.log_softmax(-1).amax(-1))
    most = torch.stack([torch.cat(pieces) for pieces in greatest.values()], -1)  # [rows, parts]
    parts = most - torch.stack([torch.cat(pieces) for pieces in sums.values()], -1)
    whole = parts.amax(-1) - parts.log_softmax(-1).amax(-1)
    beside: list[tuple[tuple[int, float], ...]] = [()] * count
    if alternatives:
        values = torch.cat([torch.cat([v for v, _ in pieces]) for pieces in best.values()], -1)
        indices = torch.cat([torch.cat([i for _, i in pieces]) for pieces in best.values()], -1)
        chosen = values.topk(min(alternatives, values.shape[1]))
        logprobs = (chosen.values - whole[:, None])[:count].tolist()
        names = indices.gather(-1, chosen.indices)[:count].tolist()
        beside = [tuple(zip(name, logprob, strict=True)) for name, logprob in zip(names, logprobs, strict=True)]
    greedy = own >= most.amax(-1)[row]
    return Likelihoods((own - whole[row]).tolist(), greedy.tolist(), beside)
