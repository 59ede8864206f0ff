"""The loss of a language model's head, without ever holding all logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fairground.models.products import product

ROWS = 512  # predictions whose logits exist at a time; a quarter faster than 1,024 at 4,096 tokens of vocabulary


class HeadGradients:
    """Gradients by hidden states and by the head's weight and bias, added up some rows at a time; None where unneeded.

    Those by weight and bias are summed in float32.
    """

    def __init__(self, needed: Sequence[bool], h_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> None:
        """`needed`: whether each of the three is."""
        self._h_ND, self._weight_VD = h_ND, weight_VD
        self.by_h = torch.empty_like(h_ND) if needed[0] else None
        self.by_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if needed[1] else None
        by_bias = needed[2] and bias_V is not None
        self.by_bias = weight_VD.new_zeros(weight_VD.shape[0], dtype=torch.float32) if by_bias else None

    def add(self, rows: slice, gradient_MV: Tensor) -> None:
        """Takes the loss's gradient by these rows' logits, float32."""
        h_MD = self._h_ND[rows]
        if self.by_bias is not None:
            self.by_bias += gradient_MV.sum(0)
        narrow = gradient_MV.to(h_MD.dtype)
        if self.by_h is not None:
            self.by_h[rows] = product(narrow, self._weight_VD.t())
        if self.by_weight is not None:
            self.by_weight += narrow.t() @ h_MD

    def save(self, ctx: Any, bias_V: Tensor | None) -> None:
        """Leaves them for `saved_gradients`."""
        ctx.save_for_backward(self.by_h, self.by_weight, self.by_bias)
        ctx.dtypes = self._weight_VD.dtype, None if bias_V is None else bias_V.dtype


def saved_gradients(ctx: Any, outer: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The three that `HeadGradients.save` left, times the gradient of what comes after, as wide as what they are of."""
    by_h, by_weight, by_bias = ctx.saved_tensors
    weight_dtype, bias_dtype = ctx.dtypes
    return (
        None if by_h is None else by_h * outer.to(by_h.dtype),
        None if by_weight is None else (by_weight * outer).to(weight_dtype),
        None if by_bias is None else (by_bias * outer).to(bias_dtype),
    )


class LinearCrossEntropy(torch.autograd.Function):
    """Sum over rows of weight_N times the cross-entropy of softmax(h W' + b) and a target.

    The logits' gradient, softmax minus one-hot, is known as soon as the logits are, so both products with it are done
    at once, chunk by chunk, and the logits are let go (as in Liger Kernel; Hsu et al., 2024, section 3.2).
    """

    @staticmethod
    def forward(
        ctx: Any, h_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, w_N: Tensor
    ) -> Tensor:
        needed = ctx.needs_input_grad
        loss = torch.zeros((), dtype=torch.float32, device=h_ND.device)
        gradients = HeadGradients(needed, h_ND, weight_VD, bias_V)
        for rows in _chunks(h_ND.shape[0]):
            h, w, targets = h_ND[rows], w_N[rows], targets_N[rows]
            logits = product(h, weight_VD, bias_V).float()
            greatest = logits.amax(-1, keepdim=True)
            at_target = logits.gather(-1, targets[:, None])[:, 0]
            exponentials = logits.sub_(greatest).exp_()
            total = exponentials.sum(-1)
            loss += (w * (total.log() + greatest[:, 0] - at_target)).sum()
            if not any(needed[:3]):
                continue
            gradient = exponentials.mul_((w / total)[:, None])
            gradient.scatter_add_(-1, targets[:, None], -w[:, None])
            gradients.add(rows, gradient)
        gradients.save(ctx, bias_V)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (outer,) = gradients
        return (*saved_gradients(ctx, outer), None, None)


def linear_cross_entropy(
    h_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, weights_N: Tensor
) -> Tensor:
    """Σ weights_N · −log softmax(h W' + b)[targets_N], float32; equals F.cross_entropy up to rounding."""
    loss: Tensor = LinearCrossEntropy.apply(h_ND, weight_VD, bias_V, targets_N, weights_N)  # type: ignore[no-untyped-call]
    return loss


class TokenCrossEntropy(torch.autograd.Function):
    """−log softmax(h W' + b)[target] of every row, where what weighs the rows is known only after all of them are.

    So the logits are made a second time on the way back, from each row's log-sum, and are never there all at once.
    """

    @staticmethod
    def forward(ctx: Any, h_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor) -> Tensor:
        ce_N, sums_N = (torch.empty(h_ND.shape[0], dtype=torch.float32, device=h_ND.device) for _ in range(2))
        for rows in _chunks(h_ND.shape[0]):
            logits = product(h_ND[rows], weight_VD, bias_V).float()
            at_target = logits.gather(-1, targets_N[rows, None])[:, 0]
            greatest = logits.amax(-1, keepdim=True)
            sums_N[rows] = logits.sub_(greatest).exp_().sum(-1).log_().add_(greatest[:, 0])
            ce_N[rows] = sums_N[rows] - at_target
        ctx.save_for_backward(h_ND, weight_VD, bias_V, targets_N, sums_N)
        return ce_N

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (outer_N,) = gradients
        h_ND, weight_VD, bias_V, targets_N, sums_N = ctx.saved_tensors
        needed = ctx.needs_input_grad
        found = HeadGradients(needed, h_ND, weight_VD, bias_V)
        for rows in _chunks(h_ND.shape[0]):
            h, outer = h_ND[rows], outer_N[rows, None]
            gradient = product(h, weight_VD, bias_V).float().sub_(sums_N[rows, None]).exp_().mul_(outer)
            gradient.scatter_add_(-1, targets_N[rows, None], -outer)
            found.add(rows, gradient)
        return (
            found.by_h,
            None if found.by_weight is None else found.by_weight.to(weight_VD.dtype),
            None if found.by_bias is None else found.by_bias.to(bias_V.dtype),
            None,
        )


def token_cross_entropy(h_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor) -> Tensor:
    """−log softmax(h W' + b)[targets_N] of each row, float32 [N]; its sum equals `linear_cross_entropy`'s."""
    ce: Tensor = TokenCrossEntropy.apply(h_ND, weight_VD, bias_V, targets_N)  # type: ignore[no-untyped-call]
    return ce


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, rows, ROWS))
