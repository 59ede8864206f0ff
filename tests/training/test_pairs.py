"""Batches of pairs: every pair once in a pass, and as many tokens by a step as any training has learned by then."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.training.pairs import Pairs
from fairground.training.tokens import Place


def made(lengths: list[tuple[int, int, int]]) -> Pairs:
    """Pairs of prompts and answers of these lengths, whose tokens are all different."""
    documents, learned, first = [], [], 0
    for prompt, chosen, rejected in lengths:
        asked = list(range(first, first + prompt))
        for answer, begin in ((chosen, first + prompt), (rejected, first + prompt + chosen)):
            documents.append([*asked, *range(begin, begin + answer)])
            learned.append([False] * prompt + [True] * answer)
        first += prompt + chosen + rejected
    starts = np.concatenate(([0], np.cumsum([len(row) for row in documents]))).astype(np.int64)
    ids = np.concatenate(documents).astype(np.int32)
    reference = np.arange(2 * len(lengths), dtype=np.float32)
    sources = [f"pair {n // 2}" for n in range(2 * len(lengths))]
    return Pairs(ids, np.concatenate(learned), starts, sources, np.ones(first, np.int32), reference)


LENGTHS = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, size=st.integers(1, 90), seed=st.integers(0, 5))
def test_a_pass_holds_every_pair_once_with_its_own_targets(
    lengths: list[tuple[int, int, int]], size: int, seed: int
) -> None:
    pairs = made(lengths)
    batches, place, seen = pairs.batches(size, 0, seed), Place(), list[int]()
    while len(seen) < len(lengths):
        batch, place = batches.at(place)
        assert batch.reference is not None
        numbers = [document // 2 for document in batch.documents[::3]]
        assert batch.documents == tuple(d for n in numbers for d in (2 * n, 2 * n, 2 * n + 1))
        assert batch.reference.tolist() == [[2 * n, 2 * n + 1] for n in numbers]
        assert batch.count == len(numbers)
        pieces = list(zip(batch.packed.starts, batch.packed.starts[1:], strict=False))
        for at, number in enumerate(numbers):
            (a, b), (c, d), (e, f) = pieces[3 * at : 3 * at + 3]
            for side, (start, stop) in enumerate(((c, d), (e, f))):
                own = slice(pairs.starts[2 * number + side], pairs.starts[2 * number + side + 1])
                ids, learned = pairs.ids[own].tolist(), pairs.learned[own].tolist()
                assert [*batch.ids[a:b].tolist(), *batch.ids[start:stop].tolist()] == ids[:-1]
                assert [*batch.targets[a:b].tolist(), *batch.targets[start:stop].tolist()] == ids[1:]
                assert [*batch.learned[a:b].tolist(), *batch.learned[start:stop].tolist()] == learned[1:]
        seen += numbers
    assert sorted(seen[: len(lengths)]) == list(range(len(lengths)))


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, size=st.integers(90, 200), seed=st.integers(0, 5))
def test_steps_have_learned_from_as_many_tokens_as_they_should(
    lengths: list[tuple[int, int, int]], size: int, seed: int
) -> None:
    """Sizes beyond the longest pair: after n steps at least n times the size, and at most a pair more."""
    pairs = made(lengths)
    batches, place, taken = pairs.batches(size, 0, seed), Place(), 0
    for step in range(1, 8):
        batch, place = batches.at(place)
        taken += sum(
            first + length
            for at, (first, length) in enumerate(zip(batch.packed.firsts, batch.packed.lengths, strict=True))
            if at % 3
        )
        assert size * step <= taken < size * step + 90


@given(lengths=LENGTHS, size=st.integers(1, 90))
def test_all_are_measured_once_in_their_order(lengths: list[tuple[int, int, int]], size: int) -> None:
    batches = list(made(lengths).batches(size, 0, 0).whole())
    assert [d for batch in batches for d in batch.documents[1::3]] == list(range(0, 2 * len(lengths), 2))


def test_a_part_of_the_pairs_keeps_both_of_each() -> None:
    pairs = made([(3, 2, 4), (5, 1, 1), (2, 6, 3)])
    chosen = np.repeat([True, False, True], 2)
    some = pairs.only(chosen)
    assert some.reference is not None
    assert some.reference.tolist() == [0, 1, 4, 5]
    assert list(some.sources) == ["pair 0", "pair 0", "pair 2", "pair 2"]
    assert len(pairs.better()) == 3
    assert pairs.better().ids.tolist()[:5] == [0, 1, 2, 3, 4]
