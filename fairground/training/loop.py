"""The one loop: data, objective, optimiser, checkpoint."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch
from torch import Tensor

from fairground.errors import TrainingError
from fairground.models.decoder import Decoder
from fairground.models.machine import matrix_rate, memory_kept
from fairground.training.checkpoint import load_checkpoint, newest, read_state, save_checkpoint
from fairground.training.measure import HeldOut, held_out, operations_per_token
from fairground.training.objective import Measuring, Objective
from fairground.training.optimiser import Masters
from fairground.training.pairs import Pairs
from fairground.training.parallel import Processes, let_go
from fairground.training.preference import DirectPreference, with_references
from fairground.training.recipe import Recipe
from fairground.training.stopping import Best
from fairground.training.tokens import Batch, Place, Tokens

LOG = "log.jsonl"


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did. `loss` is what was minimised and `cross_entropy` the data's, both in nats per prediction.

    Of pairs of answers the loss is per pair; `measures` says what an objective knows beside it, reward margins for one.

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
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind: its steps, its measures by step, and the last measure document by document.

    `kept`: the step whose weights the decoder has at the end, where that may not be the last one. `preference`: of
    pairs, what those held out give at the end (`DirectPreference.held_out`).
    """

    steps: Sequence[Step]
    bits_per_byte: Mapping[int, float]
    held_out: HeldOut | None
    kept: int | None = None
    preference: Mapping[str, float] = field(default_factory=dict)


@memory_kept()
def train(
    decoder: Decoder,
    objective: Objective,
    tokens: Tokens,
    recipe: Recipe,
    folder: Path,
    *,
    measured: Tokens | None = None,
    identity: Mapping[str, Any] | None = None,
    ready: Callable[[], None] | None = None,
    progress: Callable[[Step], None] | None = None,
    measure_progress: Callable[[int, float], None] | None = None,
    samples: Callable[[Decoder], Sequence[Mapping[str, str]]] | None = None,
    processes: Processes = Processes(),  # noqa: B008
) -> Run:
    """Trains `decoder` in place, going on from the newest checkpoint in `folder` if there is one.

    `identity` is what a checkpoint must agree with beside recipe and text (the tokenizer, the teacher). `measured` is
    held-out text; `ready` is called before the first step, once all fits together; `samples` writes a few texts at each
    measure, which go to the log. Several `processes` each do their stretches of every step, and the first one writes.
    On the CPU the weights at the end are the same to the bit whether or not the run was cut short on the way, given one
    number of threads. With patience, they are those of the best measure, which is of bits per byte, or of the loss
    where pairs of answers are learned.

    Raises TrainingError for a checkpoint of another run, a full disk, or a loss that is not finite; in every case the
    last good checkpoint stands.
    """
    if recipe.patience and measured is None:
        raise TrainingError(
            "There is no held-out text to measure on, so it cannot be known when to stop early; give some with "
            "--held-out, or leave patience out."
        )
    masters = Masters(decoder, recipe.optimiser)
    mine = whose(recipe, tokens, objective.name, identity)
    processes.agree(mine)
    folder.mkdir(parents=True, exist_ok=True)
    step, place, history, losses, kept = _resume(folder, mine, masters)
    processes.wait()
    if ready:
        ready()
    references: dict[str, Tensor] = {}
    if isinstance(tokens, Pairs):
        tokens, measured, references = with_references(decoder, tokens, measured, kept, recipe.batch_tokens)
    batches = tokens.batches(recipe.batch_tokens, recipe.context, recipe.seed)
    best = Best(folder, recipe.patience, losses if isinstance(tokens, Pairs) else history, writes=processes.first)
    log = _Log(folder / LOG, step, writes=processes.first)
    peak = matrix_rate(getattr(torch, recipe.precision), decoder.device.type) * processes.count
    mean_length = tokens.predictions / max(1, len(batches.order(0)))
    per_token = operations_per_token(decoder.config, mean_length, fixed=recipe.lora is not None)
    decoder.recompute = recipe.gradient_checkpointing
    decoder.train()
    last: HeldOut | None = None
    text = measured.better() if isinstance(measured, Pairs) else measured

    def compared() -> dict[str, float]:
        if isinstance(measured, Pairs) and isinstance(objective, DirectPreference):
            return objective.held_out(decoder, measured, recipe.batch_tokens)
        return {}

    def measure(at: int) -> None:
        nonlocal last
        if measured is None or text is None:
            return
        decoder.eval()
        last = held_out(decoder, text, recipe.context)
        history[at] = last.bits_per_byte
        row = {"step": at, "bits_per_byte": last.bits_per_byte, **compared()}
        if "preference_loss" in row:
            losses[at] = row["preference_loss"]
        best.measured(at, masters)
        log.write({**row, "samples": list(samples(decoder)) if samples else []})
        if measure_progress:
            measure_progress(at, last.bits_per_byte)
        let_go(decoder)
        decoder.train()

    if step == 0 and recipe.evaluate_every:
        measure(0)
    while step < recipe.steps and not best.passed:
        begun = time.perf_counter()
        batch, after = batches.at(place)
        if recipe.lora and recipe.lora.dropout:  # of the step alone, so that a resumed run leaves out the same
            seed = (recipe.seed, step, processes.rank) if processes.rank else (recipe.seed, step)
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        loss, ce, norm = gradient(decoder, objective, masters, batch, recipe.part_tokens, processes)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            masters.drop()
            raise TrainingError(_not_finite(folder, step, loss, batch, tokens))
        rate = recipe.optimiser.rate(step, recipe.steps)
        masters.step(rate, norm)
        step, place = step + 1, after
        speed = recipe.batch_tokens / (time.perf_counter() - begun)
        more = objective.measures() if isinstance(objective, Measuring) else {}
        learned, share = step * recipe.batch_tokens, speed * per_token / peak
        done = Step(step, learned, loss, ce, rate, float(norm), speed, share, more)
        log.write(asdict(done))
        if progress:
            progress(done)
        final = step == recipe.steps
        if final or (recipe.evaluate_every and step % recipe.evaluate_every == 0):
            measure(step)
        if final or best.passed or (recipe.checkpoint_every and step % recipe.checkpoint_every == 0):
            state = {"step": step, "place": asdict(place), "bits_per_byte": history, "identity": mine}
            state |= {"preference_loss": losses} if losses else {}
            tensors = {**masters.state(), **references}
            if processes.first:
                save_checkpoint(folder, step, tensors, state)
    decoder.eval()
    processes.wait()
    if best.take(masters):
        last = None
    if last is None and text is not None:
        last = held_out(decoder, text, recipe.context)
    return Run(log.steps(), {int(at): value for at, value in history.items()}, last, best.step, compared())


def gradient(
    decoder: Decoder,
    objective: Objective,
    masters: Masters,
    batch: Batch,
    part_tokens: int,
    processes: Processes = Processes(),  # noqa: B008
) -> tuple[float, float, Tensor]:
    """The step's loss (by `Batch.count`), cross-entropy per learned prediction, and the gradients' length.

    The gradients are left there.
    """
    count, learned = max(1, batch.count), max(1, int(batch.learned.sum()))
    loss = ce = 0.0
    for part in processes.parts(batch, part_tokens):
        total, own = objective(decoder, part.to(decoder.device))
        (total / count).backward()  # type: ignore[no-untyped-call]
        masters.gather()
        loss, ce = loss + float(total.detach()) / count, ce + float(own) / learned
    processes.add_gradients(masters.masters)
    loss, ce = processes.added((loss, ce))
    return loss, ce, masters.norm()


class _Start(NamedTuple):
    """Where to go on, what was measured by step (bits per byte, preference losses), and the checkpoint's tensors."""

    step: int
    place: Place
    history: dict[int, float]
    losses: dict[int, float]
    tensors: dict[str, Tensor]


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


def _resume(folder: Path, mine: Mapping[str, Any], masters: Masters) -> _Start:
    """The newest checkpoint's, whose weights are the decoder's by then, or a beginning."""
    refuse_another(folder, mine)
    path = newest(folder)
    if path is None:
        return _Start(0, Place(), {}, {}, {})
    tensors, state = load_checkpoint(path)
    try:
        masters.load(tensors)
        history, losses = (
            {int(at): value for at, value in state.get(name, {}).items()}
            for name in ("bits_per_byte", "preference_loss")
        )
        return _Start(state["step"], Place(**state["place"]), history, losses, tensors)
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
