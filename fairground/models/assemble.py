"""From a weight file to a decoder, tensor by tensor, and back: both directions read the family's one table of names."""

from __future__ import annotations

import ctypes
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fairground.errors import ConfigError, UnknownModel, WeightsError
from fairground.models.config import DecoderConfig
from fairground.models.decoder import Decoder
from fairground.models.families import family_named
from fairground.models.families.family import Weight, expand
from fairground.models.quantised import QuantisedEmbedding, QuantisedLinear
from fairground.models.weight_file import WeightFile, check_finite

Precision = Literal["float32", "bfloat16", "int8", "int4"]
SHORT: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "int8", "int4": "int4"}
TRIM_BYTES = 16_000_000
SHARD_BYTES = 4_000_000_000
WEIGHT_FILE = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


@dataclass(frozen=True, slots=True)
class Names:
    """How one kind of file names a decoder's weights."""

    weights: tuple[Weight, ...]
    buffers: tuple[str, ...] = ()
    prefix: str = ""


def assemble(
    config: DecoderConfig,
    names: Names,
    file: WeightFile,
    path: Path,
    precision: Precision,
    device: str = "cpu",
    change: Callable[[str, Tensor], Tensor] | None = None,
) -> Decoder:
    """A decoder with the file's weights, in evaluation mode; `change` gives each as it is to be, by our name.

    Every tensor is read, converted and let go before the next, so peak memory is the weights as they run plus the
    largest tensor. Raises WeightsError for a weight that is missing, left over, misshapen or not finite.
    """
    if config.layers > len(file.tensors):  # before so many layers are made
        raise WeightsError(
            f"{path} holds {len(file.tensors)} tensors, too few for the {config.layers} layers that its config calls "
            "for; fetch it again."
        )
    with torch.device("meta"):
        decoder = Decoder(config)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    wanted = {name: parameter.shape for name, parameter in decoder.named_parameters()}
    left = {name for name in file.tensors if not name.endswith(names.buffers or ("\0",))}
    if config.tied_head:
        wanted["head.weight"] = wanted["embed.weight"]
    unreturned = 0  # bytes
    for row in expand(names.weights, config.layers):
        ours = [name for name in row.ours if name in wanted]
        if not ours:
            continue
        published = row.published
        if published not in file.tensors and names.prefix:
            published = published.removeprefix(names.prefix)
        if published not in file.tensors:
            if config.tied_head and ours == ["head.weight"]:
                del wanted["head.weight"]
                continue
            raise WeightsError(
                f"{path} lacks the weight {row.published!r}, which its config calls for; fetch it again."
            )
        left.discard(published)
        shapes = [wanted.pop(name) for name in ours]
        expected = [sum(shape[0] for shape in shapes), *shapes[0][1:]]
        expected = expected[::-1] if row.transposed else expected
        if list(file.tensors[published].shape) != expected:
            raise WeightsError(
                f"{path} holds {published!r} with the shape {list(file.tensors[published].shape)}, but its config "
                f"calls for {expected}; config and weights are not of the same model."
            )
        tensor = file.read(published)
        check_finite(tensor, published, path)
        tensor = tensor.t() if row.transposed else tensor
        for name, part in zip(ours, torch.split(tensor, [shape[0] for shape in shapes]), strict=True):
            if row.paired:
                part = _unpair(part, part.shape[0] // config.head_dim)
            if config.tied_head and name == "head.weight":
                if not torch.equal(part.to(dtype), decoder.embed.weight.cpu()):
                    raise WeightsError(
                        f"{path} holds a head {published!r} that differs from the embedding, but its config says "
                        "that they are tied; config and weights are not of the same model."
                    )
                continue
            part = change(name, part) if change else part
            _place(decoder, name, part.to(dtype=dtype, device=device, copy=False).contiguous())
        _quantise_finished(decoder, ours, precision)
        unreturned += tensor.nbytes
        if unreturned > TRIM_BYTES:
            unreturned = 0
            _return_freed_memory()
    if wanted:
        raise WeightsError(f"{path} gives nothing for {min(wanted)!r}; its kind of file has no name for that weight.")
    if left:
        raise WeightsError(
            f"{path} holds {min(left)!r}, which a {config.family} model does not have; config and weights are not of "
            "the same model, so nothing was loaded."
        )
    if config.tied_head and isinstance(decoder.head, nn.Linear):
        decoder.head.weight = decoder.embed.weight
    if precision in ("int8", "int4"):
        _quantise_vocabulary(decoder)
    _return_freed_memory()
    return decoder.eval()


def _return_freed_memory() -> None:
    """Has glibc give back what it keeps of freed tensors; between packed weights it kept five times their size."""
    with suppress(AttributeError, OSError, TypeError):  # on another system, which has no such call
        ctypes.CDLL(None).malloc_trim(0)


def _unpair(rows: Tensor, heads: int) -> Tensor:
    """Rows of each head from (0, h), (1, h + 1), … pairs to all firsts, then all seconds."""
    return rows.view(heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _owner(decoder: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return decoder.get_submodule(path), leaf


def _place(decoder: Decoder, name: str, tensor: Tensor) -> None:
    owner, leaf = _owner(decoder, name)
    owner._parameters[leaf] = nn.Parameter(tensor)


def _quantise_finished(decoder: Decoder, ours: list[str], precision: Precision) -> None:
    """Replaces a block's linear by its packed form once weight and bias are there, so that memory never holds both."""
    if precision not in ("int8", "int4"):
        return
    for name in ours:
        path = name.rpartition(".")[0]
        module = decoder.get_submodule(path)
        if not path.startswith("blocks.") or not isinstance(module, nn.Linear):
            continue
        if module.weight.is_meta or (module.bias is not None and module.bias.is_meta):
            continue
        parent, leaf = _owner(decoder, path)
        bias = None if module.bias is None else module.bias.detach()
        setattr(parent, leaf, QuantisedLinear.fit(module.weight, 4 if precision == "int4" else 8, bias))


def _quantise_vocabulary(decoder: Decoder) -> None:
    """Embedding and head take int8 in either precision: at 4 bits they cost more quality than they save memory."""
    assert isinstance(decoder.head, nn.Linear)
    bias = None if decoder.head.bias is None else decoder.head.bias.detach()
    embedding = QuantisedLinear.fit(decoder.embed.weight, 8)
    tied = decoder.config.tied_head
    decoder.head = (
        QuantisedLinear(8, embedding.out, embedding.packed, embedding.scales, bias)
        if tied
        else (QuantisedLinear.fit(decoder.head.weight, 8, bias))
    )
    decoder.embed = QuantisedEmbedding(embedding)  # type: ignore[assignment]


def stored_precision(file: WeightFile) -> str:
    """The precision that most of a file's numbers are kept in: "bf16", "Q4_1", …"""
    counts: Counter[str] = Counter()
    for stored in file.tensors.values():
        counts[stored.precision] += stored.count
    return counts.most_common(1)[0][0] if counts else "nothing"


def memory_bytes(decoder: nn.Module) -> int:
    """Bytes that a decoder's weights take as they run."""
    tensors = {id(t): t.numel() * t.element_size() for t in (*decoder.parameters(), *decoder.buffers())}
    return sum(tensors.values())


def published_weights(decoder: Decoder) -> Iterator[tuple[str, Tensor]]:
    """A decoder's weights under the names and in the layout that its family publishes."""
    family, ours = family_named(decoder.config.family), dict(decoder.named_parameters())
    for row in expand(family.weights, decoder.config.layers):
        parts = [ours[name].detach() for name in row.ours if name in ours]
        if parts:
            whole = torch.cat(parts) if len(parts) > 1 else parts[0]
            yield row.published, (whole.t() if row.transposed else whole).contiguous()


def save(decoder: Decoder, folder: Path, *, tokens: dict[str, Any] | None = None) -> None:
    """Writes config.json and safetensors as Hugging Face lays them out, which Transformers loads.

    `tokens`: bos_token_id and the like for the config. Files are written under temporary names, synced and renamed; the
    config comes last, and an older one goes first, so a folder with a config is whole. Weight files of an older model
    are removed. Raises ConfigError for a quantised model.
    """
    if any(isinstance(module, QuantisedLinear) for module in decoder.modules()):
        raise ConfigError(
            "A quantised model cannot be saved as a Hugging Face folder; load it in bfloat16 and save that."
        )
    family = family_named(decoder.config.family)
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    room = SHARD_BYTES
    for name, tensor in published_weights(decoder):
        room -= tensor.numel() * tensor.element_size()
        if room < 0 and shards[-1]:
            shards.append({})
            room = SHARD_BYTES - tensor.numel() * tensor.element_size()
        shards[-1][name] = tensor
    many = len(shards) > 1
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if many else "model.safetensors"
        places |= dict.fromkeys(shard, file)
        save_file(shard, folder / f"{file}.partial", metadata={"format": "pt"})
        sync(folder / f"{file}.partial")
    (folder / "config.json").unlink(missing_ok=True)
    for old in list(folder.glob("model*.safetensors*")):
        if WEIGHT_FILE.fullmatch(old.name):
            old.unlink()
    for file in dict.fromkeys(places.values()):
        (folder / f"{file}.partial").replace(folder / file)
    if many:
        total = sum(t.numel() * t.element_size() for shard in shards for t in shard.values())
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})
    dtype = str(next(decoder.parameters()).dtype).removeprefix("torch.")
    config = {"architectures": [family.architecture], "model_type": family.model_type, "torch_dtype": dtype}
    write_json(folder / "config.json", {**config, **family.write(decoder.config), **(tokens or {})})


def read_fields(path: Path, what: str, again: str) -> dict[str, Any]:
    """A JSON file that makes its folder `what`. Raises UnknownModel where there is none, or it is not a table.

    `again`: what to do about a file that cannot be read.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnknownModel(f"{path.parent} has no {path.name}, so it is not {what}; check the path.") from None
    except (OSError, ValueError, RecursionError):
        raise UnknownModel(f"{path} is not readable JSON; {again}.") from None
    if not isinstance(fields, dict):
        raise UnknownModel(f"{path} is not a table of fields; {again}.")
    return fields


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that the file is either the old one or the whole new one."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text so that the file is either the old one or the whole new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    sync(partial)
    partial.replace(path)


def sync(path: Path) -> None:
    """Waits until the disk holds what was written to the file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
