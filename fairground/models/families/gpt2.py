"""GPT-2 (Radford et al., 2019): learned positions, layer norms, one fused query-key-value product, tied head."""

from __future__ import annotations

from typing import Any

from fairground.models.config import DecoderConfig
from fairground.models.families.family import ACTIVATIONS, PUBLISHED_ACTIVATIONS, Family, Fields, linear, weight


def read(fields: Fields) -> DecoderConfig:
    width, heads, layers = fields.whole("n_embd", 768), fields.whole("n_head", 12), fields.whole("n_layer", 12)
    context = fields.whole("n_positions", 1024)
    fields.must_be("n_ctx", context)
    scaled = fields.flag("scale_attn_weights", True)
    fields.must_be("scale_attn_by_inverse_layer_idx", False)
    fields.must_be("add_cross_attention", False)
    fields.get("reorder_and_upcast_attn")  # an order of operations, not another result
    return DecoderConfig(
        family="gpt2",
        vocab_size=fields.whole("vocab_size", 50257),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=fields.even_share(width, heads),
        mlp_width=fields.whole("n_inner", 4 * width),
        context_length=context,
        norm="layer",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        gated_mlp=False,
        parallel=False,
        rotary=None,
        attention_scale=(width // heads) ** -0.5 if scaled else 1.0,
        windows=(None,) * layers,
        qkv_bias=True,
        attention_out_bias=True,
        mlp_bias=True,
        head_bias=False,
        tied_head=fields.flag("tie_word_embeddings", True),
    )


def write(c: DecoderConfig) -> dict[str, Any]:
    return {
        "vocab_size": c.vocab_size,
        "n_embd": c.width,
        "n_head": c.heads,
        "n_layer": c.layers,
        "n_positions": c.context_length,
        "n_inner": c.mlp_width,
        "layer_norm_epsilon": c.norm_eps,
        "activation_function": PUBLISHED_ACTIVATIONS[c.activation],
        "scale_attn_weights": c.attention_scale != 1.0,
        "tie_word_embeddings": c.tied_head,
    }


QKV = ("blocks.{i}.attention.q", "blocks.{i}.attention.k", "blocks.{i}.attention.v")

FAMILY = Family(
    name="gpt2",
    architecture="GPT2LMHeadModel",
    model_type="gpt2",
    read=read,
    write=write,
    weights=(
        weight("transformer.wte.weight", "embed.weight"),
        weight("transformer.wpe.weight", "positions.weight"),
        *linear("transformer.h.{i}.ln_1", "blocks.{i}.attention_norm"),
        *linear("transformer.h.{i}.attn.c_attn", *QKV, transposed=True),
        *linear("transformer.h.{i}.attn.c_proj", "blocks.{i}.attention.out", transposed=True),
        *linear("transformer.h.{i}.ln_2", "blocks.{i}.mlp_norm"),
        *linear("transformer.h.{i}.mlp.c_fc", "blocks.{i}.mlp.up", transposed=True),
        *linear("transformer.h.{i}.mlp.c_proj", "blocks.{i}.mlp.down", transposed=True),
        *linear("transformer.ln_f", "norm"),
        weight("lm_head.weight", "head.weight"),
    ),
    buffers=(".attn.bias", ".attn.masked_bias"),
    prefix="transformer.",
)
