"""The loss of distillation from a teacher's k likeliest tokens, without ever holding all of the student's logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairground.training.cross_entropy import HeadGradients, saved_gradients

CHUNK = 1 << 23  # logits that exist at a time
SMALLEST = 1e-37  # a sum of exponentials that is taken for more than nothing


@dataclass(frozen=True, slots=True)
class TopK:
    """What is known of a teacher's probabilities of N next tokens, at its temperature.

    `ids` int64 [N, K]; `log_p` float32 [N, K] of those; `log_rest` float32 [N]: of all others together, −inf where
    there are none. `vocabulary`: tokens that the teacher chose among, the first so many of the student's.
    """

    ids: Tensor
    log_p: Tensor
    log_rest: Tensor
    vocabulary: int

    def to(self, device: torch.device) -> TopK:
        """The same on another device."""
        ids, log_p, log_rest = (x.to(device, non_blocking=True) for x in (self.ids, self.log_p, self.log_rest))
        return TopK(ids, log_p, log_rest, self.vocabulary)


class LinearTopKLoss(torch.autograd.Function):
    """α T² D + (1 − α) C, and C: both sums over rows, weighted by weight_N.

    C is the cross-entropy of softmax(h W' + b) and a target; D is the divergence that `top_k_loss` writes out. With
    q the student's probabilities at temperature T, Q the sum of those among the k and p, r the teacher's, D's gradient
    by a logit divided by T is q_i − p_i for one of the k, and q_j (1 − r / (1 − Q)) for any other. So, as in
    cross_entropy.py, both products with the gradient are done as soon as a chunk's logits are known.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        w_N: Tensor,
        teacher: TopK,
        temperature: float,
        alpha: float,
    ) -> tuple[Tensor, Tensor]:
        needed = ctx.needs_input_grad
        loss, ce = (torch.zeros((), dtype=torch.float32, device=h_ND.device) for _ in range(2))
        gradients = HeadGradients(needed, h_ND, weight_VD, bias_V)
        rows_at_a_time = max(1, CHUNK // weight_VD.shape[0])
        for start in range(0, h_ND.shape[0], rows_at_a_time):
            rows = slice(start, start + rows_at_a_time)
            h, w, targets = h_ND[rows], w_N[rows], targets_N[rows]
            part = TopK(teacher.ids[rows], teacher.log_p[rows], teacher.log_rest[rows], teacher.vocabulary)
            logits = F.linear(h, weight_VD, bias_V).float()
            divergence, own, gradient = _rows(logits, targets, part, temperature, alpha)
            loss += (w * (alpha * temperature**2 * divergence + (1 - alpha) * own)).sum()
            ce += (w * own).sum()
            if not any(needed[:3]):
                continue
            gradient.mul_(w[:, None])
            gradients.add(rows, gradient)
        gradients.save(ctx, bias_V)
        ctx.mark_non_differentiable(ce)
        return loss, ce

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return (*saved_gradients(ctx, gradients[0]), *(None for _ in range(5)))


def _rows(
    logits: Tensor, targets: Tensor, teacher: TopK, temperature: float, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Divergence [M], cross-entropy [M], and the gradient [M, V] of α T² D + (1 − α) C by the logits.

    The logits' memory becomes the gradient's.
    """
    at_target = logits.gather(-1, targets[:, None])[:, 0]
    among = logits.gather(-1, teacher.ids) / temperature
    greatest = logits.amax(-1, keepdim=True)
    # At temperature 1 over one vocabulary, both parts of the loss are of the same probabilities.
    shared = temperature == 1 and teacher.vocabulary == logits.shape[1]
    soft = logits if shared else logits[:, : teacher.vocabulary] / temperature
    greatest_soft = soft.amax(-1, keepdim=True)
    hard = logits.sub_(greatest).exp_()
    total = hard.sum(-1, keepdim=True)
    own = total.log()[:, 0] + greatest[:, 0] - at_target
    if not shared:
        soft.sub_(greatest_soft).exp_()
    chosen = (among - greatest_soft).exp()
    # The others are summed without the k, because 1 − Q is nothing but rounding where Q is nearly 1.
    soft.scatter_(-1, teacher.ids, 0.0)
    others = soft.sum(-1, keepdim=True)
    whole = others + chosen.sum(-1, keepdim=True)
    others = others.clamp_min(SMALLEST)
    p, r = teacher.log_p.exp(), teacher.log_rest.exp()
    log_q, log_left = among - greatest_soft - whole.log(), (others / whole).log()[:, 0]
    rest = torch.where(r > 0, r * (teacher.log_rest - log_left), 0.0)
    divergence = (p * (teacher.log_p - log_q)).sum(-1) + rest
    size = alpha * temperature
    of_chosen, of_others = size * (chosen / whole - p), size * (1 / whole - r[:, None] / others)
    if shared:
        gradient = soft.mul_(of_others + (1 - alpha) / whole)
        gradient.scatter_(-1, teacher.ids, of_chosen + (1 - alpha) * chosen / whole)
    else:
        gradient = hard.mul_((1 - alpha) / total)
        gradient[:, : teacher.vocabulary] += soft.mul_(of_others).scatter_(-1, teacher.ids, of_chosen)
    gradient.scatter_add_(-1, targets[:, None], torch.full_like(at_target, alpha - 1)[:, None])
    return divergence, own, gradient


def top_k_loss(
    h_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    weights_N: Tensor,
    teacher: TopK,
    temperature: float,
    alpha: float,
) -> tuple[Tensor, Tensor]:
    """Σ weights_N (α T² D + (1 − α) C) and Σ weights_N C, float32 in nats; only the first has a gradient.

    With p_i the teacher's probabilities of its k likeliest tokens K at temperature T, r = 1 − Σ p_i that of all others
    together, and q the student's from its logits divided by T,

        D = Σ_{i in K} p_i log(p_i / q_i) + r log(r / (1 − Σ_{i in K} q_i)),

    the divergence of the two after all others have been put into one bucket. It is never more than the full one (the
    log sum inequality; Cover and Thomas, 2006, theorem 2.7.1) and is the full one where K is the whole vocabulary.
    """
    loss, ce = LinearTopKLoss.apply(  # type: ignore[no-untyped-call]
        h_ND, weight_VD, bias_V, targets_N, weights_N, teacher, temperature, alpha
    )
    return loss, ce
