"""The training attention against torch's own, there and back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fairground.models.packed import Packed
from fairground.models.packed_attention import LONGEST, PackedAttention

SCALE = 0.3


def expected(q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None) -> Tensor:
    """Document by document, with a mask that is written out."""
    parts = []
    for one in zip(*(torch.split(x, packed.lengths) for x in (q, k, v)), strict=True):
        a, b, c = (x.transpose(0, 1) for x in one)
        b, c = (x.repeat_interleave(a.shape[0] // x.shape[0], 0) for x in (b, c))
        step = torch.arange(a.shape[1])
        back = step[:, None] - step
        seen = (back >= 0) & (back < (window or a.shape[1]))
        parts.append(F.scaled_dot_product_attention(a, b, c, attn_mask=seen, scale=SCALE).transpose(0, 1))
    return torch.cat(parts)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.one_of(st.integers(1, 100), st.sampled_from([64, 300])), min_size=1, max_size=6),
    shared=st.sampled_from([1, 2]),
    window=st.sampled_from([None, 1, 13]),
    padding=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_it_is_attention(lengths: list[int], shared: int, window: int | None, padding: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    packed, total = Packed.of(lengths), sum(lengths)
    q = torch.randn(total + padding, 4, 8, generator=random, requires_grad=True)
    k, v = (torch.randn(total + padding, 4 // shared, 8, generator=random, requires_grad=True) for _ in range(2))
    toward = torch.randn(total, 4, 8, generator=random)
    ours = PackedAttention(packed, total + padding, torch.device("cpu"))(0, q, k, v, SCALE, window)
    assert not ours[total:].any()
    theirs = expected(q[:total], k[:total], v[:total], packed, window)
    torch.testing.assert_close(ours[:total], theirs, atol=1e-5, rtol=1e-5)
    mine = torch.autograd.grad((ours[:total] * toward).sum(), (q, k, v))
    reference = torch.autograd.grad((theirs * toward).sum(), (q, k, v))
    for one, other in zip(mine, reference, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    prompts=st.lists(st.tuples(st.integers(0, 70), st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=5),
    window=st.sampled_from([None, 1, 13]),
    seed=st.integers(0, 99),
)
def test_two_answers_share_their_prompt(prompts: list[tuple[int, int, int]], window: int | None, seed: int) -> None:
    """Once with every prompt written out twice, once with each there once: the same, there and back."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(map(sum, prompts)), 2, 8, generator=random, requires_grad=True)
    toward = torch.randn(len(rows), 2, 8, generator=random)
    lengths = [length for prompt in prompts for length in prompt]
    firsts = [first for prompt, _, _ in prompts for first in (0, prompt, prompt)]
    parents = [parent for n in range(len(prompts)) for parent in (-1, 3 * n, 3 * n)]
    packed = Packed.of(lengths, firsts, parents)
    ours = PackedAttention(packed, len(rows), torch.device("cpu"))(0, rows, rows, rows, SCALE, window)
    pieces = list(torch.split(torch.arange(len(rows)), lengths))
    twice = [torch.cat((pieces[3 * n], pieces[3 * n + side])) for n in range(len(prompts)) for side in (1, 2)]
    apart = rows[torch.cat(twice)]
    theirs = expected(apart, apart, apart, Packed.of([len(piece) for piece in twice]), window)
    wanted = torch.zeros_like(rows)
    for piece, made in zip(twice, torch.split(theirs, [len(piece) for piece in twice]), strict=True):
        wanted = wanted.index_copy(0, piece, made)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    mine, reference = (torch.autograd.grad((x * toward).sum(), rows)[0] for x in (ours, wanted))
    torch.testing.assert_close(mine, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 300])
def test_long_documents_take_torchs_kernel_and_give_the_same(window: int | None) -> None:
    random = torch.Generator().manual_seed(0)
    packed = Packed.of([LONGEST + 40, 20])
    q, k, v = (torch.randn(LONGEST + 60, 2, 8, generator=random) for _ in range(3))
    ours = PackedAttention(packed, LONGEST + 60, torch.device("cpu"))(0, q, k, v, SCALE, window)
    torch.testing.assert_close(ours, expected(q, k, v, packed, window), atol=1e-5, rtol=1e-5)
