"""Attention of whole documents for training, without a cache.

Documents of about one length are padded to it and done together, as plain matrix products whose probabilities are
kept for the way back. On a CPU that takes half the time of torch's fused kernel up to a thousand tokens; beyond, and
on other devices, torch's kernel is used. Padding stands after a document's end, where no causal query looks.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairground.models.attention import unseen
from fairground.models.packed import Packed

GRAIN = 32  # tokens; lengths are padded to multiples of it
LONGEST = 1024  # tokens; up to here probabilities are kept
STRIPE = 128  # queries


class PlainAttention(torch.autograd.Function):
    """softmax(scale q k' + hidden) v for [B, T, D] each, `hidden` [1, T, T] of zeros and −inf.

    In stripes of queries, each with the keys from its first query's window to its last query: the half that a causal
    mask throws away is hardly computed, and tensors stay small enough for the allocator to use them again.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, scale: float, window: int | None) -> Tensor:
        out, kept, spans = torch.empty_like(q), [], []
        for first in range(0, q.shape[1], STRIPE):
            queries = slice(first, min(first + STRIPE, q.shape[1]))
            keys = slice(0 if window is None else max(0, first - window + 1), queries.stop)
            scores = torch.baddbmm(hidden[:, queries, keys], q[:, queries], k[:, keys].transpose(1, 2), alpha=scale)
            weights = scores.softmax(-1)
            out[:, queries] = torch.bmm(weights, v[:, keys])
            kept.append(weights)
            spans.append((queries, keys))
        ctx.save_for_backward(q, k, v, *kept)
        ctx.scale, ctx.spans = scale, spans
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        q, k, v, *kept = ctx.saved_tensors
        grad_q = torch.empty_like(q)
        grad_k, grad_v = (torch.zeros_like(x, dtype=torch.float32) for x in (k, v))  # sums over the stripes
        for weights, (queries, keys) in zip(kept, ctx.spans, strict=True):
            g = gradient[:, queries]
            grad_v[:, keys] += torch.bmm(weights.transpose(1, 2), g)
            grad_weights = torch.bmm(g, v[:, keys].transpose(1, 2))
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_q[:, queries] = torch.bmm(grad_scores, k[:, keys])
            grad_k[:, keys] += torch.bmm(grad_scores.transpose(1, 2), q[:, queries])
        grad_k = grad_k.mul_(ctx.scale).to(k.dtype)
        return grad_q.mul_(ctx.scale), grad_k, grad_v.to(v.dtype), None, None, None


class PackedAttention:
    """See the module's text. Fulfils `fairground.models.attention.Attend`."""

    def __init__(self, packed: Packed, rows: int, device: torch.device) -> None:
        """`rows` is N, padding rows included; those get zeros."""
        groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for start, length in zip(packed.starts, packed.lengths, strict=False):
            groups[-(-length // GRAIN) * GRAIN].append((start, length))
        self._groups: list[tuple[int, int]] = []  # documents, tokens of each
        indices = []
        where = torch.full((rows,), -1, dtype=torch.int64)
        done = 0
        for height, members in groups.items():
            starts = torch.tensor([start for start, _ in members])[:, None]
            lengths = torch.tensor([length for _, length in members])[:, None]
            step = torch.arange(height)
            inside = step < lengths
            index = torch.where(inside, starts + step, starts)
            where[index[inside]] = (done + torch.arange(index.numel())).view_as(index)[inside]
            done += index.numel()
            self._groups.append((len(members), height))
            indices.append(index.flatten())
        index = torch.cat(indices)
        # One length, no padding: the rows lie as they are wanted.
        self._in_order = torch.equal(index, torch.arange(rows))
        self._index = index.to(device)
        self._missing = where < 0
        self._any_missing = bool(self._missing.any())
        self._missing = self._missing.to(device)
        self._where = where.clamp_min(0).to(device)
        self._hidden: dict[tuple[int, int | None], Tensor] = {}

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        heads, dim = q_NHD.shape[1:]
        # Gathered once and split, because every gathering's gradient is a tensor of N rows.
        sizes = [count * height for count, height in self._groups]
        ordered = (x if self._in_order else x[self._index] for x in (q_NHD, k_NGD, v_NGD))
        gathered = zip(*(torch.split(x, sizes) for x in ordered), strict=True)
        parts = []
        for (count, height), group in zip(self._groups, gathered, strict=True):
            q, k, v = (x.view(count, height, x.shape[1], dim).transpose(1, 2) for x in group)
            if k.shape[1] < heads:
                k, v = (x.repeat_interleave(heads // k.shape[1], 1) for x in (k, v))
            mixed = self._attend(q, k, v, scale, None if window is None or window >= height else window)
            parts.append(mixed.transpose(1, 2).reshape(-1, heads, dim))
        out = torch.cat(parts)
        if self._in_order:
            return out
        out = out[self._where]
        return out.masked_fill(self._missing[:, None, None], 0) if self._any_missing else out

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        """[B, H, T, D] each."""
        height = q.shape[2]
        if height > LONGEST or q.device.type != "cpu":
            mask = None if window is None else self._unseen(height, window, q) == 0
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
        hidden = self._unseen(height, window, q)
        rows = (x.flatten(0, 1) for x in (q, k, v))
        flat: Tensor = PlainAttention.apply(*rows, hidden[None], scale, window)  # type: ignore[no-untyped-call]
        return flat.view_as(q)

    def _unseen(self, height: int, window: int | None, like: Tensor) -> Tensor:
        """0 where a query sees a key, −inf where it does not: [T, T]."""
        if (height, window) not in self._hidden:
            step = torch.arange(height, device=like.device)
            self._hidden[height, window] = unseen(step[:, None] - step, window, like.dtype)
        return self._hidden[height, window]
