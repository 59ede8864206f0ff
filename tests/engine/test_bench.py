"""What a forward pass takes at least, worked out by hand; and what the answers' times say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairground.engine.bench import _rate, work
from fairground.training.sizes import new_config
from fairground.types import Completion, Timing


def test_the_work_of_a_pass_counted_by_hand() -> None:
    c = replace(new_config("llama:1m", vocab_size=512, context_length=256), layers=2, windows=(None, 16))
    d, heads, mlp = c.width, c.heads * c.head_dim, c.mlp_width
    matrices = 2 * (d * heads * 2 + 2 * d * c.kv_heads * c.head_dim + 3 * d * mlp)
    norms = 5 * d
    found = work(c, 10_000_000, 2, 4, 64, 4)
    # Four rows: every matrix once, the head once, and scores and sums over 64 and 16 positions.
    attention = 4 * heads * (64 + 16)
    assert found.operations == pytest.approx(4 * (2 * (matrices + norms) + 2 * 512 * d + attention))
    cached = 2 * (64 + 16) * c.kv_heads * c.head_dim * 2
    assert found.bytes == 10_000_000 + 4 * cached
    # One prompt shares its keys and values, and only its last token goes through the head.
    prompt = work(c, 10_000_000, 2, 128, 64, 1)
    assert prompt.bytes == 10_000_000 + cached
    assert prompt.operations == pytest.approx(128 * (2 * (matrices + norms) + attention) + 2 * 512 * d)


def test_the_limit_is_the_slower_of_reading_and_multiplying() -> None:
    c = new_config("llama:1m", vocab_size=512, context_length=256)
    found = work(c, 1_000_000, 2, 1, 1, 1)
    assert found.seconds({"read_gb_per_s": 1e-3, "matmul_gflop_per_s": 1e9}) == pytest.approx(found.bytes / 1e6)
    assert found.seconds({"read_gb_per_s": 1e9, "matmul_gflop_per_s": 1e-3}) == pytest.approx(found.operations / 1e6)


def test_the_rate_counts_only_while_all_are_written() -> None:
    def answer(*times: float) -> Completion:
        return Completion("", tuple(range(len(times))), "length", 1, Timing(0.0, times))

    assert _rate([answer(1.0, 2.0, 3.0)]) == pytest.approx(1.0)
    # Both are being written from 2.0 to 3.0: two tokens of the first, one of the second.
    assert _rate([answer(1.0, 2.0, 2.5, 3.0), answer(2.0, 2.9, 4.0)]) == pytest.approx(3.0)
