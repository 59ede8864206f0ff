"""GPT-J (Wang and Komatsuzaki, 2021): attention and MLP side by side from one norm, interleaved rotary, a head bias."""

from __future__ import annotations

from typing import Any

from fairground.models.config import DecoderConfig, Rotary
from fairground.models.families.family import ACTIVATIONS, PUBLISHED_ACTIVATIONS, Family, Fields, linear, weight


def read(fields: Fields) -> DecoderConfig:
    width, heads, layers = fields.whole("n_embd", 4096), fields.whole("n_head", 16), fields.whole("n_layer", 28)
    fields.must_be("rotary", True)
    fields.must_be("scale_attn_weights", True)
    context = fields.whole("n_positions", 2048)
    fields.must_be("n_ctx", context)
    return DecoderConfig(
        family="gpt-j",
        vocab_size=fields.whole("vocab_size", 50400),
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
        parallel=True,
        rotary=Rotary(dim=fields.whole("rotary_dim", 64), interleaved=True),
        attention_scale=(width // heads) ** -0.5,
        windows=(None,) * layers,
        qkv_bias=False,
        attention_out_bias=False,
        mlp_bias=True,
        head_bias=True,
        tied_head=fields.flag("tie_word_embeddings", False),
    )


def write(c: DecoderConfig) -> dict[str, Any]:
    assert c.rotary is not None
    return {
        "vocab_size": c.vocab_size,
        "n_embd": c.width,
        "n_head": c.heads,
        "n_layer": c.layers,
        "n_positions": c.context_length,
        "n_inner": c.mlp_width,
        "rotary_dim": c.rotary.dim,
        "layer_norm_epsilon": c.norm_eps,
        "activation_function": PUBLISHED_ACTIVATIONS[c.activation],
        "tie_word_embeddings": c.tied_head,
    }


FAMILY = Family(
    name="gpt-j",
    architecture="GPTJForCausalLM",
    model_type="gptj",
    read=read,
    write=write,
    weights=(
        weight("transformer.wte.weight", "embed.weight"),
        *linear("transformer.h.{i}.ln_1", "blocks.{i}.attention_norm"),
        *linear("transformer.h.{i}.attn.q_proj", "blocks.{i}.attention.q"),
        *linear("transformer.h.{i}.attn.k_proj", "blocks.{i}.attention.k"),
        *linear("transformer.h.{i}.attn.v_proj", "blocks.{i}.attention.v"),
        *linear("transformer.h.{i}.attn.out_proj", "blocks.{i}.attention.out"),
        *linear("transformer.h.{i}.mlp.fc_in", "blocks.{i}.mlp.up"),
        *linear("transformer.h.{i}.mlp.fc_out", "blocks.{i}.mlp.down"),
        *linear("transformer.ln_f", "norm"),
        *linear("lm_head", "head"),
    ),
    buffers=(".attn.bias", ".attn.masked_bias", ".attn.embed_positions"),
    prefix="transformer.",
)
