"""The training norm against torch's, there and back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fairground.models.decoder import NORM_ROWS, NormAndBack


@pytest.mark.parametrize("rows", [1, NORM_ROWS, NORM_ROWS + 3])
def test_it_is_torchs_norm(rows: int) -> None:
    random = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 24, generator=random, requires_grad=True)
    weight = torch.randn(24, generator=random, requires_grad=True)
    toward = torch.randn(rows, 24, generator=random)
    ours, theirs = NormAndBack.apply(x, weight, 1e-5), F.rms_norm(x, (24,), weight, 1e-5)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    mine = torch.autograd.grad((ours * toward).sum(), (x, weight))
    reference = torch.autograd.grad((theirs * toward).sum(), (x, weight))
    for one, other in zip(mine, reference, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_bfloat16_is_no_worse_than_torchs() -> None:
    random = torch.Generator().manual_seed(0)
    x, weight, toward = (torch.randn(*shape, generator=random) for shape in ((200, 64), (64,), (200, 64)))
    errors = []
    exact = x.double().requires_grad_()
    (F.rms_norm(exact, (64,), weight.double(), 1e-5) * toward).sum().backward()
    for norm in (lambda a, w: NormAndBack.apply(a, w, 1e-5), lambda a, w: F.rms_norm(a, (64,), w, 1e-5)):
        rounded = x.bfloat16().requires_grad_()
        (norm(rounded, weight.bfloat16()) * toward.bfloat16()).sum().backward()
        errors.append(float((rounded.grad.double() - exact.grad).abs().mean()))
    assert errors[0] <= 1.1 * errors[1]
