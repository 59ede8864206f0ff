"""Small random models of every family, as Transformers builds them: what our numbers are compared with."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

LLAMA = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GPT = {"vocab_size": 97, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256}
NEO = {"vocab_size": 97, "hidden_size": 64, "num_layers": 4, "num_heads": 4, "max_position_embeddings": 256}


def _rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10_000.0, **more}}


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}

CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", GPT),
    "gpt2-inner": ("gpt2", {**GPT, "n_inner": 96, "activation_function": "gelu", "layer_norm_epsilon": 1e-3}),
    "gpt2-unscaled": ("gpt2", {**GPT, "scale_attn_weights": False, "n_layer": 2}),
    "gpt2-untied": ("gpt2", {**GPT, "tie_word_embeddings": False}),
    "gpt-neo-local": ("gpt_neo", {**NEO, "attention_types": [[["global", "local"], 2]], "window_size": 9}),
    "gpt-neo-global": ("gpt_neo", {**NEO, "attention_types": [[["global"], 4]]}),
    "gpt-neo-mixed": (
        "gpt_neo",
        {**NEO, "attention_types": [[["local"], 3], [["global"], 1]], "window_size": 70, "intermediate_size": 100},
    ),
    "gpt-j": ("gptj", {**GPT, "rotary_dim": 8}),
    "gpt-j-whole-head": ("gptj", {**GPT, "rotary_dim": 16, "n_inner": 80}),
    "gpt-j-tiny-fraction": ("gptj", {**GPT, "rotary_dim": 2, "layer_norm_epsilon": 1e-3}),
    "llama": ("llama", LLAMA),
    "llama-grouped-tied": ("llama", {**LLAMA, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama-biases": ("llama", {**LLAMA, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}),
    "llama-wide-head": ("llama", {**LLAMA, "head_dim": 32, "rms_norm_eps": 1e-3}),
    "llama-linear": ("llama", {**LLAMA, **_rope("linear", factor=2.0)}),
    "llama-dynamic": ("llama", {**LLAMA, **_rope("dynamic", factor=2.0)}),
    "llama-llama3": ("llama", {**LLAMA, **_rope("llama3", **LLAMA3)}),
    "llama-yarn": ("llama", {**LLAMA, **_rope("yarn", **YARN)}),
    "llama-yarn-stated": (
        "llama",
        {**LLAMA, **_rope("yarn", **YARN, beta_fast=16.0, beta_slow=2.0, attention_factor=1.3)},
    ),
    "mistral": ("mistral", {**LLAMA, "num_key_value_heads": 2, "sliding_window": None}),
    "mistral-window": ("mistral", {**LLAMA, "num_key_value_heads": 2, "sliding_window": 24}),
    "mistral-narrow-window": ("mistral", {**LLAMA, "num_key_value_heads": 4, "sliding_window": 1, "head_dim": 24}),
}


def reference(name: str) -> PreTrainedModel:
    """The Transformers model of that configuration: random weights from a seed, float32, eager attention."""
    kind, fields = CONFIGURATIONS[name]
    torch.manual_seed(len(name))
    config = AutoConfig.for_model(kind, **fields)
    config.architectures = None
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # fresh norms and biases are ones and zeros, which would hide a mistake
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model
