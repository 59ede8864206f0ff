"""The key-value cache: blocks of 64 tokens, handed out, shared by reference count, and taken back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fairground.models.config import DecoderConfig
from fairground.models.packed import BLOCK, Pages


class BlockPool:
    """Owns the keys and values of every sequence at hand; a sequence is a list of block numbers.

    The pool begins small and doubles when it runs out, so memory follows use.
    """

    def __init__(self, config: DecoderConfig, dtype: torch.dtype, device: str = "cpu", blocks: int = 16) -> None:
        shape = (config.kv_heads, blocks, BLOCK, config.head_dim)
        self._keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]
        self._values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]
        self._users = [0] * blocks
        self._free = list(range(blocks - 1, -1, -1))

    @property
    def used(self) -> int:
        """Blocks that some sequence holds."""
        return len(self._users) - len(self._free)

    def take(self, count: int) -> list[int]:
        """New blocks, each with one user."""
        while len(self._free) < count:
            self._grow()
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._users[block] = 1
        return taken

    def share(self, blocks: Sequence[int]) -> None:
        """One more user for each."""
        for block in blocks:
            self._users[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One user less for each; a block without users is free again."""
        for block in blocks:
            self._users[block] -= 1
            if self._users[block] == 0:
                self._free.append(block)

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copies blocks: for a branch that writes on in the half-filled last block of its prefix."""
        if not sources:
            return
        device = self._keys[0].device
        source, target = torch.tensor(sources, device=device), torch.tensor(targets, device=device)
        for pool in (*self._keys, *self._values):
            pool[:, target] = pool[:, source]

    def view(self, tables: Sequence[Sequence[int]]) -> Pages:
        """What one forward pass sees."""
        return Pages(self._keys, self._values, tables)

    def _grow(self) -> None:
        old = len(self._users)

        def doubled(pool: Tensor) -> Tensor:
            return torch.cat((pool, torch.zeros_like(pool)), 1)

        for layer in range(len(self._keys)):
            self._keys[layer] = doubled(self._keys[layer])
            self._values[layer] = doubled(self._values[layer])
        self._users += [0] * old
        self._free[:0] = range(2 * old - 1, old - 1, -1)


def blocks_for(tokens: int) -> int:
    """How many blocks hold that many tokens."""
    return -(-tokens // BLOCK)
