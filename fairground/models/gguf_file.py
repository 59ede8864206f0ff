"""GGUF files: a header reader that checks every claim against the file, and the `gguf` package's dequantisers.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from fairground.errors import WeightsError
from fairground.models.weight_file import Stored

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


class GGUFFile:
    """Metadata and tensors of a GGUF file. Raises WeightsError where the header and the file do not agree.

    Shapes are given as torch has them, slowest dimension first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path} cannot be read ({error}); check the file and try again.") from None
        self._at = 0
        try:
            self._read_header()
        except (struct.error, UnicodeDecodeError):
            raise self._wrong("has a header that ends too early or is not text where it should be") from None

    def _wrong(self, what: str) -> WeightsError:
        return WeightsError(f"{self.path} {what}; the file is damaged, so nothing was loaded: fetch it again.")

    def _read_header(self) -> None:
        if self._map[:4] != b"GGUF":
            raise WeightsError(f"{self.path} is not a GGUF file: it does not begin with the letters GGUF.")
        self._at = 4
        version = self._scalar("I")
        if version not in (2, 3):
            raise WeightsError(f"{self.path} is GGUF version {version}; Fairground reads versions 2 and 3.")
        tensor_count, pair_count = self._scalar("Q"), self._scalar("Q")
        if (tensor_count + pair_count) * 12 > len(self._map):
            raise self._wrong(f"claims {tensor_count} tensors and {pair_count} fields, more than it can hold")
        self.metadata: dict[str, Any] = {}
        for _ in range(pair_count):
            name = self._string()
            if name in self.metadata:
                raise self._wrong(f"names the field {name!r} twice")
            self.metadata[name] = self._value(self._scalar("I"))
        entries = [self._tensor_entry() for _ in range(tensor_count)]
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise self._wrong(f"gives its alignment as {alignment!r}")
        base = -(-self._at // alignment) * alignment
        self.tensors: dict[str, Stored] = {}
        for name, shape, kind, offset in entries:
            if name in self.tensors:
                raise self._wrong(f"names the tensor {name!r} twice")
            self.tensors[name] = self._placed(name, shape, kind, offset, base, alignment)
        end = base
        for name, stored in sorted(self.tensors.items(), key=lambda item: item[1].offset):
            if stored.offset < end:
                raise self._wrong(f"has a tensor {name!r} that overlaps the one before it")
            end = stored.offset + stored.size

    def _placed(self, name: str, shape: tuple[int, ...], kind: int, offset: int, base: int, alignment: int) -> Stored:
        try:
            known = GGMLQuantizationType(kind)
        except ValueError:
            raise self._wrong(f"has a tensor {name!r} of the unknown type {kind}") from None
        block, block_bytes = GGML_QUANT_SIZES[known]
        if not shape or shape[-1] % block:
            raise self._wrong(f"has a tensor {name!r} of shape {list(shape)}, which {known.name} cannot hold")
        size = math.prod(shape) // block * block_bytes
        if offset % alignment or base + offset + size > len(self._map):
            raise self._wrong(f"places the tensor {name!r} outside the file (the file may be truncated)")
        precision = known.name.lower() if known.name in PLAIN else known.name
        return Stored(shape, precision, base + offset, size)

    def _tensor_entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self._string(), self._scalar("I")
        if not 1 <= dimensions <= 4:
            raise self._wrong(f"gives the tensor {name!r} {dimensions} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(dimensions))[::-1]
        return name, shape, self._scalar("I"), self._scalar("Q")

    def _scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self._map, self._at)
        self._at += struct.calcsize("<" + code)
        return value

    def _string(self) -> str:
        length = self._scalar("Q")
        if length > len(self._map) - self._at:
            raise self._wrong(f"claims a text of {length} bytes, more than it holds")
        self._at += length
        return self._map[self._at - length : self._at].decode("utf-8")

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            if kind not in SCALARS:
                raise self._wrong(f"has a field of the unknown type {kind}")
            return self._scalar(SCALARS[kind])
        inner, count = self._scalar("I"), self._scalar("Q")
        least = struct.calcsize(SCALARS.get(inner, "B"))  # bytes a value
        if count * least > len(self._map) - self._at or depth > 3:
            raise self._wrong(f"claims a list of {count} values, more than it holds")
        if inner in SCALARS:
            array = np.frombuffer(self._map, "<" + SCALARS[inner], count, self._at) if count else np.zeros(0)
            self._at += array.nbytes
            return array.tolist()
        return [self._value(inner, depth + 1) for _ in range(count)]

    def read(self, name: str) -> Tensor:
        """See WeightFile.read. Raises WeightsError for a quantisation that the gguf package cannot undo."""
        try:
            return self._dequantised(name)
        finally:
            self._let_go(self.tensors[name])

    def _let_go(self, stored: Stored) -> None:
        """Mapped pages count as memory once they are read, and the file is to be in memory once, not twice."""
        if stored.size and hasattr(mmap, "MADV_DONTNEED"):
            start = stored.offset - stored.offset % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, start, stored.offset + stored.size - start)

    def _dequantised(self, name: str) -> Tensor:
        stored = self.tensors[name]
        raw = np.frombuffer(self._map, np.uint8, stored.size, stored.offset)
        plain = PLAIN.get(stored.precision.upper())
        if plain is not None:
            return torch.from_numpy(raw.copy()).view(plain).view(stored.shape)
        kind = GGMLQuantizationType[stored.precision]
        try:
            values = dequantize(raw.reshape(*stored.shape[:-1], -1), kind)
        except NotImplementedError:
            raise WeightsError(
                f"{self.path} holds {name!r} as {stored.precision}, which cannot be dequantised here; "
                "fetch the model in another quantisation."
            ) from None
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).view(stored.shape)
