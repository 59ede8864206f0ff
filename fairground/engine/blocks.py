"""Which cache blocks are whose. Holds numbers only; the keys and values lie in fairground.engine.cache.

A block has as many users as sequences read it. Without users it is free, but what it holds may still be found by its
digest, and read again, until the block is taken for something else; the longest unused goes first.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from fairground.models.packed import BLOCK

NOWHERE = 0  # a block that nobody is given: it stands in a table for what can no longer be seen


class BlockPool:
    """Blocks of one group of layers, at most `limit` of them while `available` is heeded.

    Below `kept` blocks the pool grows rather than forget what may be read again.
    """

    def __init__(self, limit: int, kept: int) -> None:
        self._limit, self._kept = limit, kept
        self._users = [1]
        self._blank: list[int] = []
        self._readable: OrderedDict[int, bytes] = OrderedDict()  # free, with their digests, longest unused first
        self._digests: dict[int, bytes] = {}
        self._found: dict[bytes, int] = {}

    @property
    def size(self) -> int:
        """Blocks that there are by now, NOWHERE included."""
        return len(self._users)

    @property
    def used(self) -> int:
        """Blocks that some sequence holds."""
        return self.size - 1 - len(self._blank) - len(self._readable)

    @property
    def available(self) -> int:
        """Blocks that can be taken within the limit."""
        return max(0, self._limit - self.used)

    def take(self, count: int) -> list[int]:
        """New blocks, each with one user."""
        return [self._one() for _ in range(count)]

    def _one(self) -> int:
        if not self._blank and self._readable and self.size > self._kept:
            block, digest = self._readable.popitem(last=False)
            del self._digests[block], self._found[digest]
        elif self._blank:
            block = self._blank.pop()
        else:
            block = self.size
            self._users.append(0)
        self._users[block] = 1
        return block

    def share(self, blocks: Sequence[int]) -> None:
        """One more user for each."""
        for block in blocks:
            if block != NOWHERE:
                self._users[block] += 1
                self._readable.pop(block, None)

    def release(self, blocks: Sequence[int]) -> None:
        """One user less for each; without any a block is free. A text's last blocks are forgotten before its first."""
        for block in reversed(blocks):
            if block == NOWHERE:
                continue
            self._users[block] -= 1
            if self._users[block] == 0:
                if block in self._digests:
                    self._readable[block] = self._digests[block]
                else:
                    self._blank.append(block)

    def remember(self, block: int, digest: bytes) -> None:
        """From now on the block's content can be found; where another has the same, that one stays the one found."""
        if digest not in self._found and block not in self._digests:
            self._found[digest] = block
            self._digests[block] = digest

    def find(self, digest: bytes) -> int | None:
        """The block with this content, if there is still one."""
        return self._found.get(digest)


def blocks_for(tokens: int) -> int:
    """How many blocks hold that many tokens."""
    return -(-tokens // BLOCK)


def digest(before: bytes, tokens: Sequence[int]) -> bytes:
    """Names a block's content: its tokens, and by the digest of the block before it, all that went before."""
    return hashlib.sha256(before + array("q", tokens).tobytes()).digest()
