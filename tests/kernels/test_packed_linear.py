"""The packed layout gives the plain product, rounded once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fairground.kernels.packed_linear import PackedLinear, pack, packs_here

pytestmark = pytest.mark.skipif(not packs_here(), reason="this processor has no blocked bfloat16 layout")


@pytest.mark.parametrize("rows", [1, 2, 3, 16, 17, 32, 100])
@pytest.mark.parametrize(("out", "in_"), [(576, 576), (192, 576), (1536, 576), (97, 64), (33, 17)])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_equal_to_the_plain_product(rows: int, out: int, in_: int, bias: bool) -> None:
    torch.manual_seed(rows * out)
    plain = nn.Linear(in_, out, bias=bias).bfloat16()
    x = torch.randn(rows, in_).bfloat16()
    expected = nn.functional.linear(x.double(), plain.weight.double(), plain.bias.double() if bias else None)
    # Half a unit in the last of bfloat16's eight places, and what a float32 sum of so many numbers may be off.
    torch.testing.assert_close(PackedLinear(plain)(x).double(), expected, rtol=2**-8, atol=1e-5)


def test_only_bfloat16_linears_are_replaced() -> None:
    module = nn.Sequential(nn.Linear(8, 8).bfloat16(), nn.Sequential(nn.Linear(8, 8)), nn.LayerNorm(8))
    pack(module)
    assert isinstance(module[0], PackedLinear)
    assert type(module[1][0]) is nn.Linear
