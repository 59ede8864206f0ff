"""GPT-Neo (Black et al., 2021): unscaled scores, layers that see all or a window, a bias on attention's output only."""

from __future__ import annotations

from typing import Any

from fairground.errors import ConfigError
from fairground.models.config import DecoderConfig
from fairground.models.families.family import ACTIVATIONS, PUBLISHED_ACTIVATIONS, Family, Fields, linear, weight


def read(fields: Fields) -> DecoderConfig:
    width, heads = fields.whole("hidden_size", 2048), fields.whole("num_heads", 16)
    layers, window = fields.whole("num_layers", 24), fields.whole("window_size", 256)
    kinds = expand_kinds(fields.get("attention_types", [[["global", "local"], 12]]))
    fields.must_be("attention_layers", kinds)
    return DecoderConfig(
        family="gpt-neo",
        vocab_size=fields.whole("vocab_size", 50257),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=fields.even_share(width, heads),
        mlp_width=fields.whole("intermediate_size", 4 * width),
        context_length=fields.whole("max_position_embeddings", 2048),
        norm="layer",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        gated_mlp=False,
        parallel=False,
        rotary=None,
        attention_scale=1.0,
        windows=tuple(window if kind == "local" else None for kind in kinds),
        qkv_bias=False,
        attention_out_bias=True,
        mlp_bias=True,
        head_bias=False,
        tied_head=fields.flag("tie_word_embeddings", True),
    )


def expand_kinds(types: Any) -> list[str]:
    """[[["global", "local"], 2]] -> global, local, global, local."""
    try:
        kinds = [kind for pattern, times in types for _ in range(times) for kind in pattern]
    except (TypeError, ValueError):
        kinds = ["unreadable"]
    if not set(kinds) <= {"global", "local"}:
        raise ConfigError(
            f'config.json gives attention_types as {types!r}; it must be like [[["global", "local"], 12]].'
        )
    return kinds


def write(c: DecoderConfig) -> dict[str, Any]:
    kinds = ["global" if window is None else "local" for window in c.windows]
    return {
        "vocab_size": c.vocab_size,
        "hidden_size": c.width,
        "num_heads": c.heads,
        "num_layers": c.layers,
        "max_position_embeddings": c.context_length,
        "intermediate_size": c.mlp_width,
        "layer_norm_epsilon": c.norm_eps,
        "activation_function": PUBLISHED_ACTIVATIONS[c.activation],
        "attention_types": [[[kind], 1] for kind in kinds],
        "attention_layers": kinds,
        "window_size": next((window for window in c.windows if window is not None), 256),
        "tie_word_embeddings": c.tied_head,
    }


FAMILY = Family(
    name="gpt-neo",
    architecture="GPTNeoForCausalLM",
    model_type="gpt_neo",
    read=read,
    write=write,
    weights=(
        weight("transformer.wte.weight", "embed.weight"),
        weight("transformer.wpe.weight", "positions.weight"),
        *linear("transformer.h.{i}.ln_1", "blocks.{i}.attention_norm"),
        *linear("transformer.h.{i}.attn.attention.q_proj", "blocks.{i}.attention.q"),
        *linear("transformer.h.{i}.attn.attention.k_proj", "blocks.{i}.attention.k"),
        *linear("transformer.h.{i}.attn.attention.v_proj", "blocks.{i}.attention.v"),
        *linear("transformer.h.{i}.attn.attention.out_proj", "blocks.{i}.attention.out"),
        *linear("transformer.h.{i}.ln_2", "blocks.{i}.mlp_norm"),
        *linear("transformer.h.{i}.mlp.c_fc", "blocks.{i}.mlp.up"),
        *linear("transformer.h.{i}.mlp.c_proj", "blocks.{i}.mlp.down"),
        *linear("transformer.ln_f", "norm"),
        weight("lm_head.weight", "head.weight"),
    ),
    buffers=(".attn.attention.bias", ".attn.attention.masked_bias"),
    prefix="transformer.",
)
