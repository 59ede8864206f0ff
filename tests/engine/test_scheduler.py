"""The scheduler's promises over random arrivals, pools and windows, without a model: it holds no tensors."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.engine.blocks import NOWHERE, BlockPool, digest
from fairground.engine.scheduler import Scheduler, Text
from fairground.models.packed import BLOCK

TEXTS = st.lists(st.tuples(st.integers(1, 150), st.integers(1, 60)), min_size=1, max_size=12)  # prompt, answer


def scheduler(limit: int, windows: tuple[int | None, ...] = (None,), **settings: int) -> Scheduler:
    return Scheduler([BlockPool(limit, limit) for _ in windows], windows, **settings)


@settings(max_examples=150, deadline=None)
@given(
    texts=TEXTS,
    limit=st.integers(14, 60),
    windows=st.sampled_from([(None,), (20,), (None, 33)]),
    step=st.integers(3, 90),
    seed=st.integers(0, 5),
)
def test_every_text_is_finished_and_every_token_is_where_its_table_says(
    texts: list[tuple[int, int]], limit: int, windows: tuple[int | None, ...], step: int, seed: int
) -> None:
    """A model of the cache: which token stands in each slot. What a query sees must be its own text's tokens."""
    chance = random.Random(seed)
    ours = scheduler(limit, windows, most_running=5, step_tokens=step, mixed_tokens=max(2, step // 2))
    written: list[dict[tuple[int, int], tuple[int, ...]]] = [{} for _ in windows]
    goal: dict[Text, int] = {}
    cancelled: set[Text] = set()
    arriving = list(texts)
    for _ in range(20_000):
        while arriving and chance.random() < 0.5:
            prompt, answer = arriving.pop()
            # Few kinds of tokens and equal beginnings, so that blocks are found again.
            text = Text([number % 3 for number in range(prompt)])
            goal[text] = prompt + answer
            ours.add(text)
        chunks = ours.schedule()
        if not (chunks or arriving):
            break
        assert len({chunk.text for chunk in chunks}) == len(chunks)
        assert sum(chunk.count for chunk in chunks) <= step + 5
        assert [chunk.count for chunk in chunks if chunk.count == 1] == [
            chunk.count for chunk in chunks[: sum(chunk.count == 1 for chunk in chunks)]
        ]
        alone = len(ours.running) == 1
        for pool in ours._pools:
            assert alone or pool.used <= limit
        for slots, window, group in zip(written, windows, range(len(windows)), strict=True):
            for chunk in chunks:
                table, own = chunk.text.tables[group], chunk.text.tokens
                for position in range(chunk.text.computed, chunk.text.computed + chunk.count):
                    slots[table[position // BLOCK], position % BLOCK] = tuple(own[: position + 1])
            for chunk in chunks:
                table, own = chunk.text.tables[group], chunk.text.tokens
                last = chunk.text.computed + chunk.count - 1
                first = chunk.text.computed
                oldest = 0 if window is None else max(0, first - window + 1)
                for position in range(oldest, last + 1):
                    assert table[position // BLOCK] != NOWHERE
                    assert slots[table[position // BLOCK], position % BLOCK] == tuple(own[: position + 1])
        whole = [chunk.text for chunk in chunks if chunk.whole]
        ours.ran(chunks)
        for text in whole:
            text.tokens.append(chance.randrange(3))
        for text in [*ours.running, *ours.waiting]:
            done = len(text.tokens) >= goal[text]
            if done or chance.random() < 0.01:
                ours.remove(text)
                if not done:
                    cancelled.add(text)
    else:
        pytest.fail("not done after 20,000 passes")
    assert all(len(text.tokens) >= goal[text] or text in cancelled for text in goal)
    assert all(pool.used == 0 for pool in ours._pools)


def run(ours: Scheduler) -> list[tuple[int, ...]]:
    chunks = ours.schedule()
    ours.ran(chunks)
    return [chunk.count for chunk in chunks]


def test_a_long_prompt_goes_in_pieces_and_delays_nobody() -> None:
    ours = scheduler(1000, mixed_tokens=50, step_tokens=100)
    short = Text([1] * 10)
    ours.add(short)
    assert run(ours) == [10]
    long = Text(list(range(220)))
    ours.add(long)
    for piece in (50, 50, 50, 50, 20):
        short.tokens.append(1)
        assert run(ours) == [1, piece]


def test_a_second_request_reads_the_firsts_blocks() -> None:
    ours = scheduler(1000)
    first = Text(list(range(100)))
    ours.add(first)
    assert run(ours) == [100]
    ours.remove(first)
    second = Text([*range(80), 7, 7, 7])
    ours.add(second)
    assert run(ours) == [3]
    assert second.reused == 80
    same = Text(list(range(96)))
    ours.add(same)
    assert run(ours) == [16]  # the last token at least is computed, because its logits are wanted
    assert same.reused == 80


def test_the_longest_unused_is_forgotten_first() -> None:
    ours = scheduler(12)
    for start in (0, 1000, 2000):  # four blocks each
        text = Text(list(range(start, start + 64)))
        ours.add(text)
        run(ours)
        ours.remove(text)
    again = Text([*range(64), 5])
    ours.add(again)
    run(ours)
    assert again.reused == 64
    ours.remove(again)
    other = Text(list(range(5000, 5064)))
    ours.add(other)
    run(ours)  # takes what the second text left, not the first's, which was just used
    ours.remove(other)
    for start, found in ((0, 48), (1000, 0)):
        text = Text(list(range(start, start + 64)))
        ours.add(text)
        run(ours)
        assert text.reused == found
        ours.remove(text)


def test_layers_with_a_window_hold_no_more_than_they_see() -> None:
    ours = scheduler(1000, (None, 64))
    text = Text([1] * 40)
    ours.add(text)
    for _ in range(400):
        run(ours)
        text.tokens.append(1)
        everything, window = ours._pools
        assert window.used <= 64 // BLOCK + 2
    assert everything.used == 439 // BLOCK + 1


def test_the_last_to_come_gives_way_and_comes_back() -> None:
    ours = scheduler(8)
    early, late = Text(list(range(60))), Text(list(range(100, 160)))
    ours.add(early)
    ours.add(late)
    assert run(ours) == [60, 60]
    for _ in range(5):
        for text in ours.running:
            text.tokens.append(1)
        run(ours)
    assert ours.preemptions == 1
    assert ours.running == [early]
    assert list(ours.waiting) == [late]
    ours.remove(early)
    run(ours)
    assert ours.running == [late]
    assert len(late.tokens) == late.computed
    assert late.reused == 0


def test_clients_take_turns() -> None:
    """One that asks for much waits behind its own, and another does not wait behind it."""
    ours = scheduler(1000, most_running=4)
    many = [Text([number] * 20, client="many") for number in range(10)]
    few = [Text([50 + number] * 20, client="few") for number in range(2)]
    for text in (*many, *few):
        ours.add(text)
    run(ours)
    assert ours.running == [many[0], few[0], many[1], few[1]]
    ours.remove(few[0])
    run(ours)
    assert ours.running == [many[0], many[1], few[1], many[2]]
    late = Text([70] * 20, client="late")
    ours.add(late)
    ours.remove(many[0])
    run(ours)
    assert ours.running == [many[1], few[1], many[2], late]


def test_a_digest_names_tokens_and_what_went_before() -> None:
    one = digest(b"", [1] * BLOCK)
    assert digest(one, [1] * BLOCK) != one
    assert digest(one, [2] * BLOCK) != digest(b"", [2] * BLOCK)
