"""Attention over packed sequences, twice: exactly reproducible, and over a cache as fast as torch can.

`ExactAttention` gives a token the same bits whatever else is in the batch, however its text was cut into chunks, and
whether its prefix was computed now or lies in a cache. Every query tile is multiplied with keys from position 0 up to
the end of its own stretch of 64, counted from the start of its own sequence and padded with masked keys, so the length
of each sum is fixed by the position alone; and it is done in float32 with at least 16 query rows, where the rows of a
matrix product were found not to depend on how many there are (tests/models/test_company.py holds it to that).

`FusedAttention` uses torch's fused kernels, whose sums depend on the shape of the batch. It is for
decoding in bfloat16, and equals the exact one up to rounding; packed_attention.py is for training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fairground.models.packed import BLOCK, Packed, Pages

TILE = 64  # positions; a tile's keys end at a multiple of it
SMALL_TILE = 16  # query rows
PAIRS = 1 << 20  # queries times keys of one product, for each head; what is more goes one after another


class Attend(Protocol):
    """Attention of one forward pass."""

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """H query heads over G key-value heads: [N, H, D]. `window`: how many positions back, itself included."""
        ...


class _Part(NamedTuple):
    """A sequence's query rows among TILE positions."""

    row: int
    rows: int
    first: int  # position
    sequence: int


class _Tile:
    """Query rows of the same TILE positions, from every sequence that has some there."""

    def __init__(self, members: Sequence[_Part], number: int, height: int, pages: Pages, rows: int) -> None:
        """`rows` is N, the index of the padding row."""
        device = pages.keys[0].device
        m, keys = len(members), (number + 1) * TILE
        index = torch.full((m, height), rows, dtype=torch.int64)
        position = torch.zeros((m, height), dtype=torch.int64)
        for i, part in enumerate(members):
            index[i, : part.rows] = torch.arange(part.row, part.row + part.rows)
            position[i, : part.rows] = torch.arange(part.first, part.first + part.rows)
        self.height, self.keys, self.count = height, keys, m
        self.index = index.flatten().to(device)
        self.filled = (index.flatten() < rows).nonzero().flatten().to(device)
        self.target = index.flatten()[index.flatten() < rows].to(device)
        self.tables = [
            torch.tensor([_filled(group[part.sequence], keys // BLOCK) for part in members], device=device).flatten()
            for group in pages.tables
        ]
        self._position = position.to(device)
        self._masks: dict[int | None, Tensor] = {}

    def hidden_from(self, window: int | None) -> Tensor:
        """True where a query must not see a key: [1, m, 1, height, keys]."""
        if window not in self._masks:
            key = torch.arange(self.keys, device=self._position.device)
            back = self._position[:, :, None] - key
            hidden = back < 0 if window is None else (back < 0) | (back >= window)
            self._masks[window] = hidden[None, :, None]
        return self._masks[window]


def _filled(table: Sequence[int], blocks: int) -> list[int]:
    """So many of a sequence's blocks; where it has fewer, its first stands for what is masked."""
    return [*table[:blocks], *[table[0]] * (blocks - len(table))]


class ExactAttention:
    """See the module's text. Without pages, keys and values lie in pages of its own for one layer at a time."""

    def __init__(self, packed: Packed, pages: Pages | None, rows: int, device: torch.device) -> None:
        """`rows` is N, padding rows included; those get zeros."""
        self._rows, self._own = rows, pages is None
        if pages is None:
            tables, used = [], 0
            for first, length in zip(packed.firsts, packed.lengths, strict=True):
                if first:
                    raise ValueError("a sequence that starts after position 0 needs the pages that hold its prefix")
                blocks = -(-length // BLOCK)
                tables.append(range(used, used + blocks))
                used += blocks
            pages = Pages([torch.empty(0, device=device)], [], [tables], [])
            self._blocks = used
        self._pages, self._filled = pages, packed.starts[-1]
        self._slots = [pages.slots(packed, group) for group in range(len(pages.tables))]
        groups: dict[tuple[int, int], list[_Part]] = defaultdict(list)
        for s, (start, first, length) in enumerate(zip(packed.starts, packed.firsts, packed.lengths, strict=False)):
            for number in range(first // TILE, -(-(first + length) // TILE)):
                low, high = max(first, number * TILE), min(first + length, (number + 1) * TILE)
                height = SMALL_TILE if high - low <= SMALL_TILE else TILE
                groups[number, height].append(_Part(start + low - first, high - low, low, s))
        self._tiles = []
        for (number, height), members in groups.items():
            most = max(1, PAIRS // (height * (number + 1) * TILE))
            for at in range(0, len(members), most):
                self._tiles.append(_Tile(members[at : at + most], number, height, pages, rows))

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        rows, heads, dim = q_NHD.shape
        kv_heads = k_NGD.shape[1]
        group = heads // kv_heads
        where = 0
        if self._own:
            keys = k_NGD.new_zeros(kv_heads, self._blocks, BLOCK, dim)
            values = torch.zeros_like(keys)
        else:
            keys, values, where = self._pages.keys[layer], self._pages.values[layer], self._pages.groups[layer]
        block, offset = self._slots[where]
        keys[:, block, offset] = k_NGD[: self._filled].transpose(0, 1).to(keys.dtype)
        values[:, block, offset] = v_NGD[: self._filled].transpose(0, 1).to(values.dtype)
        padded_q = torch.cat((q_NHD, q_NHD.new_zeros(1, heads, dim))).float() * scale
        out = q_NHD.new_zeros(rows, heads, dim)
        for tile in self._tiles:
            q = padded_q[tile.index].view(tile.count, tile.height, kv_heads, group, dim).permute(2, 0, 3, 1, 4)
            q = q.reshape(kv_heads * tile.count, group * tile.height, dim)
            k = keys.index_select(1, tile.tables[where]).float().view(kv_heads * tile.count, tile.keys, dim)
            v = values.index_select(1, tile.tables[where]).float().view(kv_heads * tile.count, tile.keys, dim)
            scores = torch.bmm(q, k.transpose(1, 2)).view(kv_heads, tile.count, group, tile.height, tile.keys)
            weights = scores.masked_fill_(tile.hidden_from(window), float("-inf")).softmax(-1)
            mixed = torch.bmm(weights.view(kv_heads * tile.count, group * tile.height, tile.keys), v)
            mixed = mixed.view(kv_heads, tile.count, group, tile.height, dim).permute(1, 3, 0, 2, 4)
            flat = mixed.reshape(tile.count * tile.height, heads, dim)
            out[tile.target] = flat[tile.filled].to(out.dtype)
        return out


class FusedAttention:
    """See the module's text. Sequences with one new token come first and are done together."""

    def __init__(self, packed: Packed, pages: Pages, device: torch.device) -> None:
        lengths = packed.lengths
        self._packed, self._pages, self._filled = packed, pages, packed.starts[-1]
        self._single = next((s for s, length in enumerate(lengths) if length > 1), len(lengths))
        self._visible: dict[tuple[int, int | None], Tensor] = {}
        self._ends = [first + length for first, length in zip(packed.firsts, lengths, strict=True)]
        self._slots, self._tables, self._singles = [], [], []
        longest = -(-max(self._ends[: self._single], default=0) // BLOCK)
        for group, tables in enumerate(pages.tables):
            self._slots.append(pages.slots(packed, group))
            singles = [_filled(table, longest) for table in tables[: self._single]]
            self._singles.append(torch.tensor(singles, dtype=torch.int64, device=device).flatten())
            self._tables.append([torch.tensor(list(table), device=device) for table in tables])
        self._end = torch.tensor(self._ends[: self._single], device=device)

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        keys, values, group = self._pages.keys[layer], self._pages.values[layer], self._pages.groups[layer]
        block, offset = self._slots[group]
        keys[:, block, offset] = k_NGD[: self._filled].transpose(0, 1)
        values[:, block, offset] = v_NGD[: self._filled].transpose(0, 1)
        parts = [self._decode(keys, values, self._singles[group], q_NHD, scale, window)] if self._single else []
        for s in range(self._single, len(self._ends)):
            first, end = self._packed.firsts[s], self._ends[s]
            rows = slice(self._packed.starts[s], self._packed.starts[s + 1])
            q = q_NHD[rows].transpose(0, 1)[None]
            if first == 0:
                k, v = k_NGD[rows].transpose(0, 1)[None], v_NGD[rows].transpose(0, 1)[None]
            else:
                k, v = (pool[:, self._tables[group][s]].flatten(1, 2)[None, :, :end] for pool in (keys, values))
            ratio = q.shape[1] // k.shape[1]
            k, v = (x.repeat_interleave(ratio, 1) if ratio > 1 else x for x in (k, v))
            plain = first == 0 and (window is None or window >= end)
            mask = None if plain else self._causal(s, window, q.device)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=plain, scale=scale)
            parts.append(mixed[0].transpose(0, 1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _causal(self, s: int, window: int | None, device: torch.device) -> Tensor:
        if (s, window) not in self._visible:
            query = torch.arange(self._packed.firsts[s], self._ends[s], device=device)[:, None]
            back = query - torch.arange(self._ends[s], device=device)
            self._visible[s, window] = back >= 0 if window is None else (back >= 0) & (back < window)
        return self._visible[s, window]

    def _decode(
        self, keys: Tensor, values: Tensor, table: Tensor, q_NHD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """One new token for each of S sequences: the query heads that share a key head are its rows."""
        sequences, kv_heads, dim = self._single, keys.shape[0], keys.shape[-1]
        q = q_NHD[:sequences].view(sequences, kv_heads, -1, dim)
        k, v = (
            pool.index_select(1, table).view(kv_heads, sequences, -1, dim).transpose(0, 1) for pool in (keys, values)
        )
        mask = None
        if sequences == 1 and (window is None or window >= self._ends[0]):
            k, v = k[:, :, : self._ends[0]], v[:, :, : self._ends[0]]
        else:
            if (-1, window) not in self._visible:
                back = self._end[:, None] - 1 - torch.arange(k.shape[2], device=q.device)
                seen = back >= 0 if window is None else (back >= 0) & (back < window)
                self._visible[-1, window] = seen[:, None, None]
            mask = self._visible[-1, window]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return mixed.reshape(sequences, -1, dim)
