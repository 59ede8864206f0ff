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

from fairground.models.packed import Packed

GRAIN = 32  # tokens; lengths are padded to multiples of it
LONGEST = 1024  # tokens; up to here probabilities are kept


class PlainAttention(torch.autograd.Function):
    """softmax(scale q k' + hidden) v for [B, T, D] each, `hidden` [1, T, T] of zeros and −inf."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, scale: float) -> Tensor:
        weights = torch.baddbmm(hidden, q, k.transpose(1, 2), alpha=scale).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return torch.bmm(weights, v)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        q, k, v, weights = ctx.saved_tensors
        grad_v = torch.bmm(weights.transpose(1, 2), gradient)
        grad_weights = torch.bmm(gradient, v.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_q = torch.bmm(grad_scores, k).mul_(ctx.scale)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q).mul_(ctx.scale)
        return grad_q, grad_k, grad_v, None, None


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
        self._index = torch.cat(indices).to(device)
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
        gathered = zip(*(torch.split(x[self._index], sizes) for x in (q_NHD, k_NGD, v_NGD)), strict=True)
        parts = []
        for (count, height), group in zip(self._groups, gathered, strict=True):
            q, k, v = (x.view(count, height, x.shape[1], dim).transpose(1, 2) for x in group)
            if k.shape[1] < heads:
                k, v = (x.repeat_interleave(heads // k.shape[1], 1) for x in (k, v))
            mixed = self._attend(q, k, v, scale, None if window is None or window >= height else window)
            parts.append(mixed.transpose(1, 2).reshape(-1, heads, dim))
        out = torch.cat(parts)[self._where]
        return out.masked_fill(self._missing[:, None, None], 0) if self._any_missing else out

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        """[B, H, T, D] each."""
        height = q.shape[2]
        if height > LONGEST or q.device.type != "cpu":
            mask = None if window is None else self._unseen(height, window, q) == 0
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
        hidden = self._unseen(height, window, q)
        flat: Tensor = PlainAttention.apply(*(x.flatten(0, 1) for x in (q, k, v)), hidden[None], scale)  # type: ignore[no-untyped-call]
        return flat.view_as(q)

    def _unseen(self, height: int, window: int | None, like: Tensor) -> Tensor:
        """0 where a query sees a key, −inf where it does not: [T, T]."""
        if (height, window) not in self._hidden:
            step = torch.arange(height, device=like.device)
            back = step[:, None] - step
            unseen = back < 0 if window is None else (back < 0) | (back >= window)
            self._hidden[height, window] = torch.zeros_like(back, dtype=like.dtype).masked_fill_(unseen, float("-inf"))
        return self._hidden[height, window]
