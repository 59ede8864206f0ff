"""GPT-2 as nanoGPT writes it (Karpathy, 2022, model.py): plain torch, one product for queries, keys and values.

The only changes: the tanh form of GELU, which is GPT-2's own, no dropout, and no generation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        b, t, c = x_BTC.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.c_attn(x_BTC).split(c, dim=2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.c_proj(mixed.transpose(1, 2).contiguous().view(b, t, c))
        return out


class Perceptron(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, inner)
        self.c_proj = nn.Linear(inner, width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x_BTC), approximate="tanh"))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), SelfAttention(width, heads)
        self.ln_2, self.mlp = nn.LayerNorm(width), Perceptron(width, inner)

    def forward(self, x_BTC: Tensor) -> Tensor:
        x = x_BTC + self.attn(self.ln_1(x_BTC))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class NanoGPT(nn.Module):
    """Mean cross-entropy, in nats, of `targets` after `ids`: int64 [B, T] each. The head is the embedding."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads, inner) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.flatten())

    def take(self, published: dict[str, Tensor]) -> None:
        """Weights as OpenAI published them, whose linears are transposed."""
        weights = {name.removeprefix("transformer."): weight for name, weight in published.items()}
        self.load_state_dict({n: w.t() if n.endswith(TRANSPOSED) else w for n, w in weights.items()})
