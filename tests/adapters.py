"""Adapters of small random models as `peft` makes them: what ours are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from configurations import reference
from peft import LoraConfig, PeftModel, get_peft_model

# A configuration of every family, and layers of it of which some share a product with others that have no adapter.
FAMILIES = {
    "gpt2": ["c_attn", "mlp.c_proj"],
    "gpt-neo-local": ["q_proj", "c_fc"],
    "gpt-j": ["k_proj", "v_proj", "fc_out"],
    "llama": ["q_proj", "v_proj", "up_proj"],
    "mistral-window": ["v_proj", "o_proj", "gate_proj"],
}


def base_folder(name: str, folder: Path) -> Path:
    """The Transformers model of that configuration in a folder."""
    reference(name).save_pretrained(folder)
    return folder


def with_peft(name: str, **settings: Any) -> PeftModel:
    """That model with peft's LoRA, every A and B random, so that none stands for nothing."""
    given = {"task_type": "CAUSAL_LM", "target_modules": "all-linear", "r": 4, "lora_alpha": 6, **settings}
    model = get_peft_model(reference(name), LoraConfig(**given))
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    return model.eval()  # GPT-2's own dropout is off
