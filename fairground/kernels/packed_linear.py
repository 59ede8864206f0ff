"""Linear layers whose bfloat16 weights lie in the blocked layout that oneDNN computes in.

`torch.nn.functional.linear` brings a weight into that layout at every call. Doing it once made decoding SmolLM2 on two
cores a quarter faster (benchmarks/README.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer for inference on the CPU; made from a plain one, which it does not keep."""

    packed: Tensor
    bias: Tensor | None

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.out_features, self.in_features = plain.weight.shape
        packed = torch.ops.mkldnn._reorder_linear_weight(plain.weight.detach(), 1)
        self.register_buffer("packed", packed, persistent=False)
        self.register_buffer("bias", None if plain.bias is None else plain.bias.detach(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out


def pack(module: nn.Module) -> None:
    """Replaces every bfloat16 linear below `module` by its packed form, one at a time; the others stay."""
    for name, child in module.named_children():
        if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16 and child.weight.device.type == "cpu":
            setattr(module, name, PackedLinear(child))
        else:
            pack(child)


def packs_here() -> bool:
    """Whether this build of torch and this processor have the layout."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]
