"""Reading a SentencePiece model file: a protocol buffer of pieces, how they were trained, and how text is normalised.

Only the fields that change ids are read, after sentencepiece_model.proto. The sentencepiece package does not say how a
model normalises text, and the protobuf package would be one more dependency for a dozen fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

BPE = 2  # TrainerSpec.ModelType


@dataclass(frozen=True)
class SentencePieceModel:
    """What a model file says. Ids of special pieces are -1 where the model has none."""

    pieces: list[str]
    scores: list[float]
    kinds: list[int]
    algorithm: int
    unknown: int
    bos: int
    eos: int
    pad: int
    prefix: bool  # add_dummy_prefix
    collapse: bool  # remove_extra_whitespaces
    charsmap: bytes

    @classmethod
    def parse(cls, data: bytes) -> SentencePieceModel:
        """Raises ValueError for bytes that are not a complete model."""
        pieces, scores, kinds = [], [], []
        trainer: dict[int, int | bytes] = {}
        normaliser: dict[int, int | bytes] = {}
        for number, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                piece = dict(_fields(value))
                pieces.append(_bytes(piece, 1).decode())
                scores.append(struct.unpack("<f", _bytes(piece, 2, bytes(4)))[0])
                kinds.append(_integer(piece, 3, 1))
            elif number == 2 and isinstance(value, bytes):
                trainer = dict(_fields(value))
            elif number == 3 and isinstance(value, bytes):
                normaliser = dict(_fields(value))
        model = cls(
            pieces=pieces,
            scores=scores,
            kinds=kinds,
            algorithm=_integer(trainer, 3, 1),
            unknown=_integer(trainer, 40, 0),
            bos=_integer(trainer, 41, 1),
            eos=_integer(trainer, 42, 2),
            pad=_integer(trainer, 43, -1),
            prefix=bool(_integer(normaliser, 3, 1)),
            collapse=bool(_integer(normaliser, 4, 1)),
            charsmap=_bytes(normaliser, 2),
        )
        if not trainer or not 0 <= model.unknown < len(pieces) or len(set(pieces)) != len(pieces):
            raise ValueError("a piece is missing or stands there twice")
        return model


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """A protocol buffer's fields in order: number, and an integer (wire type 0) or the raw bytes (1, 2 and 5)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(data) or shift > 63:
                raise ValueError("a number does not end")
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        wire = key & 7
        if wire == 0:
            yield key >> 3, varint()
            continue
        length = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            length = varint()
        if length is None or at + length > len(data):
            raise ValueError("a field does not end")
        at += length
        yield key >> 3, data[at - length : at]


def _integer(fields: dict[int, int | bytes], number: int, default: int) -> int:
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is not an integer")
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(fields: dict[int, int | bytes], number: int, default: bytes = b"") -> bytes:
    value = fields.get(number, default)
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} is not a string of bytes")
    return value
