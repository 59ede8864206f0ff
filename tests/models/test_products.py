"""Products with fixed weights, and the memory that training keeps, against torch's and the system's own account."""

from __future__ import annotations

import platform
import resource

import pytest
import torch
import torch.nn.functional as F

from fairground.models.machine import memory_kept
from fairground.models.products import product


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [0, 1, 5, 64])
def test_product_is_torchs(dtype: torch.dtype, rows: int) -> None:
    random = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 24, generator=random).to(dtype)
    weight = torch.randn(40, 24, generator=random).to(dtype).requires_grad_()
    bias = torch.randn(40, generator=random).to(dtype)
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {}
    torch.testing.assert_close(product(x, weight, bias), F.linear(x, weight, bias).detach(), **close)
    gradient = torch.randn(rows, 40, generator=random).to(dtype)
    torch.testing.assert_close(product(gradient, weight.t()), (gradient @ weight).detach(), **close)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told to keep memory")
def test_memory_of_large_tensors_is_kept_and_given_back() -> None:
    size = 40 << 20  # bytes, above the greatest that glibc keeps by itself

    def pages_cleared() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(size // 4).add_(1)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    pages_cleared()
    fresh = pages_cleared()
    with memory_kept():
        pages_cleared()
        assert pages_cleared() * 10 < fresh
    assert pages_cleared() * 2 > fresh
