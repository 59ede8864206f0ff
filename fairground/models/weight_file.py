"""Tensors in files: one interface, and the safetensors reader, whose header is checked before a byte is believed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from torch import Tensor

from fairground.errors import WeightsError


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as a file holds it: `precision` is "bf16", "f32", "Q4_1", …; `offset` and `size` in bytes."""

    shape: tuple[int, ...]
    precision: str
    offset: int = 0
    size: int = 0

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class WeightFile(Protocol):
    """Named tensors, read one at a time. `tensors` was checked against the file when it was opened."""

    @property
    def tensors(self) -> Mapping[str, Stored]: ...

    def read(self, name: str) -> Tensor:
        """The tensor in its own float type; a quantised one dequantised to float32. Raises WeightsError."""
        ...


FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
SIZES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}
HEADER_LIMIT = 100_000_000  # bytes, as the format's own library has it


class SafetensorsFile:
    """A .safetensors file. Raises WeightsError where the header and the file do not agree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb", buffering=0)
            total = path.stat().st_size
            self.tensors = self._header(total)
        except OSError as error:
            raise WeightsError(f"{path} cannot be read ({error.strerror}); check the file and try again.") from None

    def _wrong(self, what: str) -> WeightsError:
        return WeightsError(f"{self.path} {what}; the file is damaged, so nothing was loaded: fetch it again.")

    def _header(self, total: int) -> dict[str, Stored]:
        length = int.from_bytes(self._file.read(8), "little")
        if total < 8 or length > total - 8:
            raise self._wrong(f"is {total} bytes long but its header claims {length} bytes")
        if length > HEADER_LIMIT:
            raise self._wrong(f"has a header of {length} bytes, more than the format allows")

        def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            names = [name for name, _ in pairs]
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise self._wrong(f"names {twice!r} twice in its header")
            return dict(pairs)

        try:
            header = json.loads(self._file.read(length), object_pairs_hook=once)
        except (ValueError, RecursionError):
            raise self._wrong("has a header that is not JSON") from None
        if not isinstance(header, dict):
            raise self._wrong("has a header that is not a table of tensors")
        header.pop("__metadata__", None)
        tensors = {name: self._entry(name, entry, 8 + length, total) for name, entry in header.items()}
        end = 8 + length
        for name, stored in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size)):
            if stored.offset != end:
                what = "overlaps the tensor before it" if stored.offset < end else "leaves a gap before it"
                raise self._wrong(f"has a tensor {name!r} that {what}")
            end += stored.size
        if end != total:
            raise self._wrong(f"has {total - end} bytes after its last tensor")
        return tensors

    def _entry(self, name: str, entry: Any, base: int, total: int) -> Stored:
        try:
            kind, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
            whole = all(type(number) is int and number >= 0 for number in (*shape, start, stop))
            size = math.prod(shape) * SIZES[kind] if whole else 0
        except (KeyError, TypeError, ValueError):
            raise self._wrong(f"describes the tensor {name!r} in a way that cannot be read") from None
        if not whole or stop < start or base + stop > total:
            raise self._wrong(f"places the tensor {name!r} outside the file (the file may be truncated)")
        if stop - start != size:
            raise self._wrong(f"gives the tensor {name!r} {stop - start} bytes, but its shape needs {size}")
        return Stored(tuple(shape), kind.lower(), base + start, size)

    def read(self, name: str) -> Tensor:
        stored = self.tensors[name]
        kind = FLOATS.get(stored.precision.upper())
        if kind is None:
            raise WeightsError(f"{self.path} holds {name!r} as {stored.precision}, which is not a float type.")
        return self.raw(name).view(kind).view(stored.shape)

    def raw(self, name: str) -> Tensor:
        """The tensor's bytes as they lie in the file: uint8 [size]. Raises WeightsError."""
        stored = self.tensors[name]
        raw = torch.empty(stored.size, dtype=torch.uint8)
        self._file.seek(stored.offset)
        view, got = memoryview(raw.numpy()), 0  # type: ignore[arg-type]
        while got < stored.size:
            count = self._file.readinto(view[got:])  # type: ignore[attr-defined]
            if not count:
                raise self._wrong(f"ended while {name!r} was read")
            got += count
        return raw


class ShardedFile:
    """Several safetensors files that an index names. Raises WeightsError where index and files do not agree."""

    def __init__(self, index: Path) -> None:
        try:
            table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = {name: str(shard) for name, shard in table.items()}
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
            raise WeightsError(f"{index} is not an index of weight files; fetch it again.") from None
        outside = [shard for shard in shards.values() if Path(shard).name != shard]
        if outside:
            raise WeightsError(f"{index} names the file {outside[0]!r}, which is not beside it; nothing was loaded.")
        missing = [shard for shard in shards.values() if not (index.parent / shard).is_file()]
        if missing:
            raise WeightsError(f"{index} names {missing[0]}, which is not there; fetch the model again.")
        self._files = {shard: SafetensorsFile(index.parent / shard) for shard in sorted(set(shards.values()))}
        self._of = shards
        for shard, file in self._files.items():
            for name in file.tensors:
                if shards.get(name) != shard:
                    raise WeightsError(f"{shard} holds {name!r}, but {index} does not place it there; fetch it again.")
        for name, shard in shards.items():
            if name not in self._files[shard].tensors:
                raise WeightsError(f"{index} places {name!r} in {shard}, which does not hold it; fetch it again.")
        self.tensors = {name: self._files[shard].tensors[name] for name, shard in shards.items()}

    def read(self, name: str) -> Tensor:
        return self._files[self._of[name]].read(name)


class PickledFile:
    """A pytorch_model.bin, read by torch's weights-only loader, and only where the user allowed pickles."""

    def __init__(self, path: Path) -> None:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # torch raises many kinds for a damaged or a hostile pickle
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise WeightsError(f"{path} cannot be loaded safely ({reason[:120]}); nothing was loaded.") from None
        bad = not isinstance(loaded, dict) or any(not isinstance(value, Tensor) for value in loaded.values())
        if bad:
            raise WeightsError(f"{path} does not hold a plain table of tensors, so nothing was loaded.")
        self._loaded: dict[str, Tensor] = loaded
        short = {torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
        self.tensors = {
            name: Stored(tuple(value.shape), short.get(value.dtype, str(value.dtype))) for name, value in loaded.items()
        }

    def read(self, name: str) -> Tensor:
        return self._loaded[name].clone()


def check_finite(tensor: Tensor, name: str, path: Path) -> None:
    """Raises WeightsError for a NaN or an infinity. One cheap sum finds either; an overflow is looked at again."""
    if not math.isfinite(float(tensor.sum())) and not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"{path} holds {name!r} with a NaN or an infinity in it; such a model is broken.")
