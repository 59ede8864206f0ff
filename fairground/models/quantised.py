"""Weight-only quantised linears: int8 with one scale per output row, int4 with scale and zero per group of 32.

The numbers are fitted to full-precision weights (never copied from a file's own blocks) and stay packed in memory. Few
rows go through torch's packed products, many are multiplied with the dequantised weight, which is the reference. The
activations stay in bfloat16.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairground.errors import ConfigError

GROUP = 32  # int4 weights that share a scale and a zero
TILE = 64  # output rows are filled up to a multiple of this, the most that torch packs together
PACKED_ROWS = {4: 240, 8: 64}  # up to this many rows the packed product was the faster one (benchmarks/README.md)
STEP = 16  # numbers of a row that torch's int8 product reads at a time; of 88 it read 96, what lies behind them too
SHRINKS = torch.tensor([1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.75, 0.7])


class QuantisedLinear(nn.Module):
    """`weight` [out, in] as packed integers; made by `fit`."""

    packed: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, bits: int, out: int, packed: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.bits, self.out = bits, out
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)

    @classmethod
    def fit(cls, weight: Tensor, bits: int, bias: Tensor | None = None) -> QuantisedLinear:
        """Quantises float weights [out, in] to 8 or 4 bits. Rows that 32 does not divide get 8 bits instead of 4."""
        weight = weight.detach().float()
        if bits == 4 and weight.shape[1] % GROUP == 0:
            return cls(4, weight.shape[0], *_fit_int4(weight), bias)
        return cls(8, weight.shape[0], *_fit_int8(weight), bias)

    def dequantised(self, rows: slice = slice(None)) -> Tensor:
        """The reference: the weight [out, in] in bfloat16 (`rows` only for int8)."""
        if self.bits == 8:
            return self.packed[rows].to(self.scales.dtype) * self.scales[rows, None]
        levels = _unpack(self.packed)
        out, groups = levels.shape[0], levels.shape[1] // GROUP
        scale, zero = self.scales.transpose(0, 1).contiguous().unsqueeze(2).unbind(-1)
        weight = torch.addcmul(zero, levels.view(out, groups, GROUP).to(scale.dtype) - 8, scale)
        rows_: Tensor = weight.reshape(out, -1)
        return rows_[: self.out]

    def forward(self, x: Tensor) -> Tensor:
        ragged = self.bits == 8 and self.packed.shape[1] % STEP != 0
        if x.shape[0] > PACKED_ROWS[self.bits] or x.device.type != "cpu" or x.requires_grad or ragged:
            return F.linear(x, self.dequantised(), self.bias)
        if self.bits == 8:
            y: Tensor = torch.ops.aten._weight_int8pack_mm(x, self.packed, self.scales)
        else:
            y = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.packed, GROUP, self.scales)[:, : self.out]
        return y if self.bias is None else y + self.bias


class QuantisedEmbedding(nn.Module):
    """Token embeddings that share the int8 rows of the head."""

    def __init__(self, rows: QuantisedLinear) -> None:
        super().__init__()
        assert rows.bits == 8
        self.rows = rows

    def forward(self, tokens_N: Tensor) -> Tensor:
        packed, scales = self.rows.packed[tokens_N], self.rows.scales[tokens_N]
        return packed.to(scales.dtype) * scales[:, None]


def _fit_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
    levels = (weight / scales.float()[:, None]).round_().clamp_(-127, 127)
    return levels.to(torch.int8), scales


def _fit_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero of each group by least squares over a few shrunken ranges."""
    weight = F.pad(weight, (0, 0, 0, -weight.shape[0] % TILE))
    groups = weight.view(weight.shape[0], -1, GROUP)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    middle, half = (low + high) / 2, (high - low) / 2
    best = torch.full_like(low, float("inf"))
    scale, zero = torch.zeros_like(low), torch.zeros_like(low)
    for shrink in SHRINKS:
        # torch's packed product computes (level - 8) * scale + zero, so levels 0 to 15 are centred on 7.5.
        s = (half * shrink / 7.5).clamp(min=1e-12).bfloat16().float()
        z = (middle + s / 2).bfloat16().float()
        error = (_levels(groups, s, z).sub_(8).mul_(s).add_(z) - groups).square_().sum(-1, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        scale, zero = torch.where(better, s, scale), torch.where(better, z, zero)
    levels = _levels(groups, scale, zero).to(torch.int32).view(weight.shape)
    scales = torch.cat((scale, zero), -1).transpose(0, 1).contiguous().bfloat16()
    return _pack(levels), scales


def _levels(groups: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return ((groups - zero) / scale).add_(8).round_().clamp_(0, 15)


def _pack(levels: Tensor) -> Tensor:
    packed: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels, 1)
    return packed


@cache
def _layout() -> tuple[int, Tensor | None]:
    """Rows of one tile of torch's packed layout, and where each lies among its nibbles, low first (None: in order).

    torch lays tiles out as the processor likes, so this is read off by packing row numbers. Raises ConfigError where
    they come back in a way that is not known.
    """
    rows = torch.arange(TILE, dtype=torch.int32)[:, None].expand(TILE, GROUP).contiguous()
    ones, sixteens = _pack(rows % 16).flatten(), _pack(rows // 16).flatten()
    for tile in (64, 32, 16):
        low, high = (sixteens & 15) * 16 + (ones & 15), (sixteens >> 4) * 16 + (ones >> 4)
        shape = (TILE // tile, GROUP, tile // 2)
        found = torch.cat((low.view(shape), high.view(shape)), -1).long()
        first = torch.arange(0, TILE, tile)[:, None, None]
        order = found[0, 0].argsort()
        if torch.equal(found[:, :, order] - first, torch.arange(tile).expand(found.shape)):
            return tile, None if torch.equal(order, torch.arange(tile)) else order
    raise ConfigError("This processor lays 4-bit weights out in an unknown way; use #int8 instead of #int4.")


def _unpack(packed: Tensor) -> Tensor:
    """Levels 0 to 15 as uint8 [out, in] from torch's packed layout."""
    tile, order = _layout()
    bytes_ = packed.flatten().view(packed.shape[0] // tile, -1, tile // 2)
    nibbles = torch.cat((bytes_ & 15, bytes_ >> 4), -1)
    if order is not None:
        nibbles = nibbles[:, :, order]
    return nibbles.transpose(1, 2).reshape(packed.shape[0], -1)
