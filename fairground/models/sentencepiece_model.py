"""Reading a SentencePiece model file: a protocol buffer of pieces, how they were trained, and how text is normalised.

Only the fields that change ids are read, after sentencepiece_model.proto. The sentencepiece package does not say how a
model normalises text, and the protobuf package would be one more dependency for a dozen fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairground.errors import TokenizerError
from fairground.models.vocabulary import AGAIN, Vocabulary, add_surrounding, add_tokens, sentencepiece_bpe

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


def from_sentencepiece(path: Path, *, names: Mapping[str, str], adds_bos: bool, adds_eos: bool) -> Vocabulary:
    """Builds a tokenizer from a SentencePiece BPE model; ids equal sentencepiece's own.

    `names` are the special tokens that other files of the folder name; the model's own stand in for missing ones.
    Raises TokenizerError for a damaged file, and for a model that is not BPE.
    """
    try:
        spec = SentencePieceModel.parse(path.read_bytes())
    except (OSError, ValueError, struct.error) as why:
        raise TokenizerError(f"{path} cannot be read as a SentencePiece model ({why}); {AGAIN}") from why
    if spec.algorithm != BPE:
        raise TokenizerError(
            f"{path} is a SentencePiece model of another algorithm than BPE, which none of our model families uses; "
            "convert it to a tokenizer.json."
        )
    own = {"unk_token": spec.unknown, "bos_token": spec.bos, "eos_token": spec.eos, "pad_token": spec.pad}
    names = {**{name: spec.pieces[i] for name, i in own.items() if 0 <= i < len(spec.pieces)}, **names}
    backend = sentencepiece_bpe(
        spec.pieces, spec.scores, spec.kinds, unknown=spec.pieces[spec.unknown], prefix=spec.prefix,
        collapse=spec.collapse, charsmap=spec.charsmap,
    )  # fmt: skip
    add_tokens(backend, spec.pieces, spec.kinds, names)
    add_surrounding(backend, names.get("bos_token") if adds_bos else None, names.get("eos_token") if adds_eos else None)
    eos = backend.token_to_id(names.get("eos_token", ""))
    return Vocabulary(
        backend=backend,
        names=names,
        eos_ids=frozenset(() if eos is None else (eos,)),
        bos_id=backend.token_to_id(names.get("bos_token", "")),
    )


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
