"""Attention of whole documents for training, without a cache.

Documents of about one length are padded to it and done together, as plain matrix products whose probabilities are
kept for the way back. On a CPU that takes half the time of torch's fused kernel up to a thousand tokens; beyond, and
on other devices, torch's kernel is used. Padding stands after a document's end, where no causal query looks.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

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
            scores = torch.baddbmm(hidden[:1, :1, :1], q[:, queries], k[:, keys].transpose(1, 2), beta=0, alpha=scale)
            # So many keys at the end hold all that some query must not see.
            ragged = keys.stop - (first if window is None else keys.start)
            scores[..., -ragged:] += hidden[:, queries, keys.stop - ragged : keys.stop]
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


class Laid(torch.autograd.Function):
    """Rows of [N, …] laid out as `index` [M] says; row n's gradient comes from `where[n]` and, if shared, `again` too.

    torch's own way back adds up all M rows one after another, or in an order that is not always the same.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, where: Tensor, missing: Tensor | None, again: Again) -> Tensor:
        ctx.save_for_backward(where, missing, again.rows, again.at)
        return x[index]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        where, missing, rows, at = ctx.saved_tensors
        own = gradient[where]
        if missing is not None:
            own[missing] = 0
        if rows.numel():
            own.index_add_(0, rows, gradient[at])  # a row is there once, so nothing depends on the order
        return own, None, None, None, None


class TakenBack(torch.autograd.Function):
    """Rows `where` [N] of what was laid out, each of them taken at most once; missing ones are 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor, missing: Tensor | None) -> Tensor:
        ctx.save_for_backward(where, missing)
        ctx.shape = x.shape
        out = x[where]
        return out if missing is None else out.masked_fill_(missing[:, None, None], 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        where, missing = ctx.saved_tensors
        if missing is not None:
            where, gradient = where[~missing], gradient[~missing]
        return gradient.new_zeros(ctx.shape).index_copy_(0, where, gradient), None, None


class Again(NamedTuple):
    """Rows that are laid out a second time, and where that is: int64 [R] each, no row twice."""

    rows: Tensor
    at: Tensor


class PackedAttention:
    """See the module's text. Fulfils `fairground.models.attention.Attend`.

    A sequence that goes on after another is laid out with that one before it, so that what both answers to a prompt
    have in common is computed once everywhere but here.
    """

    def __init__(self, packed: Packed, rows: int, device: torch.device) -> None:
        """`rows` is N, padding rows included; those get zeros. Of a sequence's parent, at most two may go on."""
        groups: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        lengths, led = packed.lengths, set[int]()
        parents = packed.parents or (-1,) * len(lengths)
        followed = set(parents)
        for sequence, (start, length, parent) in enumerate(zip(packed.starts, lengths, parents, strict=False)):
            if sequence in followed or not length:
                continue  # it comes with those that go on after it
            before = 0 if parent < 0 else lengths[parent]
            total = before + length
            groups[-(-total // GRAIN) * GRAIN].append((start, total, before, max(0, parent)))
        self._groups: list[tuple[int, int]] = []  # documents, tokens of each
        indices, again = [], list[tuple[Tensor, Tensor]]()
        where = torch.full((rows,), -1, dtype=torch.int64)
        done = 0
        for height, members in groups.items():
            starts, totals, befores, parent_rows = torch.tensor(members).T[:, :, None]
            parent_rows = torch.tensor(packed.starts)[parent_rows]
            step = torch.arange(height)
            inside = step < totals
            index = torch.where(step < befores, parent_rows + step, starts + step - befores)
            index = torch.where(inside, index, index[:, :1])
            places = (done + torch.arange(index.numel())).view_as(index)
            for number, (_, _, before, parent) in enumerate(members):
                if before and parent in led:
                    inside[number, :before] = False
                    again.append((index[number, :before], places[number, :before]))
                led.add(parent if before else -1)
            where[index[inside]] = places[inside]
            done += index.numel()
            self._groups.append((len(members), height))
            indices.append(index.flatten())
        index = torch.cat(indices)
        none = torch.zeros(0, dtype=torch.int64)
        both = zip(*again, strict=True) if again else ((none,), (none,))
        self._again = Again(*(torch.cat(parts).to(device) for parts in both))
        # One length, no padding: the rows lie as they are wanted.
        self._in_order = torch.equal(index, torch.arange(rows))
        self._index = index.to(device)
        missing = where < 0
        self._missing = missing.to(device) if bool(missing.any()) else None
        self._where = where.clamp_min(0).to(device)
        self._hidden: dict[tuple[int, int | None], Tensor] = {}

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        heads, dim = q_NHD.shape[1:]
        # Gathered once and split, because every gathering's gradient is a tensor of N rows.
        sizes = [count * height for count, height in self._groups]
        ordered = (x if self._in_order else self._laid(x) for x in (q_NHD, k_NGD, v_NGD))
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
        taken: Tensor = TakenBack.apply(out, self._where, self._missing)  # type: ignore[no-untyped-call]
        return taken

    def _laid(self, x: Tensor) -> Tensor:
        rows: Tensor = Laid.apply(x, self._index, self._where, self._missing, self._again)  # type: ignore[no-untyped-call]
        return rows

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
