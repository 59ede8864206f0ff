"""Attention over packed sequences, twice: exactly reproducible, and over a cache as fast as torch can.

`ExactAttention` gives a token the same bits whatever else is in the batch, however its text was cut into chunks, and
whether its prefix was computed now or lies in a cache. Every query tile is multiplied with keys from position 0 up to
the end of its own block of 64, counted from the start of its own sequence and padded with masked keys, so the length
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
    """A sequence's query rows in one block of positions, and its cache blocks up to there."""

    row: int
    rows: int
    first: int  # position
    table: Sequence[int]


class _Tile:
    """Query rows of one block of positions, from every sequence that has some there."""

    def __init__(self, members: Sequence[_Part], block: int, height: int, rows: int, device: torch.device) -> None:
        """`rows` is N, the index of the padding row."""
        m, keys = len(members), (block + 1) * BLOCK
        index = torch.full((m, height), rows, dtype=torch.int64)
        position = torch.zeros((m, height), dtype=torch.int64)
        for i, part in enumerate(members):
            index[i, : part.rows] = torch.arange(part.row, part.row + part.rows)
            position[i, : part.rows] = torch.arange(part.first, part.first + part.rows)
        self.height, self.keys, self.count = height, keys, m
        self.index = index.flatten().to(device)
        self.filled = (index.flatten() < rows).nonzero().flatten().to(device)
        self.target = index.flatten()[index.flatten() < rows].to(device)
        self.table = torch.tensor([list(part.table) for part in members], device=device).flatten()
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
            pages = Pages([torch.empty(0, device=device)], [], tables)
            self._blocks = used
        self._pages, self._slots, self._filled = pages, pages.slots(packed), packed.starts[-1]
        groups: dict[tuple[int, int], list[_Part]] = defaultdict(list)
        places = zip(packed.starts, packed.firsts, packed.lengths, pages.tables, strict=False)
        for start, first, length, table in places:
            for block in range(first // BLOCK, -(-(first + length) // BLOCK)):
                low, high = max(first, block * BLOCK), min(first + length, (block + 1) * BLOCK)
                height = SMALL_TILE if high - low <= SMALL_TILE else BLOCK
                groups[block, height].append(_Part(start + low - first, high - low, low, table[: block + 1]))
        self._tiles = []
        for (block, height), members in groups.items():
            most = max(1, PAIRS // (height * (block + 1) * BLOCK))
            for at in range(0, len(members), most):
                self._tiles.append(_Tile(members[at : at + most], block, height, rows, device))

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        rows, heads, dim = q_NHD.shape
        kv_heads = k_NGD.shape[1]
        group = heads // kv_heads
        if self._own:
            keys = k_NGD.new_zeros(kv_heads, self._blocks, BLOCK, dim)
            values = torch.zeros_like(keys)
        else:
            keys, values = self._pages.keys[layer], self._pages.values[layer]
        block, offset = self._slots
        keys[:, block, offset] = k_NGD[: self._filled].transpose(0, 1).to(keys.dtype)
        values[:, block, offset] = v_NGD[: self._filled].transpose(0, 1).to(values.dtype)
        padded_q = torch.cat((q_NHD, q_NHD.new_zeros(1, heads, dim))).float() * scale
        out = q_NHD.new_zeros(rows, heads, dim)
        for tile in self._tiles:
            q = padded_q[tile.index].view(tile.count, tile.height, kv_heads, group, dim).permute(2, 0, 3, 1, 4)
            q = q.reshape(kv_heads * tile.count, group * tile.height, dim)
            k = keys.index_select(1, tile.table).float().view(kv_heads * tile.count, tile.keys, dim)
            v = values.index_select(1, tile.table).float().view(kv_heads * tile.count, tile.keys, dim)
            scores = torch.bmm(q, k.transpose(1, 2)).view(kv_heads, tile.count, group, tile.height, tile.keys)
            weights = scores.masked_fill_(tile.hidden_from(window), float("-inf")).softmax(-1)
            mixed = torch.bmm(weights.view(kv_heads * tile.count, group * tile.height, tile.keys), v)
            mixed = mixed.view(kv_heads, tile.count, group, tile.height, dim).permute(1, 3, 0, 2, 4)
            flat = mixed.reshape(tile.count * tile.height, heads, dim)
            out[tile.target] = flat[tile.filled].to(out.dtype)
        return out


class FusedAttention:
    """See the module's text."""

    def __init__(self, packed: Packed, pages: Pages, device: torch.device) -> None:
        self._packed, self._pages, self._filled = packed, pages, packed.starts[-1]
        self._one_each = all(length == 1 for length in packed.lengths)
        self._visible: dict[tuple[int, int | None], Tensor] = {}
        self._slots = pages.slots(packed)
        self._ends = [f + n for f, n in zip(packed.firsts, packed.lengths, strict=True)]
        longest = max(-(-end // BLOCK) for end in self._ends)
        # A short sequence's table is filled up with its first block, whose surplus copies are masked.
        tables = [[*t[:longest], *[t[0]] * (longest - len(t))] for t in (list(t) for t in pages.tables)]
        self._table = torch.tensor(tables, device=device)
        self._end = torch.tensor(self._ends, device=device)

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        keys, values = self._pages.keys[layer], self._pages.values[layer]
        block, offset = self._slots
        keys[:, block, offset] = k_NGD[: self._filled].transpose(0, 1)
        values[:, block, offset] = v_NGD[: self._filled].transpose(0, 1)
        if self._one_each:
            return self._decode(keys, values, q_NHD, scale, window)
        parts = []
        for s, (first, length) in enumerate(zip(self._packed.firsts, self._packed.lengths, strict=True)):
            rows = slice(self._packed.starts[s], self._packed.starts[s] + length)
            q = q_NHD[rows].transpose(0, 1)[None]
            if first == 0:
                k, v = k_NGD[rows].transpose(0, 1)[None], v_NGD[rows].transpose(0, 1)[None]
            else:
                k, v = (pool[:, self._table[s]].flatten(1, 2)[None, :, : first + length] for pool in (keys, values))
            group = q.shape[1] // k.shape[1]
            k, v = (x.repeat_interleave(group, 1) if group > 1 else x for x in (k, v))
            plain = first == 0 and (window is None or window >= length)
            mask = None if plain else self._causal(s, first, length, window, q.device)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=plain, scale=scale)
            parts.append(mixed[0].transpose(0, 1))
        out = torch.cat(parts)
        missing = q_NHD.shape[0] - out.shape[0]
        return torch.cat((out, out.new_zeros(missing, *out.shape[1:]))) if missing else out

    def _causal(self, s: int, first: int, length: int, window: int | None, device: torch.device) -> Tensor:
        if (s, window) not in self._visible:
            query = torch.arange(first, first + length, device=device)[:, None]
            back = query - torch.arange(first + length, device=device)
            self._visible[s, window] = back >= 0 if window is None else (back >= 0) & (back < window)
        return self._visible[s, window]

    def _decode(self, keys: Tensor, values: Tensor, q_SHD: Tensor, scale: float, window: int | None) -> Tensor:
        """One new token for each of S sequences: the query heads that share a key head are its rows."""
        sequences, blocks = self._table.shape
        kv_heads, dim = keys.shape[0], keys.shape[-1]
        q = q_SHD[:sequences].view(sequences, kv_heads, -1, dim)
        k, v = (
            pool.index_select(1, self._table.flatten()).view(kv_heads, sequences, blocks * BLOCK, dim).transpose(0, 1)
            for pool in (keys, values)
        )
        mask = None
        if sequences == 1 and (window is None or window >= self._ends[0]):
            k, v = k[:, :, : self._ends[0]], v[:, :, : self._ends[0]]
        else:
            if (-1, window) not in self._visible:
                key = torch.arange(blocks * BLOCK, device=q.device)
                back = self._end[:, None] - 1 - key
                seen = back >= 0 if window is None else (back >= 0) & (back < window)
                self._visible[-1, window] = seen[:, None, None]
            mask = self._visible[-1, window]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        out = mixed.reshape(sequences, -1, dim)
        missing = q_SHD.shape[0] - sequences
        return torch.cat((out, out.new_zeros(missing, *out.shape[1:]))) if missing else out
