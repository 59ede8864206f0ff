"""What training minimises, as values: language modelling, and distillation from a teacher's logits, live or stored.

Both are sums over the predicted tokens that count, which the loop divides by how many those are in the whole step, so
that a step gives the same gradient however it is cut into parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairground.errors import ConfigError
from fairground.models.decoder import Decoder
from fairground.training.cross_entropy import linear_cross_entropy
from fairground.training.teacher_logits import Kept
from fairground.training.tokens import Batch
from fairground.training.top_k_loss import top_k_loss

FROM_STORED = "distillation from stored logits"


class Objective(Protocol):
    """A sum that training makes small. `name` is written into cards and logs."""

    @property
    def name(self) -> str: ...

    def __call__(self, decoder: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two sums over the batch's learned predictions, float32 in nats: what is minimised, and the cross-entropy."""
        ...


@runtime_checkable
class Measuring(Protocol):
    """An objective that says more of a step than its loss."""

    def measures(self) -> Mapping[str, float]:
        """Means over all batches since the last call, by name."""
        ...


@dataclass(frozen=True, slots=True)
class LanguageModelling:
    """Cross-entropy of the next token; no document sees another."""

    name: str = "language modelling"

    def __call__(self, decoder: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden = decoder(batch.ids, batch.packed)
        weight, bias = head(decoder)
        loss = linear_cross_entropy(hidden, weight, bias, batch.targets, batch.learned.float())
        return loss, loss.detach()


@dataclass(frozen=True, slots=True)
class Distillation:
    """α T² KL(teacher ‖ student) at temperature T, plus (1 − α) times the data's cross-entropy.

    Hinton, Vinyals and Dean (2015), section 2: T² keeps the size of the soft part's gradients. The teacher must have
    the student's vocabulary.
    """

    teacher: Decoder
    temperature: float = 1.0
    alpha: float = 0.5
    name: str = "distillation"

    def __post_init__(self) -> None:
        _check(self.temperature, self.alpha)

    def __call__(self, decoder: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            teacher = self.teacher(batch.ids, batch.packed)
            teacher_logits = self.teacher.logits(teacher)
        hidden = decoder(batch.ids, batch.packed)
        logits = decoder.logits(hidden)
        counts = batch.learned.float()
        ce = (F.cross_entropy(logits, batch.targets, reduction="none") * counts).sum()
        t, v = self.temperature, min(logits.shape[-1], teacher_logits.shape[-1])
        wanted = (teacher_logits[:, :v] / t).log_softmax(-1)
        given = (logits[:, :v] / t).log_softmax(-1)
        kl = (F.kl_div(given, wanted, reduction="none", log_target=True).sum(-1) * counts).sum()
        return self.alpha * t**2 * kl + (1 - self.alpha) * ce, ce.detach()


@dataclass(frozen=True, slots=True)
class StoredDistillation:
    """Distillation from what a teacher said of the text beforehand: α T² D + (1 − α) times the data's cross-entropy.

    D is KL(teacher ‖ student) with all tokens but the teacher's k likeliest in one bucket; `top_k_loss` writes it out.
    """

    teacher: Kept
    temperature: float = 1.0
    alpha: float = 0.5
    name: str = FROM_STORED

    def __post_init__(self) -> None:
        _check(self.temperature, self.alpha)

    def __call__(self, decoder: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.index is not None
        said = self.teacher.at(batch.index).to(batch.ids.device)
        hidden = decoder(batch.ids, batch.packed)
        weight, bias = head(decoder)
        return top_k_loss(
            hidden, weight, bias, batch.targets, batch.learned.float(), said, self.temperature, self.alpha
        )


def _check(temperature: float, alpha: float) -> None:
    if not temperature > 0 or not 0 <= alpha <= 1:
        raise ConfigError(
            f"Distillation with temperature {temperature} and alpha {alpha} is not possible: the temperature must be "
            "above 0 and alpha from 0 to 1."
        )


def head(decoder: Decoder) -> tuple[Tensor, Tensor | None]:
    """The head's weight [V, D] and bias [V] or None. Raises ConfigError for a quantised model, which cannot train."""
    if not isinstance(decoder.head, nn.Linear):
        raise ConfigError("A quantised model cannot be trained; load it in bfloat16 or float32.")
    return decoder.head.weight, decoder.head.bias
