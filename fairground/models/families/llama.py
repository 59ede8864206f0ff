"""LLaMA 1, 2 and 3 (Touvron et al., 2023; Dubey et al., 2024) and everything published as LlamaForCausalLM."""

from __future__ import annotations

from typing import Any

from fairground.models.config import DecoderConfig
from fairground.models.families.family import Family, Fields, linear, weight
from fairground.models.families.rotary_fields import read_rotary, write_rotary


def read(fields: Fields, family: str = "llama") -> DecoderConfig:
    width, heads = fields.whole("hidden_size", 4096), fields.whole("num_attention_heads", 32)
    layers = fields.whole("num_hidden_layers", 32)
    head_dim = fields.whole("head_dim") if fields.get("head_dim") is not None else fields.even_share(width, heads)
    context = fields.whole("max_position_embeddings", 2048)
    attention_bias = fields.flag("attention_bias", False)
    return DecoderConfig(
        family=family,
        vocab_size=fields.whole("vocab_size", 32000),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=fields.whole("num_key_value_heads", heads),
        head_dim=head_dim,
        mlp_width=fields.whole("intermediate_size", 11008),
        context_length=context,
        norm="rms",
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        activation=fields.one_of("hidden_act", {"silu": "silu", "gelu": "gelu", "relu": "relu"}, "silu"),
        gated_mlp=True,
        parallel=False,
        rotary=read_rotary(fields, head_dim, context),
        attention_scale=head_dim**-0.5,
        windows=(None,) * layers,
        qkv_bias=attention_bias,
        attention_out_bias=attention_bias,
        mlp_bias=fields.flag("mlp_bias", False),
        head_bias=False,
        tied_head=fields.flag("tie_word_embeddings", False),
    )


def write(c: DecoderConfig) -> dict[str, Any]:
    assert c.rotary is not None
    return {
        "vocab_size": c.vocab_size,
        "hidden_size": c.width,
        "intermediate_size": c.mlp_width,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "max_position_embeddings": c.context_length,
        "rms_norm_eps": c.norm_eps,
        "hidden_act": c.activation,
        "attention_bias": c.qkv_bias,
        "mlp_bias": c.mlp_bias,
        "tie_word_embeddings": c.tied_head,
        **write_rotary(c.rotary),
    }


WEIGHTS = (
    weight("model.embed_tokens.weight", "embed.weight"),
    weight("model.layers.{i}.input_layernorm.weight", "blocks.{i}.attention_norm.weight"),
    *linear("model.layers.{i}.self_attn.q_proj", "blocks.{i}.attention.q"),
    *linear("model.layers.{i}.self_attn.k_proj", "blocks.{i}.attention.k"),
    *linear("model.layers.{i}.self_attn.v_proj", "blocks.{i}.attention.v"),
    *linear("model.layers.{i}.self_attn.o_proj", "blocks.{i}.attention.out"),
    weight("model.layers.{i}.post_attention_layernorm.weight", "blocks.{i}.mlp_norm.weight"),
    *linear("model.layers.{i}.mlp.gate_proj", "blocks.{i}.mlp.gate"),
    *linear("model.layers.{i}.mlp.up_proj", "blocks.{i}.mlp.up"),
    *linear("model.layers.{i}.mlp.down_proj", "blocks.{i}.mlp.down"),
    weight("model.norm.weight", "norm.weight"),
    weight("lm_head.weight", "head.weight"),
)

FAMILY = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    model_type="llama",
    read=read,
    write=write,
    weights=WEIGHTS,
    buffers=(".rotary_emb.inv_freq",),
)
