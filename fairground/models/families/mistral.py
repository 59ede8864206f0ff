"""Mistral (Jiang et al., 2023): LLaMA's block with attention that may slide over a window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fairground.models.config import DecoderConfig
from fairground.models.families import llama
from fairground.models.families.family import Family, Fields


def read(fields: Fields) -> DecoderConfig:
    config = llama.read(fields, "mistral")
    window = fields.whole("sliding_window") if fields.get("sliding_window") is not None else None
    fields.must_be("attention_bias", False)
    fields.must_be("mlp_bias", False)
    return replace(config, windows=(window,) * config.layers)


def write(c: DecoderConfig) -> dict[str, Any]:
    fields = llama.write(c)
    del fields["attention_bias"], fields["mlp_bias"]
    return {**fields, "sliding_window": c.windows[0]}


FAMILY = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    model_type="mistral",
    read=read,
    write=write,
    weights=llama.WEIGHTS,
    buffers=(".rotary_emb.inv_freq",),
)
