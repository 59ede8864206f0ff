"""Models written as GGUF the way llama.cpp's converter writes them give Transformers' logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_models as tiny
import torch
from configurations import LLAMA, reference
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from fairground.errors import ConfigError
from fairground.models.load import Loaded, load_folder
from fairground.models.packed import Packed

pytestmark = pytest.mark.usefixtures("one_thread")
LENGTH = 150
TOKENS = torch.randint(0, 97, (LENGTH,), generator=torch.Generator().manual_seed(2))
Q = gguf.GGMLQuantizationType


def llama_fields(model: PreTrainedModel) -> dict[str, Any]:
    c = model.config
    return {
        "llama.block_count": c.num_hidden_layers,
        "llama.context_length": c.max_position_embeddings,
        "llama.embedding_length": c.hidden_size,
        "llama.feed_forward_length": c.intermediate_size,
        "llama.attention.head_count": c.num_attention_heads,
        "llama.attention.head_count_kv": c.num_key_value_heads,
        "llama.attention.key_length": c.head_dim,
        "llama.attention.value_length": c.head_dim,
        "llama.attention.layer_norm_rms_epsilon": c.rms_norm_eps,
        "llama.rope.dimension_count": c.head_dim,
        "llama.rope.freq_base": c.rope_parameters["rope_theta"],
        "llama.vocab_size": c.vocab_size,
    }


def llama_tensors(model: PreTrainedModel) -> dict[str, np.ndarray]:
    c, tensors = model.config, model.state_dict()
    if c.tie_word_embeddings:
        del tensors["lm_head.weight"]
    return tiny.gguf_tensors(tensors, c.num_attention_heads, c.num_key_value_heads)


def rope_freqs(dim: int, theta: float, factor: float) -> np.ndarray:
    """What llama.cpp's converter writes for LLaMA 3: by how much each frequency is divided."""
    divisors = []
    for frequency in 1.0 / theta ** (np.arange(0, dim, 2) / dim):
        wavelength = 2 * np.pi / frequency
        smooth = (8192 / wavelength - 1) / (4 - 1)
        between = 1 / ((1 - smooth) / factor + smooth)
        divisors.append(1.0 if wavelength < 8192 / 4 else factor if wavelength > 8192 else between)
    return np.array(divisors, np.float32)


@torch.inference_mode()
def same_logits(theirs: PreTrainedModel, ours: Loaded) -> None:
    got = ours.decoder.logits(ours.decoder(TOKENS, Packed.of([LENGTH]), exact=True), exact=True)
    torch.testing.assert_close(got, theirs(TOKENS[None]).logits[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("llama", {}),
        ("llama-grouped-tied", {}),
        ("llama-biases", {}),
        ("llama-wide-head", {}),
        ("llama-linear", {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}),
        (
            "llama-yarn",
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 4.0,
                "llama.rope.scaling.original_context_length": 64,
            },
        ),
        ("mistral-window", {"llama.attention.sliding_window": 24}),
    ],
)
def test_llama(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    theirs = reference(name)
    path = tiny.write_gguf(tmp_path / "a.gguf", llama_fields(theirs) | more, llama_tensors(theirs))
    loaded = load_folder(path, "float32")
    assert loaded.precision == "f32"
    assert loaded.decoder.config.family == name.split("-")[0]
    same_logits(theirs, loaded)


def llama3(factor: float) -> PreTrainedModel:
    """LLaMA 3's scaling over wide enough heads that some frequencies are kept, some blended and some divided."""
    torch.manual_seed(0)
    rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = AutoConfig.for_model("llama", **{**LLAMA, "head_dim": 64, "rope_parameters": rope})
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3_scaling_is_found_again(tmp_path: Path, factor: float) -> None:
    theirs = llama3(factor)
    divisors = rope_freqs(64, 500_000.0, factor)
    assert len({*divisors.tolist()}) > 2
    tensors = {**llama_tensors(theirs), "rope_freqs.weight": divisors}
    loaded = load_folder(tiny.write_gguf(tmp_path / "a.gguf", llama_fields(theirs), tensors), "float32")
    assert loaded.decoder.config.rotary is not None
    scaling = loaded.decoder.config.rotary.scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor, scaling.original_context) == ("llama3", factor, 8192)
    same_logits(theirs, loaded)


@pytest.mark.parametrize(
    "divisors", [np.full(32, 2, "f4"), np.ones(8, "f4"), np.zeros(32, "f4"), np.full(32, np.nan, "f4")]
)
def test_other_divisors_are_refused(tmp_path: Path, divisors: np.ndarray) -> None:
    theirs = llama3(8.0)
    tensors = {**llama_tensors(theirs), "rope_freqs.weight": divisors}
    path = tiny.write_gguf(tmp_path / "a.gguf", llama_fields(theirs), tensors)
    with pytest.raises(ConfigError, match="rope_freqs"):
        load_folder(path)


GPT2_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "transformer.h.": "blk.",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "lm_head": "output",
}


@pytest.mark.parametrize("name", ["gpt2", "gpt2-untied"])
def test_gpt2(tmp_path: Path, name: str) -> None:
    theirs = reference(name)
    tensors = {}
    for key, tensor in theirs.state_dict().items():
        if key == "lm_head.weight" and name == "gpt2":
            continue
        conv = any(part in key for part in ("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        for published, ggufs in GPT2_NAMES.items():
            key = key.replace(published, ggufs)
        tensors[key] = (tensor.t() if conv else tensor).numpy()
    c = theirs.config
    fields = {
        "gpt2.block_count": c.n_layer,
        "gpt2.context_length": c.n_positions,
        "gpt2.embedding_length": c.n_embd,
        "gpt2.feed_forward_length": 4 * c.n_embd,
        "gpt2.attention.head_count": c.n_head,
        "gpt2.attention.layer_norm_epsilon": c.layer_norm_epsilon,
    }
    path = tiny.write_gguf(tmp_path / "a.gguf", fields, tensors, architecture="gpt2")
    same_logits(theirs, load_folder(path, "float32"))


@pytest.mark.parametrize("kind", [Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q8_0, Q.F16, Q.BF16])
def test_quantised_files(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    """Transformers is given the numbers that the gguf package reads from the file."""
    theirs = reference("llama-grouped-tied")
    tensors = llama_tensors(theirs)
    wide = {name: values for name, values in tensors.items() if values.ndim == 2 and values.shape[1] % 32 == 0}
    packed = {name: gguf.quants.quantize(values, kind) for name, values in wide.items()}
    path = tiny.write_gguf(tmp_path / "a.gguf", llama_fields(theirs), tensors | packed, dict.fromkeys(packed, kind))
    loaded = load_folder(path, "float32")
    assert loaded.precision == f"f32 from {kind.name if kind.name.startswith('Q') else kind.name.lower()}"
    with torch.no_grad():
        for name, tensor in theirs.state_dict().items():
            ((renamed, plain),) = tiny.gguf_tensors({name: tensor}, 1, 1).items()
            if renamed in packed and not name.startswith("lm_head"):
                heads = 4 if "q_proj" in name else 2 if "k_proj" in name else 0
                rounded = gguf.quants.dequantize(packed[renamed], kind)
                if heads:  # back from paired rows
                    rounded = rounded.reshape(heads, -1, 2, plain.shape[1]).swapaxes(1, 2).reshape(plain.shape)
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(rounded)))
    same_logits(theirs, loaded)
