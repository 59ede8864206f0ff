"""Packed tokens: how N tokens of several sequences lie one after another, and where their keys and values are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 16  # tokens whose keys and values lie together in a cache


@dataclass(frozen=True, slots=True)
class Packed:
    """Where each of N packed tokens belongs.

    Sequence s owns the tokens from `starts[s]` up to `starts[s + 1]`; the first of them stands at position `firsts[s]`
    of its text (0 unless earlier tokens are before it), the others follow. Those earlier tokens are in a cache, or, in
    training, they are the whole sequence `parents[s]` of this pass: two answers to one prompt need it only once. Empty
    `parents`: no sequence has one; −1: this one has none. A parent has no parent itself.
    """

    starts: tuple[int, ...]
    firsts: tuple[int, ...]
    parents: tuple[int, ...] = ()

    @classmethod
    def of(cls, lengths: Sequence[int], firsts: Sequence[int] | None = None, parents: Sequence[int] = ()) -> Packed:
        """From the number of new tokens of each sequence, the position of each one's first, and what goes before it."""
        starts = [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        return cls(tuple(starts), tuple(firsts) if firsts is not None else (0,) * len(lengths), tuple(parents))

    def part(self, first: int, last: int) -> Packed:
        """The sequences from `first` up to `last`, with the parents of all of them."""
        parents = [parent if parent < 0 else parent - first for parent in self.parents[first:last]]
        return Packed.of(self.lengths[first:last], self.firsts[first:last], parents)

    @property
    def lengths(self) -> list[int]:
        """New tokens of each sequence."""
        return [stop - start for start, stop in zip(self.starts, self.starts[1:], strict=False)]

    @property
    def last(self) -> int:
        """The greatest position of any new token; 0 where there is none."""
        return max((first + length - 1 for first, length in zip(self.firsts, self.lengths, strict=True)), default=0)

    def positions(self, device: torch.device | None = None) -> Tensor:
        """The position of every token in its own sequence: int64 [N]."""
        parts = [torch.arange(f, f + n) for f, n in zip(self.firsts, self.lengths, strict=True)]
        return torch.cat(parts).to(device) if parts else torch.zeros(0, dtype=torch.int64, device=device)


@dataclass(frozen=True, slots=True)
class Pages:
    """A view of a key-value cache that somebody else owns.

    `keys[layer]` and `values[layer]` are [blocks, BLOCK, kv_heads, head_dim] and finite everywhere. Layers of one group
    keep a sequence in blocks of the same numbers: `tables[group][s]` names those that hold sequence s, in order, with
    room for its new tokens; what no query of the group sees any more may be any block. `groups[layer]` is a layer's
    group. The forward pass writes the new tokens' keys and values there and reads what went before.
    """

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    tables: Sequence[Sequence[Sequence[int]]]
    groups: Sequence[int]

    def slots(self, packed: Packed, group: int) -> tuple[Tensor, Tensor]:
        """Block and offset within it for each new token, in one group of layers: two int64 [N]."""
        places = [
            (table[position // BLOCK], position % BLOCK)
            for table, first, length in zip(self.tables[group], packed.firsts, packed.lengths, strict=True)
            for position in range(first, first + length)
        ]
        both = torch.tensor(places, dtype=torch.int64, device=self.keys[0].device).view(-1, 2)
        return both[:, 0], both[:, 1]
