"""Low-rank adapters (LoRA; Hu et al., 2021, section 4.1): W x becomes W x + α/r · B A x, and only A and B are trained.

An adapter belongs to a layer as its family publishes it: GPT-2's one product for queries, keys and values has one A and
one B, though our decoder knows three. Products of the same numbers (queries, keys and values; gate and up) are done as
one while adapters are there; `merge` puts the plain layers back.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairground.errors import ConfigError
from fairground.models.config import DecoderConfig
from fairground.models.decoder import Block, Decoder
from fairground.models.families import family_named
from fairground.models.families.family import expand
from fairground.models.products import product

ALL_LINEAR = "all-linear"
# The layers of a block that read the same numbers, and the layer that does the products of several as one.
TOGETHER = {
    "attention.q": "attention.qkv",
    "attention.k": "attention.qkv",
    "attention.v": "attention.qkv",
    "mlp.gate": "mlp.gate_up",
}


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """How much of a model is trained: adapters of `rank` in the layers that `targets` name.

    `alpha` None stands for twice the rank, so that B A x counts twice. `targets`: "all-linear" for every linear layer
    of the blocks, or the ends of the layers' published names, as `peft` has them ("q_proj", "mlp.c_proj"). `dropout`:
    the share of an adapter's inputs that is left out at random in training. Raises ConfigError for a value outside its
    range.
    """

    rank: int
    alpha: float | None = None
    targets: tuple[str, ...] = (ALL_LINEAR,)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        names = isinstance(self.targets, tuple) and all(isinstance(t, str) and t for t in self.targets)
        checks = [
            ("rank", self.rank, _number(self.rank) and isinstance(self.rank, int), "a whole number above 0"),
            ("alpha", self.alpha, self.alpha is None or _number(self.alpha), "a number above 0"),
            ("targets", self.targets, names and bool(self.targets), f'"{ALL_LINEAR}" or names of layers'),
            ("dropout", self.dropout, self.dropout == 0 or (_number(self.dropout) and self.dropout < 1),
             "a number from 0 to below 1"),
        ]  # fmt: skip
        for name, value, good, wanted in checks:
            if not good:
                raise ConfigError(f"LoRA's {name} is given as {value!r}, but it must be {wanted}; correct it.")

    @property
    def scaled_by(self) -> float:
        """Alpha as it counts: what is given, or twice the rank."""
        return 2.0 * self.rank if self.alpha is None else float(self.alpha)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer that can have an adapter: its published name, [out, in], and where our decoder has it.

    `ours[i]` owns `rows[i]` of its outputs: three where one published product gives queries, keys and values.
    """

    published: str
    shape: tuple[int, int]
    ours: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A [r, in], B [out, r] and the factor before their product, α/r."""

    a: Tensor
    b: Tensor
    scale: float

    def delta(self) -> Tensor:
        """What it adds to the weight: float32 [out, in]."""
        return (self.b.detach().float() @ self.a.detach().float()).mul_(self.scale)


def layers(config: DecoderConfig) -> list[Layer]:
    """Every layer of the blocks that can have an adapter, in the family's order."""
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes = {
        **dict.fromkeys(("attention.k", "attention.v"), (kv, config.width)),
        **dict.fromkeys(("mlp.gate", "mlp.up"), (config.mlp_width, config.width)),
        "attention.q": (q, config.width),
        "attention.out": (config.width, q),
        "mlp.down": (config.width, config.mlp_width),
    }
    found = []
    for row in expand(family_named(config.family).weights, config.layers):
        ours = tuple(name.removesuffix(".weight") for name in row.ours)
        kinds = [name.split(".", 2)[-1] for name in ours]
        if row.published.endswith(".weight") and all(kind in shapes for kind in kinds):
            rows = tuple(shapes[kind][0] for kind in kinds)
            published = row.published.removesuffix(".weight")
            found.append(Layer(published, (sum(rows), shapes[kinds[0]][1]), ours, rows))
    return found


def targeted(config: DecoderConfig, targets: Sequence[str]) -> list[Layer]:
    """The layers that the targets name. Raises ConfigError for a target that names none."""
    every = layers(config)
    if ALL_LINEAR in targets:
        return every
    for target in targets:
        if not any(named(layer.published, target) for layer in every):
            known = sorted({layer.published.rpartition(".")[2] for layer in every})
            raise ConfigError(
                f"A {config.family} model has no layer {target!r} that can have an adapter; it has {', '.join(known)}, "
                f"or give {ALL_LINEAR}."
            )
    return [layer for layer in every if any(named(layer.published, target) for target in targets)]


def named(published: str, target: str) -> bool:
    """Whether a target, or the end of one, is the layer's published name."""
    return published == target or published.endswith(f".{target}")


class AdaptedProduct(torch.autograd.Function):
    """x W' + b, and to each part's outputs s · d A' B' of its own, for [N, in]; d is x, or x with some left out.

    W and b are not trained. The products with all A are done as one. What comes back to x is g W + Σ s g B A. Where it
    costs less than adding to every output, both are products with W + s B A, made anew each way and not kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor | None, layer: AdaptedLinear, *ab: Tensor) -> Tensor:
        parts = layer.parts
        a, bs = torch.cat(ab[: len(parts)]) if len(parts) > 1 else ab[0], ab[len(parts) :]
        z = product(x if d is None else d, a)
        # Rounded to bfloat16, W + s B A would lose what is learned: it is small beside W.
        ctx.folds = d is None and x.dtype == torch.float32 and x.shape[0] >= x.shape[1]
        if ctx.folds:
            y = product(x, _folded(layer.weight, parts, a, bs), layer.bias)
        else:
            y = product(x, layer.weight, layer.bias)
            for part, inner, b in zip(parts, torch.split(z, [b.shape[1] for b in bs], 1), bs, strict=True):
                y[:, part.rows].addmm_(inner, b.t(), alpha=part.scale)
        ctx.save_for_backward(x if d is None else d, z, a, layer.weight, *bs)
        ctx.parts, ctx.dropped = parts, d is not None
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        (g,) = gradients
        d, z, a, weight, *bs = ctx.saved_tensors
        ranks = [b.shape[1] for b in bs]
        h = torch.empty_like(z)  # what comes back to the products with A
        grads_b = []
        for part, inner, back, b in zip(ctx.parts, torch.split(z, ranks, 1), torch.split(h, ranks, 1), bs, strict=True):
            rows = g[:, part.rows]
            torch.mul(product(rows, b.t()), part.scale, out=back)
            grads_b.append((rows.t() @ inner).mul_(part.scale))
        grads_a = torch.split(h.t() @ d, ranks)
        needs_x, needs_d = ctx.needs_input_grad[:2]
        grad_x = grad_d = None
        if needs_x:
            grad_x = product(g, (_folded(weight, ctx.parts, a, bs) if ctx.folds else weight).t())
            if not ctx.dropped and not ctx.folds:
                grad_x.addmm_(h, a)
        if needs_d:
            grad_d = h @ a
        return grad_x, grad_d, None, *grads_a, *grads_b


def _folded(weight: Tensor, parts: Sequence[Part], a: Tensor, bs: Sequence[Tensor]) -> Tensor:
    """W + s B A, each part's own in its outputs."""
    whole = weight.clone()
    for part, one, b in zip(parts, torch.split(a, [b.shape[1] for b in bs]), bs, strict=True):
        whole[part.rows].addmm_(b, one, alpha=part.scale)
    return whole


@dataclass(frozen=True, slots=True)
class Part:
    """An adapter's place in an AdaptedLinear: its published name, the outputs that it adds to, and its factor."""

    published: str
    rows: slice
    scale: float


class AdaptedLinear(nn.Module):
    """Linear layers that read the same numbers, done as one with fixed weights, and the adapters of some of them.

    `a[i]` [r, in] and `b[i]` [out, r] belong to `parts[i]`. `names` and `sizes` say which of a block's layers it does.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, plain: Sequence[tuple[str, nn.Linear]], parts: Sequence[Part], adapters: Sequence[Adapter]):
        super().__init__()
        self.names = tuple(name for name, _ in plain)
        self.sizes = [layer.out_features for _, layer in plain]
        weights = [layer.weight.detach() for _, layer in plain]
        biases = [layer.bias.detach() for _, layer in plain if layer.bias is not None]
        # Fixed, but parameters, so that counts and conversions of the decoder's weights find them.
        self.weight = nn.Parameter(torch.cat(weights) if len(weights) > 1 else weights[0], requires_grad=False)
        self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
        self.parts = tuple(parts)
        self.a = nn.ParameterList(adapter.a.detach().to(weights[0], copy=True) for adapter in adapters)
        self.b = nn.ParameterList(adapter.b.detach().to(weights[0], copy=True) for adapter in adapters)
        self.dropout, self.off = 0.0, False

    def forward(self, x: Tensor) -> Tensor:
        if self.off:
            return product(x, self.weight, self.bias)
        dropped = F.dropout(x, self.dropout) if self.training and self.dropout else None
        y: Tensor = AdaptedProduct.apply(x, dropped, self, *self.a, *self.b)  # type: ignore[no-untyped-call]
        return y

    def adapters(self) -> Iterator[tuple[str, Adapter]]:
        """By published name."""
        for part, a, b in zip(self.parts, self.a, self.b, strict=True):
            yield part.published, Adapter(a, b, part.scale)

    def merged(self) -> Iterator[tuple[str, nn.Linear]]:
        """The plain layers, with what the adapters add."""
        whole = self.weight.detach().float().clone() if self.parts else self.weight.detach()
        for part, (_, adapter) in zip(self.parts, self.adapters(), strict=True):
            whole[part.rows] += adapter.delta()
        weights = torch.split(whole.to(self.weight.dtype), self.sizes)
        biases = [] if self.bias is None else torch.split(self.bias.detach(), self.sizes)
        for i, (name, weight) in enumerate(zip(self.names, weights, strict=True)):
            with torch.device("meta"):
                layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(biases))
            layer.weight = nn.Parameter(weight.clone())
            if biases:
                layer.bias = nn.Parameter(biases[i].clone())
            yield name, layer


def add_lora(decoder: Decoder, lora: LoraConfig, seed: int = 0) -> None:
    """Puts new adapters into the decoder, which then computes what it did before: every B is 0.

    A begins uniform within ±1/√in, as `peft` begins it; the same seed gives the same. Only adapters have gradients
    afterwards. Raises ConfigError for a target that names no layer.
    """
    random = torch.Generator().manual_seed(seed)
    fresh = {}
    for layer in targeted(decoder.config, lora.targets):
        out, width = layer.shape
        a = torch.empty(lora.rank, width).uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width), generator=random)
        b = torch.zeros(out, lora.rank)
        fresh[layer.published] = Adapter(a, b, lora.scaled_by / lora.rank)
    attach(decoder, fresh, lora.dropout)


def attach(decoder: Decoder, adapters: Mapping[str, Adapter], dropout: float = 0.0) -> None:
    """Puts adapters, by their layers' published names, into the decoder, in its precision; all else in it is fixed.

    Raises ConfigError for adapters of another family or other shapes, for a quantised decoder, and where there are some
    already.
    """
    check(decoder.config, adapters)
    if any(isinstance(module, AdaptedLinear) for module in decoder.modules()):
        raise ConfigError("The model has adapters already; merge them first.")
    decoder.requires_grad_(False)
    places: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers(decoder.config):
        if layer.published in adapters:
            places[layer.ours[0].split(".")[1]].append(layer)
    for number, block in enumerate(decoder.blocks):
        assert isinstance(block, Block)
        _adapt(block, places[str(number)], adapters, dropout)


def check(config: DecoderConfig, adapters: Mapping[str, Adapter]) -> None:
    """Raises ConfigError where adapters do not belong to a decoder of that config, naming the first that does not."""
    known = {layer.published: layer.shape for layer in layers(config)}
    for name, adapter in adapters.items():
        if name not in known:
            raise ConfigError(
                f"The adapter is for a layer {name!r}, which this {config.family} model does not have; it was made for "
                "another model, so give that one as its base."
            )
        shape = adapter.b.shape[0], adapter.a.shape[1]
        if shape != known[name]:
            raise ConfigError(
                f"The adapter is for a layer {name!r} of {shape[0]} x {shape[1]}, but this model's has "
                f"{known[name][0]} x {known[name][1]}; it was made for another model, so give that one as its base."
            )


def _adapt(block: Block, chosen: Sequence[Layer], adapters: Mapping[str, Adapter], dropout: float) -> None:
    """Replaces the block's layers that have adapters, and those that are done together with them."""
    kinds = ["attention.q", "attention.k", "attention.v", "attention.out", "mlp.gate", "mlp.up", "mlp.down"]
    together = TOGETHER | ({"mlp.up": "mlp.gate_up"} if block.mlp.gate is not None else {})
    groups: dict[str, list[tuple[str, nn.Linear]]] = defaultdict(list)
    for kind in kinds:
        layer = getattr(getattr(block, kind.split(".")[0]), kind.split(".")[1])
        if layer is None:
            continue
        if not isinstance(layer, nn.Linear):
            raise ConfigError("A quantised model cannot have adapters put in; load it in bfloat16 or float32.")
        groups[together.get(kind, kind)].append((kind, layer))
    for place, plain in groups.items():
        names = [name for name, _ in plain]
        starts = dict(zip(names, _starts([layer.out_features for _, layer in plain]), strict=True))
        parts, own = [], []
        for layer in chosen:
            first = layer.ours[0].split(".", 2)[2]
            if first in starts:
                adapter = adapters[layer.published]
                rows = slice(starts[first], starts[first] + layer.shape[0])
                parts.append(Part(layer.published, rows, adapter.scale))
                own.append(adapter)
        if not parts:
            continue
        adapted = AdaptedLinear(plain, parts, own)
        adapted.dropout = dropout
        if place not in names:
            for name in names:
                setattr(getattr(block, name.split(".")[0]), name.split(".")[1], nn.Identity())
        setattr(getattr(block, place.split(".")[0]), place.split(".")[1], adapted)


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def adapters_of(decoder: Decoder) -> dict[str, Adapter]:
    """The decoder's adapters by their layers' published names; the tensors are its own."""
    found = (module for module in decoder.modules() if isinstance(module, AdaptedLinear))
    return {name: adapter for module in found for name, adapter in module.adapters()}


@contextmanager
def without_adapters(decoder: Decoder) -> Iterator[None]:
    """Within it, the decoder computes what it would without its adapters: its base."""
    adapted = [module for module in decoder.modules() if isinstance(module, AdaptedLinear)]
    for module in adapted:
        module.off = True
    try:
        yield
    finally:
        for module in adapted:
            module.off = False


def merge(decoder: Decoder) -> None:
    """Adds the adapters to the weights, in float32 and rounded once, and puts plain layers in their place."""
    for block in decoder.blocks:
        assert isinstance(block, Block)
        for owner, names in ((block.attention, ("qkv", "out")), (block.mlp, ("gate_up", "up", "down"))):
            for name in names:
                adapted = getattr(owner, name)
                if not isinstance(adapted, AdaptedLinear):
                    continue
                if name in ("qkv", "gate_up"):
                    setattr(owner, name, None)
                for kind, layer in adapted.merged():
                    setattr(owner, kind.split(".")[1], layer)
