"""`fairground train kneser-ney:5 …`: an n-gram model fitted to the same text as a decoder would learn from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairground.errors import ConfigError, TrainingError
from fairground.models.assemble import write_json
from fairground.models.ngram import fit, save
from fairground.models.tokenizer import Tokenizer
from fairground.training.tokenizer import tokenizer_of
from fairground.training.tokens import Tokens, tokenize

_NAME = re.compile(r"kneser-ney:(\d+)")
MOST_BYTES = 8_000_000


def is_ngram(name: str) -> bool:
    """Whether a model's name asks for an n-gram model."""
    return _NAME.fullmatch(name) is not None


def train_ngram(
    name: str,
    data: Sequence[Path],
    out: Path,
    *,
    held_out: Sequence[Path] = (),
    tokenizer: Path | None = None,
    vocab_size: int = 4096,
    said: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Fits `kneser-ney:ORDER` to one pass over the data and writes its folder; returns what training.json says.

    N-grams are left out until the folder's weights take at most 8 MB. Raises TrainingError where `out` holds another
    model, DataError for text that cannot be read, ConfigError for an order that cannot be.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"{name!r} is not an n-gram model's name, which is like kneser-ney:5; correct it.")
    if (out / "config.json").exists() or any(out.glob("checkpoint-*")):
        raise TrainingError(f"{out} holds a model already, so nothing was written there; give --out another folder.")
    if tokenizer is not None:
        words = Tokenizer.from_folder(tokenizer)
    else:
        said("training a tokenizer")
        words = tokenizer_of(data, vocab_size)
    said("tokenizing")
    text = tokenize(data, words)
    measured = tokenize(held_out, words) if held_out else None
    if words.bos_id is None or words.eos_id is None:
        raise ConfigError("The tokenizer has no tokens that begin and end a text, which an n-gram model needs.")
    said("counting")
    inner = (ids[1:-1].tolist() for ids in documents(text))
    model = fit(
        inner, words.vocab_size, order=int(match[1]), bos_id=words.bos_id, eos_id=words.eos_id, max_bytes=MOST_BYTES
    )
    bits: dict[str, float] = {}
    if measured is not None:
        said("measuring")
        nats = -float(model.score(measured.ids, measured.starts[:-1])[_predicted(measured)].sum())
        counted = measured.bytes_of[measured.ids[_predicted(measured)]].sum()
        bits = {"1": nats / np.log(2) / float(counted)}
    summary: dict[str, Any] = {
        "recipe": {"model": name, "max_bytes": MOST_BYTES},
        "objective": "interpolated modified Kneser-Ney smoothing",
        "parameters": model.parameters,
        "text": {"documents": len(text), "predictions": text.predictions, "sha256": text.digest()},
        "tokens": text.predictions,
        "passes": 1.0,
        "bits_per_byte": bits,
        "tokens_per_s": None,
    }
    out.mkdir(parents=True, exist_ok=True)
    words.save(out)
    write_json(out / "training.json", summary)
    save(model, out)
    return summary


def documents(text: Tokens) -> list[np.ndarray[Any, Any]]:
    """Each document's ids, its first and last token included."""
    return [text.ids[start:stop] for start, stop in zip(text.starts, text.starts[1:], strict=False)]


def _predicted(text: Tokens) -> np.ndarray[Any, Any]:
    """Which tokens count in a measure: what a decoder learns, and never a document's first."""
    counts = text.learned.copy()
    counts[text.starts[:-1]] = False
    return counts
