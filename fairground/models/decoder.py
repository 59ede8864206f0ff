"""One decoder-only transformer, made of the parts that a DecoderConfig names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fairground.models.attention import Attend, ExactAttention, FusedAttention
from fairground.models.config import DecoderConfig
from fairground.models.packed import Packed, Pages
from fairground.models.packed_attention import PackedAttention
from fairground.models.quantised import QuantisedLinear
from fairground.models.rotary import RotaryTable, rotate

EXACT_ROWS = 16  # a float32 product's rows were found not to depend on their number from 8 on; see attention.py
FIXED_ROWS = 256  # of a bfloat16 product, whose sums oneDNN splits by how many rows there are
HEAD_CHUNK = 8192  # tokens of the vocabulary whose weights are widened to float32 at a time
SHARP = 32  # tokens
SHARE = 32768  # numbers that torch gives one thread (at::internal::GRAIN_SIZE)
NORM_ROWS = 512
VECTOR = 64  # numbers in one step of torch's widest vector loop

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "relu": F.relu,
}


def in_any_company(activate: Activation, x_NW: Tensor) -> Tensor:
    """The same bits for a number wherever it stands in a tensor.

    torch computes an exponential with vector instructions, and with others at the ragged end of each thread's share,
    which differ in the last bit. So the numbers are handed over in shares without ragged ends.
    """
    if x_NW.is_cuda:
        return activate(x_NW)
    width = x_NW.shape[1]
    wide = F.pad(x_NW, (0, -width % VECTOR)).contiguous()
    for part in _shares(wide.view(-1), SHARE * torch.get_num_threads()):
        part.copy_(activate(part))
    return wide[:, :width]


def _shares(flat: Tensor, step: int) -> Iterator[Tensor]:
    """Pieces of `step`, where every thread gets one whole SHARE, and then of SHARE, which one thread does alone."""
    whole = flat.numel() // step * step
    yield from torch.split(flat[:whole], step) if whole else ()
    yield from torch.split(flat[whole:], SHARE) if whole < flat.numel() else ()


class NormAndBack(torch.autograd.Function):
    """Root-mean-square norm of [N, D] in float32, a few rows at a time: there and back, half of torch's time on a CPU.

    With n = x / rms(x) and g the gradient times the weight, x's gradient is (g − n mean(g n)) / rms(x).
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        out, scales = torch.empty_like(x_ND), torch.empty(x_ND.shape[0], 1)
        wide_weight = weight_D.float()
        for rows in _chunks(x_ND.shape[0]):
            wide = x_ND[rows].float()
            scales[rows] = torch.mean(wide * wide, -1, keepdim=True).add_(eps).rsqrt_()
            out[rows] = wide * scales[rows] * wide_weight
        ctx.save_for_backward(x_ND, weight_D, scales)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor | None, None]:
        (gradient,) = gradients
        x_ND, weight_D, scales = ctx.saved_tensors
        wide_weight, grad_x = weight_D.float(), torch.empty_like(x_ND)
        grad_weight = torch.zeros_like(wide_weight) if ctx.needs_input_grad[1] else None
        for rows in _chunks(x_ND.shape[0]):
            normed, g = x_ND[rows].float() * scales[rows], gradient[rows].float()
            product = g * normed
            if grad_weight is not None:
                grad_weight += product.sum(0)
            mean = (product @ wide_weight)[:, None] / x_ND.shape[1]
            grad_x[rows] = (g * wide_weight).addcmul_(normed, mean, value=-1).mul_(scales[rows])
        return grad_x, None if grad_weight is None else grad_weight.to(weight_D.dtype), None


def _chunks(rows: int) -> Iterator[slice]:
    """Rows that fit a core's cache together."""
    return (slice(start, start + NORM_ROWS) for start in range(0, rows, NORM_ROWS))


def _grain(rows: int) -> int:
    """What a pass's rows are filled up to a multiple of: an eighth of them, about.

    oneDNN makes and keeps a program of its own, near a megabyte, for every number of rows that it meets. A server that
    meets them all grew by gigabytes.
    """
    return 1 << max(0, rows.bit_length() - 4)


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich, 2019), computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and (self.weight.requires_grad or x.requires_grad) and x.device.type == "cpu":
            out: Tensor = NormAndBack.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
            return out
        wide = x.float()
        # A third of the time of torch's own, which makes a tensor of every step.
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()
        normed: Tensor = (wide * scale).mul_(self.weight.float()).to(self.weight.dtype)
        return normed


class LayerNorm(nn.LayerNorm):
    """torch's, of numbers that may be wider than the weights; the result is as narrow as those."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps).to(self.weight.dtype)


class Lookup(torch.autograd.Function):
    """Rows of an embedding. A frequent token's gradient is a sum of many small numbers, so it is done in float32."""

    @staticmethod
    def forward(ctx: Any, ids_N: Tensor, weight_VD: Tensor) -> Tensor:
        ctx.save_for_backward(ids_N)
        ctx.shape, ctx.dtype = weight_VD.shape, weight_VD.dtype
        return F.embedding(ids_N, weight_VD)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, Tensor]:
        (gradient,) = gradients
        (ids_N,) = ctx.saved_tensors
        total = gradient.new_zeros(ctx.shape, dtype=torch.float32)
        return None, total.index_add_(0, ids_N, gradient.float()).to(ctx.dtype)


class Embedding(nn.Embedding):
    """Starts as the families' authors start it: normal, deviation 0.02."""

    def forward(self, ids_N: Tensor) -> Tensor:
        if self.weight.requires_grad and torch.is_grad_enabled():
            rows: Tensor = Lookup.apply(ids_N, self.weight)  # type: ignore[no-untyped-call]
            return rows
        return F.embedding(ids_N, self.weight)

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:  # there is nothing to draw there, and torch would load its compiler for it
            nn.init.normal_(self.weight, std=0.02)


def norm(c: DecoderConfig) -> nn.Module:
    return LayerNorm(c.width, c.norm_eps) if c.norm == "layer" else RMSNorm(c.width, c.norm_eps)


@dataclass(frozen=True, slots=True)
class Pass:
    """How one forward pass computes: its attention, its rotary turns, its activation, and how many rows at a time.

    A bfloat16 product's rows have the same bits however many there are where it is always of FIXED_ROWS; and what is
    computed from few rows is still in a core's cache when the next step wants it.
    """

    attend: Attend
    turns: tuple[Tensor, Tensor] | None
    activate: Activation
    rows: int

    def by_rows(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """What the function gives for all rows, computed `rows` at a time."""
        count = next(x.shape[0] for x in inputs if x is not None)
        if count <= self.rows:
            return function(*inputs)
        parts = [
            function(*(None if x is None else x[start : start + self.rows] for x in inputs))
            for start in range(0, count, self.rows)
        ]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))


class Attention(nn.Module):
    def __init__(self, c: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.c, self.layer = c, layer
        self.q: nn.Module = nn.Linear(c.width, c.heads * c.head_dim, bias=c.qkv_bias)
        self.k: nn.Module = nn.Linear(c.width, c.kv_heads * c.head_dim, bias=c.qkv_bias)
        self.v: nn.Module = nn.Linear(c.width, c.kv_heads * c.head_dim, bias=c.qkv_bias)
        self.out = nn.Linear(c.heads * c.head_dim, c.width, bias=c.attention_out_bias)
        self.qkv: nn.Module | None = None  # the three in one product, once they are joined

    def forward(self, x_ND: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [N, H, D], keys and values [N, G, D]."""
        c = self.c
        heads = [c.heads, c.kv_heads]
        if self.qkv is None:
            turned = [x.view(-1, n, c.head_dim) for x, n in zip((self.q(x_ND), self.k(x_ND)), heads, strict=True)]
            v = self.v(x_ND).view(-1, c.kv_heads, c.head_dim)
        else:
            together = self.qkv(x_ND).view(-1, sum(heads) + c.kv_heads, c.head_dim)
            turned, v = [together[:, : sum(heads)]], together[:, sum(heads) :]
        if c.rotary and cos is not None and sin is not None:
            turned = [rotate(x, cos, sin, c.rotary) for x in turned]
        q, k = turned if len(turned) == 2 else torch.split(turned[0], heads, 1)
        return q, k, v


class MLP(nn.Module):
    def __init__(self, c: DecoderConfig) -> None:
        super().__init__()
        self.gate: nn.Module | None = nn.Linear(c.width, c.mlp_width, bias=c.mlp_bias) if c.gated_mlp else None
        self.up: nn.Module = nn.Linear(c.width, c.mlp_width, bias=c.mlp_bias)
        self.down = nn.Linear(c.mlp_width, c.width, bias=c.mlp_bias)
        self.gate_up: nn.Module | None = None  # the two in one product, once they are joined

    def forward(self, x: Tensor, activate: Activation) -> Tensor:
        if self.gate_up is not None:
            gate, up = torch.chunk(self.gate_up(x), 2, 1)
            inner = activate(gate) * up
        else:
            up = self.up(x)
            inner = activate(self.gate(x)) * up if self.gate else activate(up)
        out: Tensor = self.down(inner)
        return out


class Block(nn.Module):
    def __init__(self, c: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = norm(c), Attention(c, layer)
        self.mlp_norm, self.mlp = None if c.parallel else norm(c), MLP(c)

    def join(self) -> None:
        """Does the products of the same numbers as one, for good: fewer calls, for inference alone."""
        a, m = self.attention, self.mlp
        a.qkv, a.q, a.k, a.v = _joined(a.q, a.k, a.v), nn.Identity(), nn.Identity(), nn.Identity()
        if m.gate is not None:
            m.gate_up, m.gate, m.up = _joined(m.gate, m.up), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor, how: Pass) -> Tensor:
        cos, sin = how.turns or (None, None)
        q, k, v, *beside = how.by_rows(partial(self._before, how.activate), x, cos, sin)
        c, layer = self.attention.c, self.attention.layer
        mixed = how.attend(layer, q, k, v, c.attention_scale, c.windows[layer]).flatten(1)
        (out,) = how.by_rows(partial(self._after, how.activate), x, mixed, *beside)
        return out

    def _before(self, activate: Activation, x: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, ...]:
        """What attention reads; in a parallel block, also what its MLP gives."""
        h = self.attention_norm(x)
        found: tuple[Tensor, ...] = self.attention(h, cos, sin)
        return found if self.mlp_norm else (*found, self.mlp(h, activate))

    def _after(self, activate: Activation, x: Tensor, mixed: Tensor, *beside: Tensor) -> tuple[Tensor]:
        x = x + self.attention.out(mixed)
        return (x + (self.mlp(self.mlp_norm(x), activate) if self.mlp_norm else beside[0]),)


def _joined(*linears: nn.Module) -> nn.Linear:
    """One layer whose outputs are theirs, one after another."""
    parts = [one for one in linears if isinstance(one, nn.Linear)]
    with torch.device("meta"):
        whole = nn.Linear(parts[0].in_features, sum(one.out_features for one in parts), bias=False)
    whole.weight = nn.Parameter(torch.cat([one.weight.detach() for one in parts]), requires_grad=False)
    if parts[0].bias is not None:
        whole.bias = nn.Parameter(torch.cat([one.bias.detach() for one in parts]), requires_grad=False)
    return whole


class Decoder(nn.Module):
    """Hidden states of packed tokens, and logits of those that are asked for.

    The same call trains on packed documents (no cache), scores ragged batches, and prefills in chunks or decodes over a
    paged cache. It keeps nothing between calls.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = c = config
        self.embed = Embedding(c.vocab_size, c.width)
        self.positions = None if c.rotary else Embedding(c.context_length, c.width)
        self.blocks = nn.ModuleList(Block(c, layer) for layer in range(c.layers))
        self.norm = norm(c)
        self.head: nn.Module = nn.Linear(c.width, c.vocab_size, bias=c.head_bias)
        if c.tied_head:
            self.head.weight = self.embed.weight
        self._turns: dict[torch.device, RotaryTable] = {}
        self.recompute = False  # in training: a block's activations are computed again on the way back, and not kept

    @property
    def dtype(self) -> torch.dtype:
        """The type of activations, keys and values."""
        weight = next(self.parameters())
        return weight.dtype

    @property
    def device(self) -> torch.device:
        """Where tokens go in."""
        return next(self.parameters()).device

    def forward(self, tokens_N: Tensor, packed: Packed, pages: Pages | None = None, *, exact: bool = False) -> Tensor:
        """Hidden states after the last norm, [N, width], for int64 tokens [N] laid out as `packed` says.

        With `pages`, keys and values of the new tokens are written there and earlier ones read. With `exact`, a token's
        result has the same bits in any company (attention.py says how).
        """
        rows, device = tokens_N.shape[0], tokens_N.device
        positions_N = packed.positions(device)
        surplus = 0
        if exact:
            # Once here, so that no product has to be filled up.
            surplus = -rows % FIXED_ROWS if self.dtype == torch.bfloat16 else max(0, EXACT_ROWS - rows)
        elif pages is not None and device.type == "cpu":
            surplus = -rows % _grain(rows)
        if surplus:
            tokens_N, positions_N = F.pad(tokens_N, (0, surplus)), F.pad(positions_N, (0, surplus))
        attend: Attend
        if exact:
            attend = ExactAttention(packed, pages, tokens_N.shape[0], self.config, self.dtype, device)
        elif pages is None:
            attend = PackedAttention(packed, tokens_N.shape[0], device)
        else:
            attend = FusedAttention(packed, pages, device)
        x = self.embed(tokens_N)
        if not torch.is_grad_enabled():
            # What the blocks add up is not rounded to bfloat16 at each of them; training has its speed from doing so.
            x = x.float()
        if self.positions is not None:
            x = x + self.positions(positions_N)
        turns = None
        if self.config.rotary:
            table = self._turns.setdefault(device, RotaryTable(self.config.rotary, device))
            turns = table(positions_N, packed.last, self.dtype)
        activate = ACTIVATIONS[self.config.activation]
        how = Pass(attend, turns, activate, tokens_N.shape[0])
        if exact:
            rows_at_a_time = FIXED_ROWS if self.dtype == torch.bfloat16 else tokens_N.shape[0]
            how = Pass(attend, turns, partial(in_any_company, activate), rows_at_a_time)
        again = self.recompute and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, how, use_reentrant=False) if again else block(x, how)
        out: Tensor = self.norm(x)
        return out[:rows]

    def logits(self, hidden_MD: Tensor, *, exact: bool = False) -> Tensor:
        """Logits, float32 [M, vocab_size].

        With `exact` they are `exact_logits` put together. Otherwise the product is done in the weights' precision, and
        again in float32 for the likeliest tokens of each row: bfloat16 has three digits, so several of them would often
        tie for the first place.
        """
        if exact:
            out = torch.empty(hidden_MD.shape[0], self.config.vocab_size, device=hidden_MD.device)
            for rows, part, piece in self.exact_logits(hidden_MD):
                out[rows, part] = piece
            return out
        if isinstance(self.head, QuantisedLinear):
            near: Tensor = self.head(hidden_MD).float()
            return near
        assert isinstance(self.head, nn.Linear)
        weight, bias = self.head.weight, self.head.bias
        near = F.linear(hidden_MD, weight, bias).float()
        return near if weight.dtype == torch.float32 else _sharpened(near, hidden_MD, weight, bias)

    def exact_logits(self, hidden_MD: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Logits in float32, of the same bits in any company: some rows, a part of the vocabulary, and [rows, part].

        Every row comes with the same parts, in their order. A bfloat16 head's products take bfloat16 instructions,
        which lose nothing.
        """
        head = self.head
        assert isinstance(head, nn.Linear | QuantisedLinear)
        narrow, bias = isinstance(head, nn.Linear) and head.weight.dtype == torch.bfloat16, head.bias
        count = hidden_MD.shape[0]
        wide = F.pad(hidden_MD.float(), (0, 0, 0, -count % FIXED_ROWS))
        for start in range(0, self.config.vocab_size, HEAD_CHUNK):
            part = slice(start, min(start + HEAD_CHUNK, self.config.vocab_size))
            weight = head.weight[part] if isinstance(head, nn.Linear) else head.dequantised(part)
            widened, own = weight.float(), None if bias is None else bias[part].float()
            for row in range(0, count, FIXED_ROWS):
                rows = slice(row, min(row + FIXED_ROWS, count))
                with _bfloat16_products() if narrow else nullcontext():
                    piece = F.linear(wide[row : row + FIXED_ROWS], widened, own)
                yield rows, part, piece[: rows.stop - row]


@contextmanager
def _bfloat16_products() -> Iterator[None]:
    """Lets products of float32 take bfloat16 instructions; of numbers that are bfloat16's already, nothing is lost."""
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def _sharpened(near_MV: Tensor, hidden_MD: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    """Logits of which the greatest of each row are computed again, in float32; changes `near_MV`."""
    best = near_MV.topk(min(SHARP, near_MV.shape[1])).indices
    sharp = torch.bmm(weight_VD[best].float(), hidden_MD.float()[:, :, None])[:, :, 0]
    return near_MV.scatter_(1, best, sharp if bias_V is None else sharp + bias_V[best].float())
