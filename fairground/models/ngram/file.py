"""An n-gram model on disk: config.json and model.safetensors, three bytes and two bits an n-gram, one byte a context.

Whatever bytes the ratios and backoffs hold, they mean distributions that sum to 1. For each order n from 2 up:

    tokens.n    uint16 [n-grams]: last tokens, in the order of their keys
    lasts.n     bits [n-grams]: whether an n-gram is the last one of its context
    ratios.n    uint8 [n-grams]: how far its probability is below the highest one of its context, in 1/16 nat
    contexts.n  bits [n-grams of the order below]: whether anything is stored after it, which makes it a context
    backoffs.n  int8 [contexts]: ln(backoff / (1 - backoff)), in 1/8 nat

and `unigrams`, float32 [V], the logarithms of their probabilities. Bits are packed, the first one highest.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from fairground.errors import ConfigError, WeightsError
from fairground.models.assemble import sync, write_json
from fairground.models.load import read_config
from fairground.models.ngram.model import Ints, Level, NGram
from fairground.models.weight_file import SafetensorsFile

MODEL_TYPE = "kneser-ney"
ARCHITECTURE = "KneserNeyForCausalLM"
LARGEST_ORDER = 9
LARGEST_VOCABULARY = 1 << 16
OTHER_BYTES = 8192  # at most: config.json and the names of the tensors
RATIO_STEPS, BACKOFF_STEPS = 16, 8  # a nat
KINDS: dict[str, type[np.generic]] = {"f32": np.float32, "u16": np.uint16, "u8": np.uint8, "i8": np.int8}


def stored_bytes(ngrams: int, contexts: int, below: int) -> int:
    """Bytes that one order takes: so many n-grams, after so many contexts, with so many n-grams in the order below."""
    return 3 * ngrams + -(-ngrams // 8) + -(-below // 8) + contexts


def save(model: NGram, folder: Path, *, tokens: dict[str, Any] | None = None) -> None:
    """Writes the model's two files; `tokens`: more fields for the config.

    As for other models, files are written under temporary names, synced and renamed, and a folder with a config is
    whole. Probabilities are rounded to the steps above, so what `load` reads is not the same to the last digit.
    """
    tensors: dict[str, NDArray[Any]] = {"unigrams": np.log(model.unigrams).astype(np.float32)}
    for n, level in enumerate(model.levels, 2):
        prefixes, contexts = level.keys // model.vocab_size, np.zeros(len(level.backoffs), bool)
        contexts[prefixes] = True
        lasts = np.ones(len(prefixes), bool)
        lasts[:-1] = prefixes[1:] != prefixes[:-1]
        highest = np.zeros(len(level.backoffs))
        np.maximum.at(highest, prefixes, level.probabilities)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = RATIO_STEPS * np.log(highest[prefixes] / level.probabilities)
            logits = BACKOFF_STEPS * -np.log(1 / level.backoffs[contexts].astype(np.float64) - 1)
        tensors[f"tokens.{n}"] = (level.keys % model.vocab_size).astype(np.uint16)
        tensors[f"lasts.{n}"] = np.packbits(lasts)
        tensors[f"ratios.{n}"] = np.rint(np.nan_to_num(ratios, nan=0).clip(0, 255)).astype(np.uint8)
        tensors[f"contexts.{n}"] = np.packbits(contexts)
        tensors[f"backoffs.{n}"] = np.rint(logits.clip(-127, 127)).astype(np.int8)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "model.safetensors.partial"
    save_file(tensors, partial)
    sync(partial)
    (folder / "config.json").unlink(missing_ok=True)
    partial.replace(folder / "model.safetensors")
    config = {
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        "order": model.order,
        "vocab_size": model.vocab_size,
        "bos_token_id": model.bos_id,
        "eos_token_id": model.eos_id,
    }
    write_json(folder / "config.json", config | (tokens or {}))


def load(folder: Path) -> NGram:
    """Reads what `save` wrote. Raises ConfigError or WeightsError for a folder that is not whole or does not fit."""
    config = read_config(folder)
    if config.get("model_type") != MODEL_TYPE:
        raise ConfigError(f"{folder} holds no {MODEL_TYPE} model but {config.get('model_type')!r}; check the path.")
    order = _whole(config, "order", 1, LARGEST_ORDER)
    size = _whole(config, "vocab_size", 1, LARGEST_VOCABULARY)
    bos, eos = (_whole(config, name, 0, size - 1) for name in ("bos_token_id", "eos_token_id"))
    path = folder / "model.safetensors"
    if not path.is_file():
        raise WeightsError(f"{folder} has a config but no weights (model.safetensors); fetch the model again.")
    tables = _Tables(SafetensorsFile(path), path)
    unigrams = tables.take("unigrams", "f32", size).astype(np.float64)
    if not (np.isfinite(unigrams).all() and unigrams.max() <= 0 and abs(math.fsum(np.exp(unigrams)) - 1) < 1e-3):
        raise tables.wrong("has unigrams whose probabilities do not sum to 1")
    unigrams = np.exp(unigrams)
    levels: list[Level] = []
    for n in range(2, order + 1):
        levels.append(_level(tables, n, size, len(levels[-1].keys) if levels else size))
    tables.done()
    return NGram(bos, eos, unigrams / unigrams.sum(), tuple(levels))


def _level(tables: _Tables, n: int, vocab_size: int, below: int) -> Level:
    tokens = tables.take(f"tokens.{n}", "u16").astype(np.int64)
    lasts = tables.bits(f"lasts.{n}", len(tokens))
    ratios = tables.take(f"ratios.{n}", "u8", len(tokens))
    contexts = np.flatnonzero(tables.bits(f"contexts.{n}", below))
    codes = tables.take(f"backoffs.{n}", "i8", len(contexts))
    if lasts.sum() != len(contexts) or not lasts[-1:].all():
        raise tables.wrong(f"divides its {n}-grams among {lasts.sum()} contexts, but has {len(contexts)}")
    if (tokens >= vocab_size).any():
        raise tables.wrong(f"has a {n}-gram that ends in a token outside the vocabulary of {vocab_size}")
    if not (lasts[:-1] | (tokens[1:] > tokens[:-1])).all():
        raise tables.wrong(f"has {n}-grams that are not in ascending order")
    which: Ints = np.cumsum(lasts) - lasts  # of the contexts
    backoffs = 1 / (1 + np.exp(-codes.astype(np.float64) / BACKOFF_STEPS))
    shares = np.exp(-ratios.astype(np.float64) / RATIO_STEPS)
    shares *= ((1 - backoffs) / np.bincount(which, weights=shares, minlength=len(contexts)))[which]
    every = np.ones(below, np.float32)
    every[contexts] = backoffs
    return Level(contexts[which] * vocab_size + tokens, shares.astype(np.float32), every)


def _whole(config: dict[str, Any], name: str, least: int, most: int) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(
            f"config.json gives {name} as {str(value)[:40]!r}, but it must be a whole number from {least} to {most}; "
            "fetch the model again."
        )
    return value


class _Tables:
    """A file's arrays, each taken once and checked against what is expected of it."""

    def __init__(self, file: SafetensorsFile, path: Path) -> None:
        self._file, self._path, self._left = file, path, set(file.tensors)

    def wrong(self, what: str) -> WeightsError:
        return WeightsError(f"{self._path} {what}; the file is damaged, so nothing was loaded: fetch it again.")

    def take(self, name: str, kind: str, count: int | None = None) -> NDArray[Any]:
        stored = self._file.tensors.get(name)
        if stored is None:
            raise self.wrong(f"lacks the table {name!r}, which its config calls for")
        if stored.precision != kind or len(stored.shape) != 1 or (count is not None and stored.count != count):
            wanted = f"{kind} [{'' if count is None else count}]"
            raise self.wrong(f"holds {name!r} as {stored.precision} {list(stored.shape)} instead of {wanted}")
        self._left.discard(name)
        return self._file.raw(name).numpy().view(KINDS[kind])

    def bits(self, name: str, count: int) -> NDArray[np.bool_]:
        return np.unpackbits(self.take(name, "u8", -(-count // 8)), count=count).astype(bool)

    def done(self) -> None:
        if self._left:
            raise self.wrong(f"holds {min(self._left)!r}, which such a model does not have")
