"""What our experiments share: one tokenized text, runs that are a process each, and a paired comparison of them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t

from fairground.models.decoder import Decoder
from fairground.models.tokenizer import Tokenizer
from fairground.training.loop import train
from fairground.training.objective import Objective
from fairground.training.recipe import Recipe
from fairground.training.tokens import Tokens, tokenize

BATCH = 2048  # tokens of a step, as in recipes/commons.toml


@dataclass(frozen=True, slots=True)
class One:
    """One run of an experiment: a design or an arm, and a seed."""

    name: str
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.name.replace(' ', '-').replace(',', '')}-{self.seed}"


def run(one: One, out: Path, decoder: Decoder, objective: Objective, recipe: Recipe) -> None:
    """Trains one model on one thread and leaves curve.json and held_out.npz in its folder."""
    folder = out / "runs" / one.folder
    _, text, measured = read_tokens(out)
    made = train(decoder, objective, text, recipe, folder, measured=measured)
    assert made.held_out is not None
    np.savez(folder / "held_out.npz", nats=made.held_out.nats, bytes=made.held_out.bytes)
    curve = {step * recipe.batch_tokens: bits for step, bits in made.bits_per_byte.items()}
    speed = float(np.median([step.tokens_per_s for step in made.steps]))
    done = {"name": one.name, "seed": one.seed, "parameters": decoder.config.parameter_count(), "curve": curve}
    (folder / "curve.json").write_text(json.dumps(done | {"tokens_per_s": speed}), encoding="utf-8")
    for checkpoint in folder.glob("checkpoint-*"):
        checkpoint.unlink()


def one_thread() -> None:
    """Runs go beside each other, one thread each, which two cores do more with than with runs of two threads."""
    torch.set_num_threads(1)


def launch(script: str, wanted: Sequence[One], out: Path, workers: int) -> None:
    """Starts this script once for every run that is not over yet, `workers` at a time. Raises where one fails."""
    left = [one for one in wanted if not (out / "runs" / one.folder / "curve.json").exists()]

    def start(one: One) -> None:
        subprocess.run([sys.executable, script, *sys.argv[1:], "--only", one.name, str(one.seed)], check=True)
        print(f"{one.name}, seed {one.seed}: done", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(start, left))


def prepare(text: Path, held_out: Path, out: Path, words: Tokenizer) -> None:
    """Tokenizes both texts once for all runs."""
    if (out / "tokens.npz").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    words.save(out / "tokenizer")
    arrays: dict[str, Any] = {}
    for name, path in (("train", text), ("held_out", held_out)):
        tokens = tokenize([path], words)
        arrays |= {f"{name}_ids": tokens.ids, f"{name}_learned": tokens.learned, f"{name}_starts": tokens.starts}
        arrays[f"{name}_sources"] = np.asarray(tokens.sources)
    partial = out / "tokens.partial.npz"
    np.savez(partial, bytes_of=tokens.bytes_of, **arrays)
    partial.replace(out / "tokens.npz")


def read_tokens(out: Path) -> tuple[Tokenizer, Tokens, Tokens]:
    """What `prepare` left."""
    with np.load(out / "tokens.npz") as kept:
        both = [
            Tokens(
                kept[f"{name}_ids"],
                kept[f"{name}_learned"],
                kept[f"{name}_starts"],
                kept[f"{name}_sources"].tolist(),
                kept["bytes_of"],
            )
            for name in ("train", "held_out")
        ]
    return Tokenizer.from_folder(out / "tokenizer"), both[0], both[1]


@dataclass(frozen=True, slots=True)
class Difference:
    """Bits per byte of `name` minus those of `base`, with a 95% interval, a two-sided p and the seeds' own spread."""

    name: str
    base: str
    value: float
    low: float
    high: float
    p: float
    by_seed: tuple[float, ...]


def paired(nats: dict[One, NDArray[np.float64]], sizes: NDArray[np.int64], name: str, base: str) -> Difference:
    """The mean over seeds, with a t interval for documents and seeds that are both drawn at random.

    The variance is that of a ratio over documents, of the seeds' mean (Cochran, 1977, section 2.11), plus that of the
    seeds' own differences; the degrees of freedom are Welch and Satterthwaite's, so that three seeds which disagree
    give the wide interval that three seeds deserve. A bootstrap over three seeds covered 76% where it said 95%.
    """
    seeds = sorted({one.seed for one in nats if one.name == name} & {one.seed for one in nats if one.name == base})
    per_seed = np.stack([nats[One(name, seed)] - nats[One(base, seed)] for seed in seeds]) / math.log(2)
    by_seed = per_seed.sum(1) / sizes.sum()
    mean, documents = float(by_seed.mean()), len(sizes)
    left = per_seed.mean(0) - mean * sizes
    parts = [(documents / (documents - 1) * float((left**2).sum()) / float(sizes.sum()) ** 2, documents - 1)]
    if len(seeds) > 1:
        parts.append((float(by_seed.var(ddof=1)) / len(seeds), len(seeds) - 1))
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / df for part, df in parts) if variance else math.inf
    deviation = math.sqrt(variance)
    reach = float(t.ppf(0.975, freedom)) * deviation
    p = 2 * float(t.sf(abs(mean) / deviation, freedom)) if deviation else 1.0
    return Difference(name, base, mean, mean - reach, mean + reach, p, tuple(by_seed.tolist()))


def read_runs(
    out: Path, runs: Sequence[One]
) -> tuple[list[dict[str, object]], dict[One, NDArray[np.float64]], NDArray[np.int64]]:
    """Every run's curve.json; its negative log-likelihoods, float64 [D] in nats; the documents' bytes, int64 [D]."""
    folders = {one: out / "runs" / one.folder for one in runs}
    curves = [json.loads((folder / "curve.json").read_text(encoding="utf-8")) for folder in folders.values()]
    nats = {one: np.load(folder / "held_out.npz")["nats"] for one, folder in folders.items()}
    return curves, nats, np.load(next(iter(folders.values())) / "held_out.npz")["bytes"]
