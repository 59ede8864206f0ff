"""What distinguishes one decoder from another, as explicit values.

A family's file (fairground/models/families) states these fields from a published config; nothing else in the house asks
what a model is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairground.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RotaryScaling:
    """How rotary frequencies are stretched beyond the trained length.

    `kind` "linear" divides every frequency by `factor` (Chen et al., 2023); "dynamic" (NTK-aware) is the identity up to
    the trained length, and beyond it is not served here; "llama3" stretches long wavelengths and keeps short ones
    (Llama 3.1's release); "yarn" ramps between the two by dimension and scales the attention (Peng et al., 2023,
    section 3).
    """

    kind: Literal["linear", "dynamic", "llama3", "yarn"]
    factor: float
    original_context: int
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0  # multiplies cosine and sine
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary position embedding (Su et al., 2021) over the first `dim` entries of each head.

    `interleaved` rotates neighbours (0, 1), (2, 3), … as GPT-J does; otherwise entry i goes with entry i + dim / 2, as
    in LLaMA's Hugging Face layout.
    """

    dim: int
    theta: float = 10_000.0
    interleaved: bool = False
    scaling: RotaryScaling | None = None


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """The facts of one decoder-only transformer. Lengths are in tokens, widths in numbers per token.

    `windows[i]` is how many positions, its own included, layer i may look back over (None: all). `rotary` None means
    learned positions. `parallel`: attention and MLP both read the block's one norm and are added together.
    Raises ConfigError where the fields contradict each other.
    """

    family: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    context_length: int
    norm: Literal["layer", "rms"]
    norm_eps: float
    activation: Literal["gelu", "gelu_tanh", "silu", "relu"]
    gated_mlp: bool
    parallel: bool
    rotary: Rotary | None
    attention_scale: float
    windows: tuple[int | None, ...]
    qkv_bias: bool
    attention_out_bias: bool
    mlp_bias: bool
    head_bias: bool
    tied_head: bool

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "layers", "heads", "kv_heads", "head_dim", "mlp_width", "context_length"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"The config gives {name} as {value!r}, but it must be a whole number above 0.")
        if self.heads % self.kv_heads:
            raise ConfigError(f"{self.heads} attention heads cannot share {self.kv_heads} key-value heads evenly.")
        if len(self.windows) != self.layers:
            raise ConfigError(f"The config describes {len(self.windows)} attention layers, but has {self.layers}.")
        if any(window is not None and window < 1 for window in self.windows):
            raise ConfigError("The config gives an attention window below 1; such a layer could see nothing.")
        if self.rotary and not (0 < self.rotary.dim <= self.head_dim and self.rotary.dim % 2 == 0):
            raise ConfigError(
                f"Rotary positions cover {self.rotary.dim} entries, but it must be an even number of at most "
                f"{self.head_dim}, a head's width."
            )

    def parameter_count(self) -> int:
        """Weights of the model, a tied head counted once."""
        norm = self.width * (2 if self.norm == "layer" else 1)
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.width * (q + 2 * kv) + q * self.width
        attention += (q + 2 * kv) * self.qkv_bias + self.width * self.attention_out_bias
        mlp = self.width * self.mlp_width * (3 if self.gated_mlp else 2)
        mlp += (self.mlp_width * (2 if self.gated_mlp else 1) + self.width) * self.mlp_bias
        block = attention + mlp + norm * (1 if self.parallel else 2)
        embeddings = self.vocab_size * self.width + (0 if self.rotary else self.context_length * self.width)
        head = (0 if self.tied_head else self.vocab_size * self.width) + self.vocab_size * self.head_bias
        return embeddings + self.layers * block + norm + head
