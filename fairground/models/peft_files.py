"""Adapter folders as `peft` lays them out: adapter_config.json and adapter_model.safetensors.

An adapter's tensors have the names of the layers that they belong to, as the family publishes them. Ours also says what
its base was: by name, and by the hash of its weight files, which `peft` does not ask for.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fairground.errors import ConfigError, UnknownModel, WeightsError
from fairground.models.assemble import read_fields, sync, write_json
from fairground.models.config import DecoderConfig
from fairground.models.families import family_named
from fairground.models.lora import Adapter, LoraConfig, check, layers, named, targeted
from fairground.models.weight_file import SafetensorsFile, check_finite

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
PATTERN = re.compile(r"\^?[\w.-]+")
# What would make an adapter something other than B A added to some linear layers, and the value that means it does not.
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "use_qalora": (False, None),
    "use_bdlora": (None, False),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, [], {}),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    "velora_config": (None,),
    # Others change the base's weights when they begin.
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva", "mica"),
}


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """What an adapter's config says: `base` is its base's name, `sha256` that of the base's weights (None: not said).

    `fields` is the config itself.
    """

    path: Path
    base: str | None
    sha256: str | None
    fields: Mapping[str, Any]


def holds_adapter(path: Path) -> bool:
    """Whether it is an adapter's folder."""
    return (path / CONFIG).is_file()


def read_adapter_config(path: Path) -> AdapterFolder:
    """An adapter's config. Raises UnknownModel where there is none, and ConfigError for one that we do not do."""
    file = path / CONFIG
    fields = read_fields(file, "an adapter's folder", "make or fetch the adapter again")
    for name, plain in PLAIN.items():
        value = fields.get(name, plain[0] if name != "peft_type" else None)
        if value not in plain:
            raise ConfigError(
                f"{file} gives {name} as {value!r}; Fairground knows plain LoRA only, where it is {plain[0]!r}, so "
                "nothing was loaded."
            )
    base, sha256 = fields.get("base_model_name_or_path"), fields.get("base_model_sha256")
    for name, value in (("base_model_name_or_path", base), ("base_model_sha256", sha256)):
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{file} gives {name} as {value!r}, but it must be a text; correct it.")
    return AdapterFolder(path, base or None, sha256 or None, fields)


def base_path(adapter: AdapterFolder) -> Path | None:
    """Where an adapter's base lies, if its name is a path: as it is, or from the adapter's folder; else None."""
    if not adapter.base:
        return None
    named = Path(adapter.base).expanduser()
    for place in (named, adapter.path / named):
        if (place / "config.json").is_file() or (place.suffix == ".gguf" and place.is_file()) or holds_adapter(place):
            return place
    return None


def read_adapter(folder: AdapterFolder) -> dict[str, Adapter]:
    """The adapters by the published names of their layers, in float32.

    Raises WeightsError for a tensor that is missing, left over, misshapen or not finite, and ConfigError for a factor
    that is none.
    """
    path = folder.path / WEIGHTS
    if not path.is_file():
        raise WeightsError(f"{folder.path} has a config but no {WEIGHTS}; make or fetch the adapter again.")
    file = SafetensorsFile(path)
    halves: dict[str, dict[str, Tensor]] = {}
    for name in file.tensors:
        found = KEY.fullmatch(name)
        if found is None:
            raise WeightsError(f"{path} holds {name!r}, which is no part of a plain LoRA adapter; nothing was loaded.")
        tensor = file.read(name)
        check_finite(tensor, name, path)
        halves.setdefault(found["layer"], {})[found["side"]] = tensor.float()
    if not halves:
        raise WeightsError(f"{path} holds no tensors; make or fetch the adapter again.")
    adapters = {}
    for layer, sides in halves.items():
        if len(sides) < 2:
            there = next(iter(sides))
            raise WeightsError(f"{path} has only lora_{there} of {layer!r}; make or fetch the adapter again.")
        a, b = sides["A"], sides["B"]
        rank = _of_layer(folder, layer, "rank_pattern", "r", 8)
        if a.dim() != 2 or b.dim() != 2 or not a.shape[0] == b.shape[1] == rank:
            raise WeightsError(
                f"{path} holds A {list(a.shape)} and B {list(b.shape)} for {layer!r}, but its config calls for "
                f"the rank {rank:g}; config and weights are not of the same adapter."
            )
        alpha = _of_layer(folder, layer, "alpha_pattern", "lora_alpha", 8)
        scale = alpha / math.sqrt(rank) if folder.fields.get("use_rslora") else alpha / rank
        adapters[layer] = Adapter(a, b, scale)
    return adapters


def _of_layer(folder: AdapterFolder, layer: str, pattern: str, name: str, default: float) -> float:
    """The rank or alpha of a layer: of the first pattern that ends its name (with ^: is its name), or of all layers."""
    value = folder.fields.get(name, default)
    patterns = folder.fields.get(pattern) or {}
    if not isinstance(patterns, dict) or not all(PATTERN.fullmatch(key) for key in patterns):
        raise ConfigError(
            f"{folder.path / CONFIG} gives a {pattern} that is more than names of layers, which Fairground does not "
            "read; nothing was loaded."
        )
    for key, own in patterns.items():
        if layer == key.removeprefix("^") or (named(layer, key) and key[0] != "^"):
            value = own
            break
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigError(f"{folder.path / CONFIG} gives {name} as {value!r}, but it must be a number above 0.")
    return float(value)


def change_by(config: DecoderConfig, adapters: Mapping[str, Adapter]) -> Callable[[str, Tensor], Tensor]:
    """What gives one of our decoder's weights, by our name, as it is with the adapters merged: summed in float32.

    Raises ConfigError for adapters of another family or other shapes.
    """
    check(config, adapters)
    found: dict[str, Adapter] = {}
    for layer in layers(config):
        if layer.published in adapters:
            whole = adapters[layer.published]
            for name, b in zip(layer.ours, torch.split(whole.b, list(layer.rows)), strict=True):
                found[f"{name}.weight"] = Adapter(whole.a, b, whole.scale)
    return lambda name, weight: weight.float() + found[name].delta() if name in found else weight


def save_adapter(
    folder: Path,
    config: DecoderConfig,
    lora: LoraConfig,
    adapters: Mapping[str, Adapter],
    *,
    base: str,
    sha256: str,
) -> None:
    """Writes an adapter's folder, which `peft` loads; the config comes last, so a folder that has one is whole.

    `adapters` by their layers' published names; `base` and `sha256` say what they belong to. Tensors are float32.
    """
    tensors = {}
    for name, adapter in adapters.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = adapter.a.detach().float().cpu().contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = adapter.b.detach().float().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{WEIGHTS}.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    sync(partial)
    (folder / CONFIG).unlink(missing_ok=True)
    partial.replace(folder / WEIGHTS)
    chosen = targeted(config, lora.targets)
    ends = sorted({layer.published.rpartition(".")[2] for layer in chosen})
    if len(chosen) != len([x for x in layers(config) if x.published.rpartition(".")[2] in ends]):
        ends = sorted(lora.targets)  # GPT-2 calls two layers c_proj, of which only one was wanted
    write_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "base_model_sha256": sha256,
            "r": lora.rank,
            "lora_alpha": int(alpha) if (alpha := lora.scaled_by).is_integer() else alpha,
            "lora_dropout": lora.dropout,
            "target_modules": ends,
            "fan_in_fan_out": transposed(config),
            "bias": "none",
            "inference_mode": True,
        },
    )


def transposed(config: DecoderConfig) -> bool:
    """Whether the family publishes its layers as [in, out], which `peft` wants to be told."""
    return any(row.transposed for row in family_named(config.family).weights)


def weights_hash(path: Path) -> str:
    """The SHA-256 of a model's weights: of the GGUF file, or of a folder's weight files one after another, by name.

    Raises UnknownModel where there are none.
    """
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if re.fullmatch(r"model.*\.safetensors|pytorch_model\.bin", f.name))
    digest = hashlib.sha256()
    try:
        for file in files:
            with file.open("rb") as opened:
                while piece := opened.read(1 << 20):
                    digest.update(piece)
    except OSError as error:
        raise UnknownModel(f"{path} cannot be read ({error.strerror}); check the path.") from None
    if not files:
        raise UnknownModel(f"There are no weights in {path}; check the path.")
    return digest.hexdigest()
