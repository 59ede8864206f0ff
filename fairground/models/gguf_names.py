"""What GGUF calls the fields and weights of the families it carries: LLaMA (Mistral too) and GPT-2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from fairground.errors import ConfigError
from fairground.models.assemble import Names
from fairground.models.config import DecoderConfig, Rotary, RotaryScaling
from fairground.models.families.family import linear, weight
from fairground.models.families.gpt2 import QKV
from fairground.models.gguf_file import GGUFFile
from fairground.models.rotary import frequencies

LLAMA = Names(
    weights=(
        weight("token_embd.weight", "embed.weight"),
        weight("blk.{i}.attn_norm.weight", "blocks.{i}.attention_norm.weight"),
        *linear("blk.{i}.attn_q", "blocks.{i}.attention.q", paired=True),
        *linear("blk.{i}.attn_k", "blocks.{i}.attention.k", paired=True),
        *linear("blk.{i}.attn_v", "blocks.{i}.attention.v"),
        *linear("blk.{i}.attn_output", "blocks.{i}.attention.out"),
        weight("blk.{i}.ffn_norm.weight", "blocks.{i}.mlp_norm.weight"),
        *linear("blk.{i}.ffn_gate", "blocks.{i}.mlp.gate"),
        *linear("blk.{i}.ffn_up", "blocks.{i}.mlp.up"),
        *linear("blk.{i}.ffn_down", "blocks.{i}.mlp.down"),
        weight("output_norm.weight", "norm.weight"),
        weight("output.weight", "head.weight"),
    ),
    buffers=("rope_freqs.weight",),  # read by `_scaling`
)
GPT2 = Names(
    weights=(
        weight("token_embd.weight", "embed.weight"),
        weight("position_embd.weight", "positions.weight"),
        *linear("blk.{i}.attn_norm", "blocks.{i}.attention_norm"),
        *linear("blk.{i}.attn_qkv", *QKV),
        *linear("blk.{i}.attn_output", "blocks.{i}.attention.out"),
        *linear("blk.{i}.ffn_norm", "blocks.{i}.mlp_norm"),
        *linear("blk.{i}.ffn_up", "blocks.{i}.mlp.up"),
        *linear("blk.{i}.ffn_down", "blocks.{i}.mlp.down"),
        *linear("output_norm", "norm"),
        weight("output.weight", "head.weight"),
    ),
)


class _Fields:
    """The metadata under one architecture's name; `finish` refuses what nobody read."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        prefix = architecture + "."
        self._fields = {name.removeprefix(prefix): v for name, v in metadata.items() if name.startswith(prefix)}
        self._seen: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self._seen.add(name)
        value = self._fields.get(name, default)
        if value is None:
            raise ConfigError(f"The GGUF file does not say {name!r}, so the model cannot be built; fetch it again.")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number above 0."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"The GGUF file gives {name} as {value!r}, but it must be a whole number above 0.")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ConfigError(f"The GGUF file gives {name} as {value!r}, but it must be a number above 0.")
        return float(value)

    def layers(self, file: GGUFFile) -> int:
        """How many blocks there are; refused where the file cannot hold them, before anything is made for each."""
        layers = self.whole("block_count")
        if layers > len(file.tensors):
            raise ConfigError(
                f"{file.path} gives block_count as {layers}, but holds {len(file.tensors)} tensors; fetch it again."
            )
        return layers

    def finish(self) -> None:
        left = sorted(set(self._fields) - self._seen)
        if left:
            raise ConfigError(
                f"The GGUF file has the field {left[0]!r} ({self._fields[left[0]]!r}), which Fairground does not "
                "understand and which may change the mathematics, so the model was not loaded."
            )


def describe(file: GGUFFile) -> tuple[DecoderConfig, Names]:
    """The decoder that a GGUF file holds. Raises ConfigError for an architecture or a field that is not understood."""
    architecture = file.metadata.get("general.architecture")
    if architecture not in ("llama", "gpt2"):
        raise ConfigError(
            f"{file.path} holds the architecture {architecture!r}; Fairground reads llama and gpt2 GGUFs."
        )
    fields = _Fields(file.metadata, architecture)
    config = _llama(fields, file) if architecture == "llama" else _gpt2(fields, file)
    fields.finish()
    return config, LLAMA if architecture == "llama" else GPT2


def _llama(fields: _Fields, file: GGUFFile) -> DecoderConfig:
    width, heads, layers = fields.whole("embedding_length"), fields.whole("attention.head_count"), fields.layers(file)
    head_dim = fields.whole("attention.key_length", max(width // heads, 1))
    for name, expected in (
        ("attention.value_length", head_dim),
        ("rope.dimension_count", head_dim),
        ("expert_count", 0),
        ("expert_used_count", 0),
    ):
        if fields.get(name, expected) != expected:
            raise ConfigError(f"The GGUF file gives {name} as {fields.get(name)}; Fairground runs only {expected}.")
    fields.get("vocab_size", 0)
    rotary = Rotary(head_dim, fields.number("rope.freq_base", 10_000.0))
    window = fields.get("attention.sliding_window", 0) and fields.whole("attention.sliding_window")
    name = str(file.metadata.get("general.basename", file.metadata.get("general.name", ""))).lower()
    return DecoderConfig(
        family="mistral" if window or name.startswith("mistral") else "llama",  # a label; the mathematics is one
        vocab_size=_rows(file),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=fields.get("attention.head_count_kv", heads),
        head_dim=head_dim,
        mlp_width=fields.get("feed_forward_length"),
        context_length=fields.get("context_length"),
        norm="rms",
        norm_eps=fields.number("attention.layer_norm_rms_epsilon"),
        activation="silu",
        gated_mlp=True,
        parallel=False,
        rotary=Rotary(rotary.dim, rotary.theta, scaling=_scaling(fields, file, rotary)),
        attention_scale=head_dim**-0.5,
        windows=(window or None,) * layers,
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        attention_out_bias="blk.0.attn_output.bias" in file.tensors,
        mlp_bias="blk.0.ffn_down.bias" in file.tensors,
        head_bias=False,
        tied_head="output.weight" not in file.tensors,
    )


def _rows(file: GGUFFile) -> int:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ConfigError(f"{file.path} holds no token embedding, so it is not a whole model; fetch it again.")
    return embedding.shape[0]


def _scaling(fields: _Fields, file: GGUFFile, rotary: Rotary) -> RotaryScaling | None:
    kind = fields.get("rope.scaling.type", "none")
    factor = fields.number("rope.scaling.factor", 1.0)
    original = fields.whole("rope.scaling.original_context_length", fields.whole("context_length"))
    fields.get("rope.scaling.finetuned", False)
    if "rope_freqs.weight" in file.tensors:
        if file.tensors["rope_freqs.weight"].shape != (rotary.dim // 2,):
            raise ConfigError(f"{file.path} has not one of its rope_freqs for each of {rotary.dim // 2} rotated pairs.")
        return _from_divisors(file.read("rope_freqs.weight").float(), rotary)
    if kind == "linear":
        return RotaryScaling("linear", factor, original)
    if kind == "yarn":
        grown = RotaryScaling("yarn", factor, original).attention_factor
        stated = fields.number("rope.scaling.attn_factor", 1.0)
        log_factor = 1.0 + 0.1 * float(torch.tensor(factor).log())
        return RotaryScaling("yarn", factor, original, attention_factor=grown * stated * log_factor)
    if kind != "none":
        raise ConfigError(
            f"{file.path} asks for the rotary scaling {kind!r}; Fairground reads linear, yarn and llama3."
        )
    return None


def _from_divisors(divisors: torch.Tensor, rotary: Rotary) -> RotaryScaling:
    """LLaMA 3's scaling is written into GGUF as what each frequency is divided by; find the release's numbers again."""
    found = RotaryScaling("llama3", float(divisors.max()), 8192, 1.0, 4.0)
    ours = frequencies(rotary) / frequencies(Rotary(rotary.dim, rotary.theta, scaling=found))
    if not torch.allclose(ours, divisors, rtol=1e-3):
        raise ConfigError("The GGUF file's rope_freqs are not LLaMA 3's rotary scaling, which is the one known here.")
    return found


def _gpt2(fields: _Fields, file: GGUFFile) -> DecoderConfig:
    width, heads, layers = fields.whole("embedding_length"), fields.whole("attention.head_count"), fields.layers(file)
    return DecoderConfig(
        family="gpt2",
        vocab_size=_rows(file),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        mlp_width=fields.get("feed_forward_length"),
        context_length=fields.get("context_length"),
        norm="layer",
        norm_eps=fields.number("attention.layer_norm_epsilon"),
        activation="gelu_tanh",
        gated_mlp=False,
        parallel=False,
        rotary=None,
        attention_scale=(width // heads) ** -0.5,
        windows=(None,) * layers,
        qkv_bias=True,
        attention_out_bias=True,
        mlp_bias=True,
        head_bias=False,
        tied_head="output.weight" not in file.tensors,
    )
