"""Attention over packed sequences, twice: exactly reproducible, and over a cache as fast as torch can.

`ExactAttention` gives a token the same bits whatever else is in the batch, however its text was cut into chunks, and
whether its prefix was computed now or lies in a cache. Queries go to torch's fused kernel with all keys up to the next
multiple of 64 positions, counted from the start of their own sequence; those that come after are masked. In bfloat16, a
query's result was found not to depend on how many other rows there are, nor on keys that are masked for it, as long as
the kernel packs the keys. It does on a processor with AMX from 64 rows on, where that pays for each thread; heads that
share a key head are rows of one product, rows are filled up to whole pieces, and then packing pays in any batch up to
FIXED_THREADS; beyond, and on other processors, 64 positions of one sequence are done at a time. In float32 nothing is
packed, so fewer rows will do, but sums depend on how many keys there are, so it is 64 positions at a time too. What
would be one piece of work is done twice, because threads would share out its products instead.
tests/models/test_company.py holds all of it to it.

`FusedAttention` hands the same kernel whole prompts, and sums depend on the shape of the batch. It is for decoding in
bfloat16, and equals the exact one up to rounding; packed_attention.py is for training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fairground.models.config import DecoderConfig
from fairground.models.packed import BLOCK, Packed, Pages

FIXED_THREADS = 16  # torch packs where rows, in whole pieces of 32 for each thread, are at least 4 for each key
TILE = 64  # positions
KEYS = 512  # that the kernel takes at a time
SMALL = 16  # queries, in float32
UNIT = 32  # queries; a multiple of it is a multiple of what the kernel takes at a time
ROWS = 767  # of one product; from 768 on the kernel takes larger pieces, which is slower
PAIRS = 1 << 20  # queries times keys of one product, for each head; what is more goes one after another


class Attend(Protocol):
    """Attention of one forward pass."""

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """H query heads over G key-value heads: [N, H, D]. `window`: how many positions back, itself included."""
        ...


@cache
def packs_keys() -> bool:
    """Whether torch's fused kernel packs bfloat16 keys on this processor."""
    return bool(torch.cpu._is_amx_tile_supported())


def unseen(back: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """−inf where a query must not see the key that stands `back` positions before it, else 0."""
    hidden = back < 0 if window is None else (back < 0) | (back >= window)
    return torch.zeros(back.shape, dtype=dtype, device=back.device).masked_fill_(hidden, float("-inf"))


class _Part(NamedTuple):
    """Some of a sequence's query rows."""

    sequence: int
    row: int
    rows: int
    first: int  # position


class _Stretch:
    """At most `height` query rows from each of some sequences, and the keys up to position `end`."""

    def __init__(
        self, parts: Sequence[_Part], end: int, height: int, pages: Pages, rows: int, c: DecoderConfig
    ) -> None:
        """`rows` is N."""
        self.parts, self.rows, self._ratio, self._end = parts, height, c.heads // c.kv_heads, end
        self._begin = begin = min(part.first for part in parts)
        self._pages, device = pages, pages.keys[0].device
        index = torch.full((len(parts), height), rows, dtype=torch.int64)
        position = torch.full((len(parts), height), begin, dtype=torch.int64)
        for i, part in enumerate(parts):
            index[i, : part.rows] = torch.arange(part.row, part.row + part.rows)
            position[i, : part.rows] = torch.arange(part.first, part.first + part.rows)
        self._position = position.to(device)
        # Rows of [N · heads, D]: as queries, and where the result goes; what fills up is row N.
        heads = torch.arange(c.heads).view(c.kv_heads, -1)
        queries = index[:, None, None, :] * c.heads + heads[None, :, :, None]  # [parts, key heads, ratio, height]
        self.target = queries.permute(0, 2, 3, 1).flatten().to(device)
        self.source = torch.where(queries < rows * c.heads, queries, 0).flatten().to(device)
        self._tables: dict[tuple[int, int], Tensor] = {}
        self._masks: dict[int | None, Tensor] = {}

    def gather(self, pool: Tensor, group: int, window: int | None) -> Tensor:
        """Keys or values that some row sees: [parts, key heads, keys, D]."""
        first = self._first_key(window) // BLOCK
        if (group, first) not in self._tables:
            tables = (self._pages.tables[group][part.sequence] for part in self.parts)
            blocks = [_filled(table, self._end // BLOCK)[first:] for table in tables]
            self._tables[group, first] = torch.tensor(blocks, device=pool.device).flatten()
        found = pool.index_select(0, self._tables[group, first])
        return found.view(len(self.parts), -1, *pool.shape[2:]).transpose(1, 2)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """−inf where a query must not see a key, else 0: [parts, 1, ratio · height, keys]."""
        if window not in self._masks:
            key = torch.arange(self._first_key(window), self._end, device=self._position.device)
            mask = unseen(self._position[:, :, None] - key, window, dtype)
            self._masks[window] = mask[:, None].repeat(1, 1, self._ratio, 1)
        return self._masks[window]

    def _first_key(self, window: int | None) -> int:
        """A position before which no row sees a key, and where the kernel begins a piece in any case."""
        return 0 if window is None else max(0, self._begin - window + 1) // KEYS * KEYS


def _filled(table: Sequence[int], blocks: int) -> list[int]:
    """So many of a sequence's blocks; where it has fewer, its first stands for what is masked."""
    return [*table[:blocks], *[table[0]] * (blocks - len(table))]


class ExactAttention:
    """See the module's text. Without pages, keys and values lie in pages of its own for one layer at a time."""

    def __init__(
        self,
        packed: Packed,
        pages: Pages | None,
        rows: int,
        config: DecoderConfig,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """`rows` is N, padding rows included; those get zeros."""
        self._own = pages is None
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
        few, shared = torch.get_num_threads() <= FIXED_THREADS, config.heads // config.kv_heads
        if few and packs_keys() and dtype != torch.float32:
            unit = UNIT if shared > 1 else 2 * UNIT
            step = max(unit, ROWS // shared // unit * unit)
        else:
            unit, step = TILE, TILE
        groups: dict[tuple[int, int, int], list[_Part]] = defaultdict(list)
        for s, (start, first, length) in enumerate(zip(packed.starts, packed.firsts, packed.lengths, strict=False)):
            stop = first + length
            for low in range(first if step != TILE else first // TILE * TILE, stop, step):
                at, high = max(first, low), min(stop, low + step)
                height = SMALL if dtype == torch.float32 and high - at <= SMALL else -(-(high - at) // unit) * unit
                end = -(-high // TILE) * TILE
                groups[at // KEYS, end, height].append(_Part(s, start + at - first, high - at, at))
        self._stretches = []
        for (_, end, height), parts in groups.items():
            most = max(1, PAIRS // (height * end)) if few else 1
            for i in range(0, len(parts), most):
                self._stretches.append(_Stretch(parts[i : i + most], end, height, pages, rows, config))

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        rows, heads, dim = q_NHD.shape
        kv_heads = k_NGD.shape[1]
        ratio, where = heads // kv_heads, 0
        if self._own:
            keys = k_NGD.new_zeros(self._blocks, BLOCK, kv_heads, dim)
            values = torch.zeros_like(keys)
        else:
            keys, values, where = self._pages.keys[layer], self._pages.values[layer], self._pages.groups[layer]
        block, offset = self._slots[where]
        keys[block, offset] = k_NGD[: self._filled].to(keys.dtype)
        values[block, offset] = v_NGD[: self._filled].to(values.dtype)
        queries, out = q_NHD.reshape(-1, dim), q_NHD.new_zeros((rows + 1) * heads, dim)
        for stretch in self._stretches:
            m, mask = len(stretch.parts), stretch.mask(window, q_NHD.dtype)
            q = queries.index_select(0, stretch.source).view(m, kv_heads, ratio * stretch.rows, dim)
            k, v = (stretch.gather(pool, where, window) for pool in (keys, values))
            if m * kv_heads == 1:
                q, k, v, mask = (x.expand(2, -1, -1, -1) for x in (q, k, v, mask))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)[:m]
            out[stretch.target] = mixed.transpose(1, 2).reshape(-1, dim)
        return out[: rows * heads].view(rows, heads, dim)


class FusedAttention:
    """See the module's text. Sequences with one new token come first and are done together; padding rows get zeros."""

    def __init__(self, packed: Packed, pages: Pages, device: torch.device) -> None:
        lengths = packed.lengths
        self._packed, self._pages, self._filled = packed, pages, packed.starts[-1]
        self._single = next((s for s, length in enumerate(lengths) if length > 1), len(lengths))
        self._masks: dict[tuple[int, int | None], Tensor] = {}
        self._ends = [first + length for first, length in zip(packed.firsts, lengths, strict=True)]
        self._slots, self._tables, self._singles = [], [], []
        longest = -(-max(self._ends[: self._single], default=0) // BLOCK)
        for group, tables in enumerate(pages.tables):
            self._slots.append(pages.slots(packed, group))
            singles = [_filled(table, longest) for table in tables[: self._single]]
            self._singles.append(torch.tensor(singles, dtype=torch.int64, device=device).flatten())
            self._tables.append([torch.tensor(list(table), device=device) for table in tables])
        self._end = torch.tensor(self._ends[: self._single], device=device)
        self._gathered: Tensor | None = None  # one for all layers, since fresh memory costs as much as filling it

    def __call__(
        self, layer: int, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        keys, values, group = self._pages.keys[layer], self._pages.values[layer], self._pages.groups[layer]
        block, offset = self._slots[group]
        keys[block, offset], values[block, offset] = k_NGD[: self._filled], v_NGD[: self._filled]
        out = torch.empty_like(q_NHD)
        out[self._filled :] = 0
        if self._single:
            out[: self._single] = self._decode(keys, values, self._singles[group], q_NHD, scale, window)
        for s in range(self._single, len(self._ends)):
            first, end = self._packed.firsts[s], self._ends[s]
            rows = slice(self._packed.starts[s], self._packed.starts[s + 1])
            if first == 0:
                k, v = k_NGD[rows].transpose(0, 1)[None], v_NGD[rows].transpose(0, 1)[None]
            else:
                table = self._tables[group][s]
                k, v = (
                    pool.index_select(0, table).flatten(0, 1)[None, :end].transpose(1, 2) for pool in (keys, values)
                )
            kv_heads, ratio = k.shape[1], q_NHD.shape[1] // k.shape[1]
            if first == 0 and (window is None or window >= end):
                q = q_NHD[rows].transpose(0, 1)[None]
                k, v = (x.repeat_interleave(ratio, 1) if ratio > 1 else x for x in (k, v))
                mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
                out[rows] = mixed[0].transpose(0, 1)
                continue
            # Query heads that share a key head are rows of one product.
            dim = q_NHD.shape[2]
            q = q_NHD[rows].reshape(-1, kv_heads, ratio, dim).permute(1, 2, 0, 3).reshape(1, kv_heads, -1, dim)
            mask = self._hidden(s, window, q.dtype, q.device).repeat(ratio, 1)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
            out[rows] = mixed.view(kv_heads, ratio, -1, dim).permute(2, 0, 1, 3).flatten(1, 2)
        return out

    def _hidden(self, s: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
        """−inf where a query of sequence s must not see a key, else 0: [queries, keys]."""
        if (s, window) not in self._masks:
            query = torch.arange(self._packed.firsts[s], self._ends[s], device=device)[:, None]
            self._masks[s, window] = unseen(query - torch.arange(self._ends[s], device=device), window, dtype)
        return self._masks[s, window]

    def _decode(
        self, keys: Tensor, values: Tensor, table: Tensor, q_NHD: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """One new token for each of S sequences: the query heads that share a key head are its rows."""
        sequences, (kv_heads, dim) = self._single, keys.shape[2:]
        q = q_NHD[:sequences].view(sequences, kv_heads, -1, dim)
        if self._gathered is None or self._gathered.shape[1] != len(table):
            self._gathered = keys.new_empty(2, len(table), *keys.shape[1:])
        for pool, place in zip((keys, values), self._gathered, strict=True):
            torch.index_select(pool, 0, table, out=place)
        k, v = self._gathered.view(2, sequences, -1, kv_heads, dim).transpose(2, 3)
        mask = None
        if sequences == 1 and (window is None or window >= self._ends[0]):
            k, v = k[:, :, : self._ends[0]], v[:, :, : self._ends[0]]
        else:
            if (-1, window) not in self._masks:
                back = self._end[:, None] - 1 - torch.arange(k.shape[2], device=q.device)
                self._masks[-1, window] = unseen(back, window, q.dtype)[:, None, None]
            mask = self._masks[-1, window]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return mixed.reshape(sequences, -1, dim)
