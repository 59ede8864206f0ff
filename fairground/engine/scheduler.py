"""What the next forward pass computes. No tensors here: policy can be read, and tested, without a model.

Every running text that has all but its newest token computed gets that one; what room is left goes to prompts in
pieces, so that a long prompt delays nobody's next token by more than a piece. Of the texts that wait, one of the client
with the fewest running begins first, and of its own the one that came first: nobody waits behind another client's
thousand. A prompt's blocks that an earlier one left behind are read instead of computed. Where blocks run out, the text
that came last gives its own back and is computed again later from its tokens, which changes nothing of what is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fairground.engine.blocks import NOWHERE, BlockPool, blocks_for, digest
from fairground.models.packed import BLOCK


@dataclass(slots=True, eq=False)
class Text:
    """A text that is being written on: its tokens, and what of them is in the cache."""

    tokens: list[int]
    client: str = ""
    exact: bool = False  # the same bits in any company; shares no block with a text that is not
    computed: int = 0  # tokens whose keys and values are cached
    tables: list[list[int]] = field(default_factory=list)  # blocks, by group of layers
    digests: list[bytes] = field(default_factory=list)  # of the full blocks, by their content and all before
    reused: int | None = None  # tokens of the prompt that were found in the cache when it was first begun

    @property
    def left(self) -> int:
        """Tokens that have to be computed before the next one is known."""
        return len(self.tokens) - self.computed


@dataclass(frozen=True, slots=True)
class Chunk:
    """A text's next `count` tokens, which one forward pass computes."""

    text: Text
    count: int

    @property
    def tokens(self) -> list[int]:
        """What is computed."""
        return self.text.tokens[self.text.computed : self.text.computed + self.count]

    @property
    def whole(self) -> bool:
        """Whether the next token is known after it."""
        return self.count == self.text.left


class Scheduler:
    """Texts that run and wait, over pools of blocks that scoring may use too."""

    def __init__(
        self,
        pools: Sequence[BlockPool],
        windows: Sequence[int | None],
        *,
        most_running: int = 256,
        step_tokens: int = 2048,
        mixed_tokens: int = 512,
    ) -> None:
        """`windows[group]`: how far back a pool's layers see.

        `step_tokens`: of one forward pass; `mixed_tokens`: while somebody waits for a next token.
        """
        self._pools, self._windows = pools, windows
        self._most_running, self._step_tokens, self._mixed_tokens = most_running, step_tokens, mixed_tokens
        self.running: list[Text] = []  # by arrival
        self.waiting: list[Text] = []  # by arrival
        self.preemptions = 0

    def add(self, text: Text) -> None:
        """Queues a text behind those that wait."""
        self.waiting.append(text)

    def remove(self, text: Text) -> None:
        """Forgets a text, running or waiting, and frees its blocks."""
        (self.running if text in self.running else self.waiting).remove(text)
        self._let_go(text)

    def schedule(self) -> list[Chunk]:
        """The next pass: first those of one token, then pieces of prompts. Empty where nothing runs or waits."""
        chunks: dict[Text, int] = {}
        before = self.preemptions
        ready = [text for text in self.running if text.left == 1]
        for text in ready:
            if text in self.running and self._room(text, 1, chunks):
                chunks[text] = 1
        budget = self._mixed_tokens if chunks else self._step_tokens
        for text in [one for one in self.running if one.left > 1]:
            count = min(text.left, budget)
            if count and text in self.running and self._room(text, count, chunks):
                chunks[text] = count
                budget -= count
        mine = Counter(text.client for text in self.running)
        # Where somebody just gave way, nobody is let in before there is room again.
        while self.waiting and budget > 0 and len(self.running) < self._most_running and self.preemptions == before:
            text = min(self.waiting, key=lambda one: mine[one.client])  # the first of several
            count = self._begin(text, budget)
            if not count:
                break
            self.waiting.remove(text)
            self.running.append(text)
            mine[text.client] += 1
            chunks[text] = count
            budget -= count
        order = sorted(chunks.items(), key=lambda item: item[1] > 1)  # stable: by arrival within each kind
        return [Chunk(text, count) for text, count in order]

    def ran(self, chunks: Iterable[Chunk]) -> None:
        """Says that a pass is done: its full blocks can be found from now on; what nobody sees any more is free."""
        for chunk in chunks:
            text = chunk.text
            text.computed += chunk.count
            full = text.computed // BLOCK
            self._name(text, full)
            for pool, window, table in zip(self._pools, self._windows, text.tables, strict=True):
                for number in range((text.computed - chunk.count) // BLOCK, full):
                    pool.remember(table[number], text.digests[number])
                self._slide(pool, window, table, text.computed)

    def _slide(self, pool: BlockPool, window: int | None, table: list[int], computed: int) -> None:
        """Frees the blocks that lie wholly before what the next query, at position `computed`, sees."""
        number = _unseen(computed, window) - 1
        while number >= 0 and table[number] != NOWHERE:
            pool.release([table[number]])
            table[number] = NOWHERE
            number -= 1

    def _begin(self, text: Text, budget: int) -> int:
        """Gives a waiting text the blocks it can read and those of its first piece. How long that is; 0: no room."""
        self._name(text, (len(text.tokens) - 1) // BLOCK)
        found = self._longest_found(text)
        text.tables = []
        for pool, window in zip(self._pools, self._windows, strict=True):
            unseen = _unseen(found * BLOCK, window)
            seen = [pool.find(name) or NOWHERE for name in text.digests[unseen:found]]
            pool.share(seen)
            text.tables.append([NOWHERE] * unseen + seen)
        text.computed = found * BLOCK
        count = min(text.left, budget)
        if not self._reserve(text, count, alone=not self.running):
            self._let_go(text)
            return 0
        if text.reused is None:
            text.reused = text.computed
        return count

    def _longest_found(self, text: Text) -> int:
        """How many of its first blocks need not be computed: in each group, those that are still seen must be there."""
        for found in range((len(text.tokens) - 1) // BLOCK, 0, -1):
            if all(
                pool.find(name) is not None
                for pool, window in zip(self._pools, self._windows, strict=True)
                for name in text.digests[_unseen(found * BLOCK, window) : found]
            ):
                return found
        return 0

    def _room(self, text: Text, count: int, chunks: dict[Text, int]) -> bool:
        """Makes room for a running text's next tokens, if need be at the cost of those that came after it."""
        while not self._reserve(text, count, alone=self.running == [text]):
            last = self.running.pop()
            self._let_go(last)
            chunks.pop(last, None)
            self.waiting.insert(0, last)
            self.preemptions += 1
            if last is text:
                return False
        return True

    def _reserve(self, text: Text, count: int, *, alone: bool) -> bool:
        """Takes what blocks it lacks. The only one that runs always gets them, or nothing would ever go on."""
        wanted = blocks_for(text.computed + count)
        lacking = [wanted - len(table) for table in text.tables]
        if not alone and any(n > pool.available for n, pool in zip(lacking, self._pools, strict=True)):
            return False
        for pool, table, n in zip(self._pools, text.tables, lacking, strict=True):
            table += pool.take(n)
        return True

    def _let_go(self, text: Text) -> None:
        for pool, table in zip(self._pools, text.tables, strict=False):
            pool.release(table)
        text.tables, text.computed = [], 0

    def _name(self, text: Text, blocks: int) -> None:
        names = text.digests
        for number in range(len(names), blocks):
            before = names[-1] if names else b"exact" if text.exact else b""
            names.append(digest(before, text.tokens[number * BLOCK : (number + 1) * BLOCK]))


def _unseen(computed: int, window: int | None) -> int:
    """How many of a text's first blocks the query at position `computed` does not see at all."""
    return 0 if window is None else max(0, computed - window + 1) // BLOCK
