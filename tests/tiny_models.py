"""A LLaMA with random weights that is small enough to be written, damaged and loaded in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, decoders, models, pre_tokenizers

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
TOKENS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "<s>", "</s>"]  # one a byte, one merged, two special
BOS, EOS = 257, 258
WIDTH, HEADS, LAYERS, MLP, ROWS, CONTEXT = 32, 2, 2, 48, 272, 64  # 13 rows of the embedding stand for no token

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": ROWS,
    "hidden_size": WIDTH,
    "intermediate_size": MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "torch_dtype": "bfloat16",
}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The published tensors of a LLaMA with as many heads for keys and values as for queries, and a head of its own."""
    width, mlp, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, width), "lm_head.weight": (rows, width)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        found |= {f"{layer}.self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        found |= {f"{layer}.mlp.{name}_proj.weight": (mlp, width) for name in ("gate", "up")}
        found[f"{layer}.mlp.down_proj.weight"] = (width, mlp)
        found |= {f"{layer}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    return {**found, "model.norm.weight": (width,)}


def weights(rows: int = ROWS, **fields: Any) -> dict[str, torch.Tensor]:
    """Random tensors for `CONFIG` with these changes, in bfloat16."""
    generator = torch.Generator().manual_seed(3)
    wanted = shapes(CONFIG | {"vocab_size": rows} | fields)
    return {name: torch.randn(shape, generator=generator).mul_(0.3).bfloat16() for name, shape in wanted.items()}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def write_tokenizer(folder: Path, template: str | None = TEMPLATE) -> None:
    machine = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(TOKENS[:BOS])}, [("a", "b")]))
    machine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    machine.decoder = decoders.ByteLevel()
    machine.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    machine.save(str(folder / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    write_json(folder / "tokenizer_config.json", fields | ({"chat_template": template} if template else {}))


def write_folder(
    folder: Path,
    changes: Mapping[str, Any] | None = None,
    tensors: Mapping[str, torch.Tensor] | None = None,
    template: str | None = TEMPLATE,
) -> Path:
    """A Hugging Face folder; `changes` to its config (None removes a field)."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {k: v for k, v in (CONFIG | dict(changes or {})).items() if v is not None}
    write_json(folder / "config.json", fields)
    save_file(dict(tensors if tensors is not None else weights()), folder / "model.safetensors")
    write_tokenizer(folder, template)
    return folder


def write_safetensors(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> None:
    """A safetensors file of exactly these parts, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def pair_rows(rows: np.ndarray, heads: int) -> np.ndarray:
    """How llama.cpp's converter reorders query and key rows: rotated pairs side by side."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "lm_head": "output",
    "model.norm": "output_norm",
    "model.layers.": "blk.",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_tensors(tensors: Mapping[str, torch.Tensor], heads: int, kv_heads: int) -> dict[str, np.ndarray]:
    """A published LLaMA's tensors under GGUF's names, in float32, query and key rows paired."""
    renamed = {}
    for name, tensor in tensors.items():
        values = tensor.detach().float().numpy()
        if "q_proj" in name or "k_proj" in name:
            values = pair_rows(values, heads if "q_proj" in name else kv_heads)
        for theirs, ggufs in GGUF_NAMES.items():
            name = name.replace(theirs, ggufs)
        renamed[name] = values
    return renamed


GGUF_FIELDS: dict[str, Any] = {
    "llama.block_count": LAYERS,
    "llama.context_length": CONTEXT,
    "llama.embedding_length": WIDTH,
    "llama.feed_forward_length": MLP,
    "llama.attention.head_count": HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [1] * BOS + [3, 3],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.bos_token_id": BOS,
    "tokenizer.ggml.eos_token_id": EOS,
    "tokenizer.chat_template": TEMPLATE,
}


def write_gguf(
    path: Path,
    fields: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    kinds: Mapping[str, gguf.GGMLQuantizationType] | None = None,
    architecture: str = "llama",
) -> Path:
    """A GGUF file; None leaves a field out; `kinds` says what a tensor of raw bytes holds."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in fields.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif value is not None:
            writer.add_string(name, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor), raw_dtype=(kinds or {}).get(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tiny_gguf(path: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """The same model as `write_folder`'s; `changes` to its fields (None removes one)."""
    return write_gguf(path, GGUF_FIELDS | dict(changes or {}), gguf_tensors(weights(), HEADS, HEADS))
