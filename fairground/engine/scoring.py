"""Log-likelihoods of many continuations: every shared prefix is computed once.

The token sequences form a tree: a few-shot prefix is its trunk, the choices of one question are leaves. A node is run
when its parent's keys and values are there; nodes that are ready run packed together, and only positions whose next
token is asked for get logits. Because the exact path gives a token the same bits in any company and over any cache
(fairground.models.attention), the result is the one that each request would have had alone.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fairground.engine.blocks import blocks_for
from fairground.engine.cache import Cache
from fairground.engine.compute import compute
from fairground.engine.likelihood import likelihoods
from fairground.models.decoder import Decoder
from fairground.models.packed import BLOCK, Packed
from fairground.types import Score, TokenScore

PASS_TOKENS = 2048  # new tokens of one forward pass
LOOK_AHEAD = 512  # nodes among which those of a pass are chosen


@dataclass(slots=True)
class Node:
    """Tokens that one or more requests have in common, after those of its parent."""

    tokens: tuple[int, ...]
    start: int  # position of the first of them
    parent: Node | None
    children: list[Node] = field(default_factory=list)
    asked: list[tuple[int, int, int]] = field(default_factory=list)  # position, its next token, request
    tables: list[list[int]] = field(default_factory=list)  # blocks, by group of layers
    waiting: int = 0  # children that still need the keys and values

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


def tree(sequences: Sequence[Sequence[int]]) -> tuple[list[Node], list[Node]]:
    """A prefix tree over the sequences: its roots, and for each sequence the node in which it ends."""
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    roots: list[Node] = []
    ends: list[Node] = [None] * len(sequences)  # type: ignore[list-item]

    def grow(members: list[int], depth: int, parent: Node | None) -> None:
        at = 0
        while at < len(members):
            first = sequences[members[at]]
            stop = at
            while stop < len(members) and sequences[members[stop]][depth] == first[depth]:
                stop += 1
            # Sorted, so what the first and the last have in common is common to all between.
            last = sequences[members[stop - 1]]
            shared = depth
            while shared < min(len(first), len(last)) and first[shared] == last[shared]:
                shared += 1
            node = Node(tuple(first[depth:shared]), depth, parent)
            (parent.children if parent else roots).append(node)
            longer = []
            for member in members[at:stop]:
                if len(sequences[member]) == shared:
                    ends[member] = node
                else:
                    longer.append(member)
            grow(longer, shared, node)
            at = stop

    grow([i for i in order if sequences[i]], 0, None)
    return roots, ends


Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]


def score(decoder: Decoder, cache: Cache, requests: Pairs) -> list[Score]:
    """Scores of (context, continuation) token pairs, each of at least one token, in their order."""
    return [
        Score(sum(token.logprob or 0.0 for token in scored), greedy, len(scored))
        for scored, greedy in _found(decoder, cache, requests, 0)
    ]


def score_tokens(
    decoder: Decoder, cache: Cache, requests: Pairs, alternatives: int, stop: threading.Event | None = None
) -> list[list[TokenScore]]:
    """The same, token by token of each continuation, with as many of the likeliest tokens beside each."""
    return [scored for scored, _ in _found(decoder, cache, requests, alternatives, stop)]


def _found(
    decoder: Decoder, cache: Cache, requests: Pairs, alternatives: int, stop: threading.Event | None = None
) -> list[tuple[list[TokenScore], bool]]:
    """Each continuation's tokens, and whether every one was the likeliest.

    The last token of a continuation is only a target, so it is not run. Other requests may take turns between the
    passes, and between two of them `stop` ends it. A pass that raises leaves the pool as it was.
    """
    roots, ends = tree([(*context, *continuation)[:-1] for context, continuation in requests])
    for number, ((context, continuation), node) in enumerate(zip(requests, ends, strict=True)):
        walk: Node | None = node
        for position in range(len(context) + len(continuation) - 2, len(context) - 2, -1):
            while walk is not None and position < walk.start:
                walk = walk.parent
            assert walk is not None
            walk.asked.append((position, continuation[position + 1 - len(context)], number))
    answers = _Answers(requests, alternatives)
    held: list[Node] = []
    ready = roots[::-1]
    try:
        while ready and not (stop and stop.is_set()):
            compute(_pass, decoder, cache, ready, held, answers)
        if not ready:
            compute(answers.finish, decoder)
    finally:
        compute(_release, cache, held)
    return list(zip(answers.scores, answers.greedy, strict=True))


class _Answers:
    """What the passes have found so far. Hidden states wait until they are worth a pass over the head's weights."""

    def __init__(self, requests: Pairs, alternatives: int) -> None:
        self._alternatives = alternatives
        self._contexts = [len(context) for context, _ in requests]
        self.scores = [[TokenScore(token, None) for token in continuation] for _, continuation in requests]
        self.greedy = [True] * len(requests)
        self._hidden: list[Tensor] = []
        self._asked: list[list[tuple[int, int, int]]] = []  # of each hidden state

    def ask(self, decoder: Decoder, hidden_MD: Tensor, asked: Sequence[list[tuple[int, int, int]]]) -> None:
        """What is `asked` (position, its next token, request) after each of these hidden states."""
        self._hidden.append(hidden_MD)
        self._asked += asked
        if len(self._asked) >= PASS_TOKENS:
            self.finish(decoder)

    def finish(self, decoder: Decoder) -> None:
        """Answers what has been asked by now."""
        if not self._asked:
            return
        wanted = [(row, *one) for row, asked in enumerate(self._asked) for one in asked]
        rows, tokens = [w[0] for w in wanted], [w[2] for w in wanted]
        found = likelihoods(decoder, torch.cat(self._hidden), rows, tokens, self._alternatives)
        for (row, position, token, request), logprob, first in zip(wanted, found.own, found.greedy, strict=True):
            at = position + 1 - self._contexts[request]
            self.scores[request][at] = TokenScore(token, logprob, found.beside[row])
            self.greedy[request] &= first
        self._hidden, self._asked = [], []


def _pass(decoder: Decoder, cache: Cache, ready: list[Node], held: list[Node], answers: _Answers) -> None:
    """Runs as many ready nodes as one forward pass takes, and makes their children ready."""
    batch = [ready.pop()]
    room = PASS_TOKENS - len(batch[0].tokens)
    # A pass is filled up to whole FIXED_ROWS anyway, so a shorter node may go before one that does not fit.
    for node in reversed(ready[-LOOK_AHEAD:]):
        if len(node.tokens) <= room:
            batch.append(node)
            room -= len(node.tokens)
    chosen = set(map(id, batch))
    ready[-LOOK_AHEAD:] = [node for node in ready[-LOOK_AHEAD:] if id(node) not in chosen]
    held.extend(batch)
    _run(decoder, cache, batch, answers)
    for node in batch:
        ready.extend(reversed(node.children))
        node.waiting = len(node.children)
        _let_go(cache, node, held)


def _let_go(cache: Cache, node: Node, held: list[Node]) -> None:
    """Frees a node that nothing waits for, and then perhaps its parent."""
    walk: Node | None = node
    while walk is not None and walk.waiting == 0:
        _release(cache, [walk])
        held.remove(walk)
        walk = walk.parent
        if walk is not None:
            walk.waiting -= 1


def _release(cache: Cache, nodes: Sequence[Node]) -> None:
    for node in nodes:
        for pool, table in zip(cache.pools, node.tables, strict=False):
            pool.release(table)
        node.tables = []


def _run(decoder: Decoder, cache: Cache, batch: Sequence[Node], answers: _Answers) -> None:
    """One forward pass over the nodes' own tokens; asks for what they answer."""
    for group, pool in enumerate(cache.pools):
        sources, targets = [], []
        for node in batch:
            prefix = node.parent.tables[group] if node.parent else []
            whole = node.start // BLOCK
            fresh = pool.take(blocks_for(node.end) - whole)
            pool.share(prefix[:whole])
            node.tables.append([*prefix[:whole], *fresh])
            if node.start % BLOCK:
                sources.append(prefix[whole])
                targets.append(fresh[0])
        cache.copy(group, sources, targets)
    packed = Packed.of([len(node.tokens) for node in batch], [node.start for node in batch])
    tokens = torch.tensor([token for node in batch for token in node.tokens], device=decoder.device)
    tables = [[node.tables[group] for node in batch] for group in range(len(cache.pools))]
    hidden = decoder(tokens, packed, cache.view(tables), exact=True)
    asked: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for node, start in zip(batch, packed.starts, strict=False):
        for position, token, request in node.asked:
            asked[start + position - node.start].append((position, token, request))
    rows = sorted(asked)
    if rows:
        answers.ask(decoder, hidden[rows], [asked[row] for row in rows])
