"""The chunked loss against torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fairground.training.cross_entropy import ROWS, linear_cross_entropy


@pytest.mark.parametrize("rows", [3, ROWS, ROWS + 7])
@pytest.mark.parametrize("biased", [True, False])
def test_loss_and_gradients_are_torchs(rows: int, biased: bool) -> None:
    random = torch.Generator().manual_seed(rows)
    h = torch.randn(rows, 16, generator=random, requires_grad=True)
    weight = torch.randn(50, 16, generator=random, requires_grad=True)
    bias = torch.randn(50, generator=random, requires_grad=True) if biased else None
    targets = torch.randint(0, 50, (rows,), generator=random)
    counts = (torch.rand(rows, generator=random) > 0.3).float()
    wanted = [tensor for tensor in (h, weight, bias) if tensor is not None]
    ours = linear_cross_entropy(h, weight, bias, targets, counts)
    theirs = (F.cross_entropy(F.linear(h, weight, bias), targets, reduction="none") * counts).sum()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    mine = torch.autograd.grad(3 * ours, wanted)
    reference = torch.autograd.grad(3 * theirs, wanted)
    for one, other in zip(mine, reference, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_bfloat16_is_near_float32() -> None:
    random = torch.Generator().manual_seed(0)
    h, weight = torch.randn(200, 32, generator=random), torch.randn(300, 32, generator=random)
    targets = torch.randint(0, 300, (200,), generator=random)
    exact = linear_cross_entropy(h, weight, None, targets, torch.ones(200))
    rounded = linear_cross_entropy(h.bfloat16(), weight.bfloat16(), None, targets, torch.ones(200))
    assert float(rounded) == pytest.approx(float(exact), rel=1e-2)
