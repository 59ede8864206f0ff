"""AdamW or Muon over float32 copies of the weights, and how the learning rate goes up and down."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairground.models.config import DecoderConfig
from fairground.models.decoder import Decoder
from fairground.training.parallel import split_like, whole

Method = Literal["adamw", "muon"]
Schedule = Literal["cosine", "wsd", "constant"]
MOMENTUM = 0.95  # Muon's, as its author chose it
MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")  # what torch's AdamW and Muon keep of a weight


@dataclass(frozen=True, slots=True)
class Optimiser:
    """How weights move.

    "adamw" moves them all by torch's fused AdamW. "muon" moves the matrices inside the blocks by torch's Muon, with
    orthogonalised momentum (Jordan et al., 2024) whose step is as long as AdamW's typical one, so that both take one
    learning rate and decay (Liu et al., 2025, section 2.2); embeddings, the head, biases and norms stay with AdamW.

    `learning_rate` None: by the model's size (`Recipe.settled`). It rises linearly over the first `warmup` share of the
    steps. Then "cosine" lowers it to `final` times the peak; "wsd" (warm-up, stable, decay; Hu et al., 2024, section 4)
    holds it and lowers it linearly over the last `decay` share; "constant" holds it.
    """

    learning_rate: float | None = None
    schedule: Schedule = "wsd"
    warmup: float = 0.02
    decay: float = 0.3
    final: float = 0.0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip: float = 1.0
    method: Method = "adamw"

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0 … steps − 1."""
        assert self.learning_rate is not None, "a recipe is settled before it is run"
        rising = self.warmup * steps
        if step < rising:
            return self.learning_rate * (step + 1) / (math.floor(rising) + 1)
        if self.schedule == "constant":
            return self.learning_rate
        falling = (1 - self.warmup if self.schedule == "cosine" else self.decay) * steps
        through = min(1.0, max(0.0, (step - (steps - falling)) / falling)) if falling else 0.0
        share = (1 + math.cos(math.pi * through)) / 2 if self.schedule == "cosine" else 1 - through
        return self.learning_rate * (self.final + (1 - self.final) * share)


def query_share(config: DecoderConfig, name: str) -> float:
    """How long a weight's start and steps are, beside those of a family that scales its attention scores: mostly 1.

    GPT-Neo does not scale them. Mesh TensorFlow, in which it was trained, has the scale in its queries' start instead;
    where steps are of one length for all weights, it belongs into their steps too, or the scores soon saturate.
    """
    return config.head_dim**-0.5 / config.attention_scale if ".attention.q." in name else 1.0


class Masters:
    """A decoder's trainable weights in float32, their gradients and the optimiser's moments.

    Where the decoder is in bfloat16, its weights are these, rounded, after every step; where it is in float32, they are
    the same tensors. Matrices decay; biases, norms and other vectors do not.
    """

    def __init__(self, decoder: Decoder, optimiser: Optimiser) -> None:
        self.settings = optimiser
        self.names = [name for name, weight in decoder.named_parameters() if weight.requires_grad]
        self.weights: list[Tensor] = [weight for weight in decoder.parameters() if weight.requires_grad]
        self.same = all(weight.dtype == torch.float32 for weight in self.weights)
        self.masters = self.weights if self.same else [w.detach().float().requires_grad_() for w in self.weights]
        rate, decay = optimiser.learning_rate or 0.0, optimiser.weight_decay
        groups: dict[tuple[bool, bool, float], list[Tensor]] = defaultdict(list)
        for name, master in self._named():
            by_muon = optimiser.method == "muon" and name.startswith("blocks.") and master.dim() == 2
            groups[by_muon, master.dim() > 1, query_share(decoder.config, name)].append(master)
        adamw, muon = (
            [
                {"params": masters, "weight_decay": decay / share if decays else 0.0, "share": share}
                for (by_muon, decays, share), masters in groups.items()
                if by_muon == wanted
            ]
            for wanted in (False, True)
        )
        betas = optimiser.beta1, optimiser.beta2
        self._optimisers: list[torch.optim.Optimizer] = []
        if adamw:
            self._optimisers.append(torch.optim.AdamW(adamw, lr=rate, betas=betas, eps=optimiser.eps, fused=True))
        if muon:
            self._optimisers.append(torch.optim.Muon(muon, lr=rate, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"))

    def gather(self) -> None:
        """Adds the decoder's gradients to the masters' and frees them."""
        if self.same:
            return
        for master, weight in zip(self.masters, self.weights, strict=True):
            if weight.grad is None:
                continue
            master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
            weight.grad = None

    def norm(self) -> Tensor:
        """The gradients' length, float32."""
        return whole(torch.nn.utils.get_total_norm([m.grad for m in self.masters if m.grad is not None]))

    def step(self, learning_rate: float, norm: Tensor) -> None:
        """Clips by `norm`, moves the weights and drops the gradients."""
        if self.settings.clip > 0:
            torch.nn.utils.clip_grads_with_norm_(self.masters, self.settings.clip, norm)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * group["share"]
            optimiser.step()
        self.drop()
        if not self.same:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, self.masters)

    def drop(self) -> None:
        """Forgets the gradients."""
        for tensor in (*self.masters, *self.weights):
            tensor.grad = None

    def weights_by_name(self) -> dict[str, Tensor]:
        """The weights alone, for `take`."""
        return {f"weight.{name}": whole(master.detach()) for name, master in self._named()}

    def take(self, weights: dict[str, Tensor]) -> None:
        """Takes over what `weights_by_name` gave."""
        with torch.no_grad():
            for name, master in self._named():
                master.copy_(split_like(weights[f"weight.{name}"], master))
            if not self.same:
                torch._foreach_copy_(self.weights, self.masters)

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""
        state = self.weights_by_name()
        for name, master in self._named():
            for key, value in self._state_of(master).items():
                state[f"{key}.{name}"] = whole(value)
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state` gave. The names and shapes must be the same."""
        with torch.no_grad():
            for name, master in self._named():
                master.copy_(split_like(state[f"weight.{name}"], master))
                kept = {key: state[f"{key}.{name}"] for key in MOMENTS if f"{key}.{name}" in state}
                moments = {key: split_like(value.clone(), master) for key, value in kept.items()}
                if moments:
                    self._state_of(master).update(moments)
            if not self.same:
                torch._foreach_copy_(self.weights, self.masters)

    def _state_of(self, master: Tensor) -> dict[str, Tensor]:
        """What its optimiser keeps of a weight."""
        owner = next(o for o in self._optimisers if any(master is m for g in o.param_groups for m in g["params"]))
        kept: dict[str, Tensor] = owner.state[master]
        return kept

    def _named(self) -> Iterable[tuple[str, Tensor]]:
        return zip(self.names, self.masters, strict=True)
