"""The keys and values of every sequence at hand, in blocks (Kwon et al., 2023, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fairground.engine.blocks import BlockPool
from fairground.models.config import DecoderConfig
from fairground.models.packed import BLOCK, Pages

KEPT_TOKENS = 8192  # whose keys and values may outlive their request


class Cache:
    """One pool of blocks for each group of layers that see equally far back, and the tensors behind them.

    `windows[group]` is how far that is (None: to the start). Memory follows use: a group's tensors double when its pool
    has outgrown them.
    """

    def __init__(self, config: DecoderConfig, dtype: torch.dtype, device: str = "cpu", *, tokens: int) -> None:
        """`tokens`: how many can be cached before requests have to wait."""
        self.windows: tuple[int | None, ...] = tuple(dict.fromkeys(config.windows))
        self.groups = [self.windows.index(window) for window in config.windows]
        limit = -(-tokens // BLOCK)
        self.pools = [BlockPool(limit, min(limit, KEPT_TOKENS // BLOCK)) for _ in self.windows]
        shape = (16, BLOCK, config.kv_heads, config.head_dim)
        self._keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]
        self._values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]

    @property
    def used(self) -> int:
        """Blocks that some sequence holds."""
        return sum(pool.used for pool in self.pools)

    def copy(self, group: int, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copies blocks of a group: for a branch that writes on in the half-filled last block of its prefix."""
        if not sources:
            return
        self._grow()
        device = self._keys[0].device
        source, target = torch.tensor(sources, device=device), torch.tensor(targets, device=device)
        for layer, own in enumerate(self.groups):
            if own == group:
                for tensor in (self._keys[layer], self._values[layer]):
                    tensor[target] = tensor[source]

    def view(self, tables: Sequence[Sequence[Sequence[int]]]) -> Pages:
        """What one forward pass sees: `tables[group][sequence]`."""
        self._grow()
        return Pages(self._keys, self._values, tables, self.groups)

    def _grow(self) -> None:
        for layer, group in enumerate(self.groups):
            while self._keys[layer].shape[0] < self.pools[group].size:
                self._keys[layer], self._values[layer] = _doubled(self._keys[layer]), _doubled(self._values[layer])


def _doubled(tensor: Tensor) -> Tensor:
    return torch.cat((tensor, torch.zeros_like(tensor)))


def bytes_per_token(config: DecoderConfig, dtype: torch.dtype) -> int:
    """What a token's keys and values take in all layers."""
    return int(2 * config.layers * config.kv_heads * config.head_dim * dtype.itemsize)
