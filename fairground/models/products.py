"""Products with fixed weights in float32, by the library that does them fastest.

`torch.nn.functional.linear` leaves float32 on a CPU to MKL. oneDNN, which torch has too and takes for bfloat16, did the
products of small models a tenth to a half faster on the AMD processor where it was measured (benchmarks/README.md).
"""

from __future__ import annotations

import platform

import torch
import torch.nn.functional as F
from torch import Tensor

ONEDNN = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")  # type: ignore[no-untyped-call]


def product(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x W' + b [N, O], without a gradient. A transposed view of a weight costs nothing more."""
    if ONEDNN and x_NI.dtype == torch.float32 and x_NI.device.type == "cpu" and x_NI.numel() and weight_OI.numel():
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x_NI.detach(), weight_OI.detach(), bias_O, "none", [], "")
        return y
    return F.linear(x_NI, weight_OI, bias_O)
