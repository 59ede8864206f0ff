"""Adapter folders both ways: peft loads ours, ours loads peft's, with equal logits; what is not ours is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import FAMILIES, base_folder, with_peft
from configurations import reference
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_models import WIDTH, write_folder, write_tiny_gguf, write_tokenizer
from transformers import AutoModelForCausalLM

from fairground.errors import ConfigError, ModelError, UnknownModel, WeightsError
from fairground.models.decoder import Decoder
from fairground.models.load import load_folder, open_source
from fairground.models.lora import Adapter, LoraConfig, adapters_of, add_lora, attach, layers, merge, without_adapters
from fairground.models.merging import write_merged
from fairground.models.packed import Packed
from fairground.models.peft_files import read_adapter, read_adapter_config, save_adapter, weights_hash

IDS = torch.randint(0, 97, (50,), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits(decoder: Decoder) -> torch.Tensor:
    return decoder.logits(decoder.eval()(IDS, Packed.of([len(IDS)])))


@torch.no_grad()
def theirs(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(IDS[None]).logits[0]
    return found


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def made(decoder: Decoder, folder: Path, base: Path, targets: tuple[str, ...] = ("all-linear",)) -> LoraConfig:
    """An adapter of ours with random weights, written to the folder."""
    lora = LoraConfig(rank=4, alpha=6.0, targets=targets)
    add_lora(decoder, lora)
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for adapter in adapters_of(decoder).values():
            adapter.b.normal_(0, 0.1, generator=random)
    own = adapters_of(decoder)
    save_adapter(folder, decoder.config, lora, own, base=str(base), sha256=weights_hash(base))
    return lora


@pytest.mark.parametrize("some", [False, True], ids=["all", "some"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_peft_loads_ours(name: str, some: bool, tmp_path: Path) -> None:
    base = base_folder(name, tmp_path / "base")
    decoder = load_folder(base, "float32").decoder
    before = logits(decoder)
    made(decoder, tmp_path / "adapter", base, tuple(FAMILIES[name]) if some else ("all-linear",))
    model = PeftModel.from_pretrained(reference(name), str(tmp_path / "adapter")).eval()
    ours = logits(decoder)
    assert float((ours - before).abs().max()) > 0.05, "the adapter does something"
    same(ours, theirs(model))
    with without_adapters(decoder):
        same(logits(decoder), before)
    loaded = {key for key, _ in model.named_modules() if key.endswith(".lora_A")}
    assert len(loaded) == len(adapters_of(decoder))


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_rslora": True, "rank_pattern": {"c_attn": 2, "v_proj": 2}, "alpha_pattern": {"c_attn": 9, "v_proj": 9}}],
    ids=["plain", "patterns"],
)
@pytest.mark.parametrize("name", list(FAMILIES))
def test_ours_loads_pefts(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model = with_peft(name, **settings)
    model.save_pretrained(str(tmp_path / "adapter"))
    base = base_folder(name, tmp_path / "base")
    merged = open_source(tmp_path / "adapter", base=base).load("float32").decoder
    same(logits(merged), theirs(model))
    beside = load_folder(base, "float32").decoder
    attach(beside, read_adapter(read_adapter_config(tmp_path / "adapter")))
    same(logits(beside), theirs(model))
    merge(beside)
    assert not adapters_of(beside)
    same(logits(beside), logits(merged))


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_merged_folder_loads_in_transformers(name: str, tmp_path: Path) -> None:
    base = base_folder(name, tmp_path / "base")
    write_tokenizer(base)
    decoder = load_folder(base, "float32").decoder
    made(decoder, tmp_path / "adapter", base)
    write_merged(tmp_path / "adapter", tmp_path / "merged", precision="float32")
    same(theirs(AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()), logits(decoder))
    with pytest.raises(ConfigError, match="merged is there already"):
        write_merged(tmp_path / "adapter", tmp_path / "merged")
    with pytest.raises(ConfigError, match="no adapter"):
        write_merged(tmp_path / "merged", tmp_path / "again")


def test_a_gguf_file_is_a_base_too(tmp_path: Path) -> None:
    """Its rows of queries and keys lie in another order, and it is the same model."""
    folder, gguf = write_folder(tmp_path / "folder"), write_tiny_gguf(tmp_path / "tiny.gguf")
    made(load_folder(folder, "float32").decoder, tmp_path / "adapter", folder)
    expected = load_folder(tmp_path / "adapter", "float32").decoder
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    del config["base_model_sha256"]
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "x"}))
    found = open_source(tmp_path / "adapter", base=gguf).load("float32").decoder
    for name, weight in found.named_parameters():
        torch.testing.assert_close(weight, dict(expected.named_parameters())[name], atol=1e-5, rtol=0)
    assert open_source(tmp_path / "adapter", base=gguf).load("int8").precision == "int8 from f32"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    base = write_folder(tmp_path / "base")
    made(load_folder(base, "float32").decoder, tmp_path / "adapter", base)
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("modules_to_save", ["lm_head"]),
        ("init_lora_weights", "pissa"),
        ("peft_type", "IA3"),
        ("layer_replication", [[0, 2]]),
        ("r", 0),
        ("lora_alpha", "much"),
        ("rank_pattern", {"(a+)+": 4}),
        ("base_model_name_or_path", 5),
    ],
)
def test_what_is_not_plain_lora_is_refused(adapter: Path, field: str, value: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ConfigError, match=field):
        load_folder(adapter)


@pytest.mark.parametrize("text", ["[]", "{", "nothing", '{"r": 4}'])
def test_a_config_that_is_none_is_refused(adapter: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match="adapter_config"):
        load_folder(adapter)


def test_weights_that_do_not_fit_are_refused(adapter: Path, tmp_path: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    good = load_file(path)
    first = min(name for name in good if "lora_A" in name)

    def refused(tensors: dict[str, torch.Tensor], kind: type[Exception], *named: str) -> None:
        save_file(tensors, path)
        with pytest.raises(kind) as raised:
            load_folder(adapter)
        assert all(part in str(raised.value) for part in named), str(raised.value)

    refused({n: t for n, t in good.items() if n != first}, WeightsError, "only lora_B")
    refused(good | {"base_model.model.lm_head.weight": torch.ones(2)}, WeightsError, "lm_head")
    refused(good | {first: torch.full_like(good[first], float("nan"))}, WeightsError, "NaN")
    refused(good | {first: torch.ones(3, WIDTH)}, WeightsError, "rank 4")
    refused(good | {first: torch.ones(4, WIDTH + 8)}, ConfigError, "down_proj", "another model")
    other = {name.replace("model.layers.1", "model.layers.7"): tensor for name, tensor in good.items()}
    refused(other, ConfigError, "model.layers.7", "another model")
    refused({}, WeightsError, "no tensors")
    path.unlink()
    with pytest.raises(WeightsError, match="adapter_model"):
        load_folder(adapter)


def test_another_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, tmp_path / "base" / "model.safetensors")
    with pytest.raises(ConfigError, match="SHA-256"):
        load_folder(adapter)
    (tmp_path / "base" / "config.json").unlink()
    with pytest.raises(UnknownModel, match="is not here"):
        load_folder(adapter)
    with pytest.raises(ConfigError, match="an adapter itself"):
        open_source(adapter, base=adapter)


def test_a_target_that_names_no_layer_is_refused(tmp_path: Path) -> None:
    decoder = load_folder(write_folder(tmp_path), "float32").decoder
    with pytest.raises(ConfigError, match="c_attn"):
        add_lora(decoder, LoraConfig(4, targets=("q_proj", "c_attn")))
    with pytest.raises(ConfigError, match="lm_head"):
        add_lora(decoder, LoraConfig(4, targets=("lm_head",)))
    add_lora(decoder, LoraConfig(4))
    with pytest.raises(ConfigError, match="merge"):
        add_lora(decoder, LoraConfig(4))
    with pytest.raises(ConfigError, match="quantised"):
        add_lora(load_folder(tmp_path, "int8").decoder, LoraConfig(4))


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"rank": 1.5}, {"alpha": 0}, {"targets": ()}, {"dropout": 1.0}])
def test_settings_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LoraConfig(**({"rank": 4} | wrong))


def test_an_adapter_knows_the_layers_of_its_family(tmp_path: Path) -> None:
    decoder = load_folder(base_folder("gpt2", tmp_path), "float32").decoder
    (fused, *_) = layers(decoder.config)
    assert fused.published == "transformer.h.0.attn.c_attn"
    assert fused.shape == (192, 64)
    with pytest.raises(ConfigError, match="another model"):
        attach(decoder, {"model.layers.0.self_attn.q_proj": Adapter(torch.ones(2, 64), torch.ones(64, 2), 1.0)})
