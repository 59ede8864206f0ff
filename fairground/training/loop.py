"""The one loop: data, objective, optimiser, checkpoint."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from fairground.errors import TrainingError
from fairground.models.decoder import Decoder
from fairground.models.machine import matrix_rate
from fairground.training.checkpoint import load_checkpoint, newest, read_state, save_checkpoint
from fairground.training.measure import HeldOut, held_out, operations_per_token
from fairground.training.objective import Objective
from fairground.training.optimiser import Masters
from fairground.training.parallel import Processes, let_go
from fairground.training.recipe import Recipe
from fairground.training.tokens import Batch, Batches, Place, Tokens

LOG = "log.jsonl"


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did. `loss` is what was minimised and `cross_entropy` the data's, both in nats per prediction.

    `tokens` is how many predictions were learned from so far; `share` is of the machine's measured matrix rate.
    """

    step: int
    tokens: int
    loss: float
    cross_entropy: float
    learning_rate: float
    gradient_norm: float
    tokens_per_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind: its steps, its measures by step, and the last measure document by document."""

    steps: Sequence[Step]
    bits_per_byte: Mapping[int, float]
    held_out: HeldOut | None


def train(
    decoder: Decoder,
    objective: Objective,
    tokens: Tokens,
    recipe: Recipe,
    folder: Path,
    *,
    measured: Tokens | None = None,
    identity: Mapping[str, Any] | None = None,
    progress: Callable[[Step], None] | None = None,
    measure_progress: Callable[[int, float], None] | None = None,
    samples: Callable[[Decoder], Sequence[Mapping[str, str]]] | None = None,
    processes: Processes = Processes(),  # noqa: B008
) -> Run:
    """Trains `decoder` in place, going on from the newest checkpoint in `folder` if there is one.

    `identity` is what a checkpoint must agree with beside recipe and text (the tokenizer, the teacher). `measured` is
    held-out text; `samples` writes a few texts at each measure, which go to the log. Several `processes` each do their
    stretches of every step, and the first one writes. On the CPU the weights at the end
    are the same to the bit whether or not the run was cut short on the way, given one number of threads.

    Raises TrainingError for a checkpoint of another run, a full disk, or a loss that is not finite; in every case the
    last good checkpoint stands.
    """
    masters = Masters(decoder, recipe.optimiser)
    batches = Batches(tokens, recipe.batch_tokens, recipe.context, recipe.seed)
    mine = whose(recipe, tokens, objective.name, identity)
    processes.agree(mine)
    folder.mkdir(parents=True, exist_ok=True)
    step, place, history = _resume(folder, mine, masters)
    processes.wait()
    log = _Log(folder / LOG, step, writes=processes.first)
    peak = matrix_rate(getattr(torch, recipe.precision), decoder.device.type) * processes.count
    mean_length = tokens.predictions / max(1, len(batches.order(0)))
    per_token = operations_per_token(decoder.config, mean_length)
    decoder.train()
    last: HeldOut | None = None

    def measure(at: int) -> None:
        nonlocal last
        if measured is None:
            return
        decoder.eval()
        last = held_out(decoder, measured, recipe.context)
        history[at] = last.bits_per_byte
        log.write(
            {"step": at, "bits_per_byte": last.bits_per_byte, "samples": list(samples(decoder)) if samples else []}
        )
        if measure_progress:
            measure_progress(at, last.bits_per_byte)
        let_go(decoder)
        decoder.train()

    if step == 0 and recipe.evaluate_every:
        measure(0)
    while step < recipe.steps:
        begun = time.perf_counter()
        batch, after = batches.at(place)
        loss, ce, norm = gradient(decoder, objective, masters, batch, recipe.part_tokens, processes)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            masters.drop()
            raise TrainingError(_not_finite(folder, step, loss, batch, tokens))
        rate = recipe.optimiser.rate(step, recipe.steps)
        masters.step(rate, norm)
        step, place = step + 1, after
        speed = recipe.batch_tokens / (time.perf_counter() - begun)
        done = Step(step, step * recipe.batch_tokens, loss, ce, rate, float(norm), speed, speed * per_token / peak)
        log.write(asdict(done))
        if progress:
            progress(done)
        final = step == recipe.steps
        if final or (recipe.evaluate_every and step % recipe.evaluate_every == 0):
            measure(step)
        if final or (recipe.checkpoint_every and step % recipe.checkpoint_every == 0):
            state = {"step": step, "place": asdict(place), "bits_per_byte": history, "identity": mine}
            tensors = masters.state()
            if processes.first:
                save_checkpoint(folder, step, tensors, state)
    decoder.eval()
    if last is None and measured is not None:
        last = held_out(decoder, measured, recipe.context)
    processes.wait()
    return Run(log.steps(), {int(at): value for at, value in history.items()}, last)


def gradient(
    decoder: Decoder,
    objective: Objective,
    masters: Masters,
    batch: Batch,
    part_tokens: int,
    processes: Processes = Processes(),  # noqa: B008
) -> tuple[float, float, Tensor]:
    """The step's loss and cross-entropy per learned prediction, and the gradients' length; gradients are left there."""
    count = max(1, int(batch.learned.sum()))
    loss = ce = 0.0
    for part in processes.parts(batch, part_tokens):
        total, own = objective(decoder, part.to(decoder.device))
        (total / count).backward()  # type: ignore[no-untyped-call]
        masters.gather()
        loss, ce = loss + float(total.detach()) / count, ce + float(own) / count
    processes.add_gradients(masters.masters)
    loss, ce = processes.added((loss, ce))
    return loss, ce, masters.norm()


def whose(recipe: Recipe, tokens: Tokens, objective: str, more: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a checkpoint must agree with, as JSON gives it back, so that it can be compared with a checkpoint's."""
    mine = {"recipe": recipe.as_dict(), "text": tokens.digest(), "objective": objective, **(more or {})}
    found: dict[str, Any] = json.loads(json.dumps(mine))
    return found


def refuse_another(folder: Path, mine: Mapping[str, Any]) -> None:
    """Raises TrainingError where the folder holds the checkpoint of a run that is not `mine`, or a model of others."""
    path = newest(folder)
    if path is None:
        if any(folder.glob("*.safetensors")) or (folder / "config.json").exists():
            raise TrainingError(
                f"{folder} holds a model that this run did not make, so nothing was written there; give --out another "
                "folder."
            )
        return
    theirs = read_state(path).get("identity", {})
    different = [key for key in mine if theirs.get(key) != mine[key]]
    if different:
        key = different[0]
        what = f"another {key}"
        if key == "recipe":
            what = _difference(theirs.get("recipe") or {}, mine["recipe"])
        raise TrainingError(
            f"{folder} holds the checkpoint of a run with {what}, so nothing was written there; give --out another "
            "folder, or the same command to go on."
        )


def _resume(folder: Path, mine: Mapping[str, Any], masters: Masters) -> tuple[int, Place, dict[int, float]]:
    refuse_another(folder, mine)
    path = newest(folder)
    if path is None:
        return 0, Place(), {}
    tensors, state = load_checkpoint(path)
    try:
        masters.load(tensors)
        return state["step"], Place(**state["place"]), {int(k): v for k, v in state["bits_per_byte"].items()}
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise TrainingError(f"{path} is not of this model; give --out another folder.") from None


def _difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    for key, value in mine.items():
        other = theirs.get(key)
        if other != value:
            if isinstance(value, dict) and isinstance(other, dict):
                return _difference(other, value)
            return f"{key} {other!r} instead of {value!r}"
    return "another recipe"


def _not_finite(folder: Path, step: int, loss: float, batch: Batch, tokens: Tokens) -> str:
    sources = list(dict.fromkeys(tokens.sources[document] for document in batch.documents))
    path = newest(folder)
    stands = f"{path.name} stands" if path else "there is no checkpoint yet"
    more = f" and {len(sources) - 3} more" if len(sources) > 3 else ""
    return (
        f"The loss or its gradient is not a number (loss {loss:g}) at step {step + 1}, whose batch came from "
        f"{', '.join(sources[:3])}{more}; {stands}. Lower the learning rate, and look at that text."
    )


class _Log:
    """One JSON line a step and a measure; a resumed run cuts off what came after its checkpoint."""

    def __init__(self, path: Path, step: int, *, writes: bool) -> None:
        self._path = path
        self._file: TextIO | None = None
        if not writes:
            return
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if row["step"] <= step and step:
                    kept.append(line)
        self._file = path.open("w", encoding="utf-8")
        for line in kept:
            self._file.write(line + "\n")
        self._file.flush()

    def write(self, row: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def steps(self) -> list[Step]:
        rows = [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]
        return [Step(**row) for row in rows if "loss" in row]
