"""From a folder or a GGUF file to a model that is ready to run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from torch import Tensor

from fairground.errors import ConfigError, DoesNotFit, UnknownModel, WeightsError
from fairground.models.assemble import SHORT, Names, Precision, assemble, read_fields, stored_precision
from fairground.models.config import DecoderConfig
from fairground.models.decoder import Decoder
from fairground.models.families import family_of
from fairground.models.gguf_file import GGUFFile
from fairground.models.gguf_names import describe
from fairground.models.peft_files import (
    AdapterFolder,
    base_path,
    change_by,
    holds_adapter,
    read_adapter,
    read_adapter_config,
    weights_hash,
)
from fairground.models.rotary import frequencies
from fairground.models.tokenizer import Tokenizer
from fairground.models.weight_file import PickledFile, SafetensorsFile, ShardedFile, WeightFile

BITS: dict[Precision, float] = {"float32": 32, "bfloat16": 16, "int8": 8.1, "int4": 5}
MOST_LAYERS = 10_000
ROOM_TO_WORK = 500_000_000  # bytes beside the weights: the largest tensor as it is read, activations, a short cache


@dataclass(frozen=True, slots=True)
class Loaded:
    """A decoder and where it came from; `precision` is like "int4 from bf16"."""

    decoder: Decoder
    precision: str


@dataclass(frozen=True, slots=True)
class Source:
    """Weights that were found and checked, but not read yet; of an adapter, its base's, and what it adds to them."""

    path: Path
    config: DecoderConfig
    names: Names
    file: WeightFile
    adapter: AdapterFolder | None = None
    change: Callable[[str, Tensor], Tensor] | None = None

    def tokenizer(self) -> Tokenizer:
        """What lies beside the weights, or in the GGUF file itself; an adapter's own, where it has one."""
        if self.adapter and (self.adapter.path / "tokenizer.json").is_file():
            return Tokenizer.from_folder(self.adapter.path)
        return (
            Tokenizer.from_gguf(self.file.metadata)
            if isinstance(self.file, GGUFFile)
            else Tokenizer.from_folder(self.path)
        )

    def load(self, precision: Precision, device: str = "cpu") -> Loaded:
        """Reads the weights. Raises DoesNotFit before the first is read, and WeightsError for a bad one."""
        check_memory(self.config, precision, self.path, device)
        decoder = assemble(self.config, self.names, self.file, self.path, precision, device, self.change)
        stored = stored_precision(self.file)
        short = SHORT[precision]
        return Loaded(decoder, short if stored == short else f"{short} from {stored}")


def open_source(path: Path, *, allow_pickle: bool = False, base: Path | None = None) -> Source:
    """A model folder, a GGUF file or an adapter's folder, its config and headers checked.

    `base`: where an adapter's base lies, if not where its config says. Raises a ModelError that says what is wrong.
    """
    if holds_adapter(path):
        return _adapted(path, base, allow_pickle)
    if path.is_file() and path.suffix == ".gguf":
        gguf = GGUFFile(path)
        with _understood(path):
            config, names = describe(gguf)
            _check_rotary(config)
        return Source(path, config, names, gguf)
    if not path.is_dir():
        raise UnknownModel(f"There is no model folder or .gguf file at {path}; check the path.")
    published = read_config(path)
    family = family_of(published)
    names = Names(family.weights, family.buffers, family.prefix)
    with _understood(path / "config.json"):
        _check_sizes(published)
        config = family.decoder_config(published)
        _check_rotary(config)
    return Source(path, config, names, _weights(path, allow_pickle))


def _adapted(path: Path, base: Path | None, allow_pickle: bool) -> Source:
    adapter = read_adapter_config(path)
    base = base or base_path(adapter)
    if base is None:
        raise UnknownModel(
            f"{path} is an adapter whose base {adapter.base or '(which it does not name)'} is not here; pull it, or "
            f"say where it lies: fairground merge {path} --base MODEL --out FOLDER."
        )
    if holds_adapter(base):
        raise ConfigError(f"{base} is an adapter itself, so it cannot be the base of {path}; merge it first.")
    source = open_source(base, allow_pickle=allow_pickle)
    if adapter.sha256 and weights_hash(base) != adapter.sha256:
        raise ConfigError(
            f"{path} was trained on other weights than those of {base} (their SHA-256 differs), so nothing was loaded; "
            "give the base that it was trained on."
        )
    return replace(source, adapter=adapter, change=change_by(source.config, read_adapter(adapter)))


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """A config is a stranger's text: a value of a kind that nobody expected is an error of the config, not of ours."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"{path} has a value that cannot be understood ({reason[:120]}), so nothing was loaded."
        ) from error


def _check_sizes(published: dict[str, Any]) -> None:
    """Refuses numbers that no model has, before anything is made in such a number."""
    left: list[tuple[str, Any]] = list(published.items())
    while left:
        name, value = left.pop()
        most = MOST_LAYERS if "layer" in name or name == "attention_types" else 2**31
        if isinstance(value, list | dict):
            left += [(name, part) for part in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, int) and value > most:
            shown = value if value < 10**20 else f"a number of {len(str(value))} digits"
            raise ConfigError(f"config.json gives {name} as {shown}, more than any model has; fetch the model again.")


def _check_rotary(config: DecoderConfig) -> None:
    rotary = config.rotary
    if rotary and (rotary.dim > 2**16 or not all(map(math.isfinite, frequencies(rotary).tolist()))):
        raise ConfigError("The config's rotary positions turn by angles that are no numbers, so nothing was loaded.")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json. Raises UnknownModel where there is none or it is not a table."""
    return read_fields(folder / "config.json", "a model folder", "fetch the model again")


def _weights(folder: Path, allow_pickle: bool) -> WeightFile:
    if (folder / "model.safetensors").is_file():
        return SafetensorsFile(folder / "model.safetensors")
    if (folder / "model.safetensors.index.json").is_file():
        return ShardedFile(folder / "model.safetensors.index.json")
    pickled = folder / "pytorch_model.bin"
    if not pickled.is_file():
        raise WeightsError(f"{folder} has a config but no weights (model.safetensors); fetch the model again.")
    if not allow_pickle:
        raise WeightsError(
            f"{pickled} is a pickle, a format that can carry programs; if you trust where it came from, say "
            "--allow-pickle, or fetch the model as safetensors."
        )
    return PickledFile(pickled)


def memory_needed(config: DecoderConfig, precision: Precision) -> int:
    """Bytes that the weights take as they run, estimated from the config alone."""
    vocabulary = config.vocab_size * config.width * (1 if config.tied_head else 2)
    vocabulary_bits = min(BITS[precision], 16) if precision in ("float32", "bfloat16") else 8.1
    if precision == "float32":
        vocabulary_bits = 32
    return int(((config.parameter_count() - vocabulary) * BITS[precision] + vocabulary * vocabulary_bits) / 8)


def memory_sentence(config: DecoderConfig, precision: Precision) -> str:
    """What loading will take, for a person to read beforehand."""
    needed, free = memory_needed(config, precision) + ROOM_TO_WORK, psutil.virtual_memory().available
    return f"needs up to {needed / 1e9:.1f} GB of memory in {precision}; {free / 1e9:.1f} GB are free"


def check_memory(config: DecoderConfig, precision: Precision, path: Path, device: str = "cpu") -> None:
    """Raises DoesNotFit where the machine has too little free memory for the model."""
    if device != "cpu":
        return
    needed, free = memory_needed(config, precision) + ROOM_TO_WORK, psutil.virtual_memory().available
    if needed <= free:
        return
    smaller = [p for p in ("bfloat16", "int8", "int4") if memory_needed(config, p) + ROOM_TO_WORK <= free]
    advice = f"add #{smaller[0]} to its name" if smaller else "free some memory or choose a smaller model"
    raise DoesNotFit(
        f"{path.name} needs {needed / 1e9:.1f} GB of memory in {precision}, and {free / 1e9:.1f} GB are free; {advice}."
    )


def load_with_tokenizer(
    path: Path,
    precision: Precision = "bfloat16",
    device: str = "cpu",
    *,
    allow_pickle: bool = False,
    base: Path | None = None,
) -> tuple[Loaded, Tokenizer]:
    """A folder's or GGUF file's decoder and its tokenizer. Raises a ModelError that says what is wrong."""
    source = open_source(path, allow_pickle=allow_pickle, base=base)
    return source.load(precision, device), source.tokenizer()


def load_folder(path: Path, precision: Precision = "bfloat16", *, allow_pickle: bool = False) -> Loaded:
    """A folder's or GGUF file's decoder alone, without a tokenizer."""
    return open_source(path, allow_pickle=allow_pickle).load(precision)
