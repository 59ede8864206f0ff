"""What a run will take, said before it starts: memory from the model's shape, time from a short trial of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from fairground.errors import DoesNotFit
from fairground.models.config import DecoderConfig
from fairground.models.decoder import Decoder
from fairground.models.machine import free_memory
from fairground.models.packed_attention import LONGEST, STRIPE
from fairground.training.checkpoint import newest, step_of
from fairground.training.cross_entropy import ROWS
from fairground.training.objective import Objective
from fairground.training.parallel import Processes
from fairground.training.recipe import Recipe
from fairground.training.tokens import Batch, Place, Tokens

PROCESS = 450e6  # bytes of a process with torch and Transformers' tokenizers, before anything is in it
TRIAL = 512  # predictions of the trial
MEASURED = 8192  # tokens at a time, when held-out text is measured
MOVED = 40.0  # bytes that an optimiser's step reads and writes for a weight
MOVES = 8e9  # bytes a second; a cautious guess for any machine


def memory_needed(
    config: DecoderConfig,
    recipe: Recipe,
    *,
    trainable: int | None = None,
    teacher_vocabulary: int = 0,
    processes: Processes = Processes(),  # noqa: B008
) -> int:
    """Bytes that training takes at most on this machine, the teacher's own weights left out.

    Weights, their float32 masters, gradients and moments of the `trainable` ones (None: all of them); what a part of a
    step keeps for the way back; the head's logits. `teacher_vocabulary`: of a teacher in the loop, whose logits and the
    student's are held whole. Within a third of what was measured for shapes from 4 to 45 million parameters.
    """
    size = 4 if recipe.precision == "float32" else 2
    everything, vocabulary = config.parameter_count(), config.vocab_size
    trained = everything if trainable is None else trainable
    moments = 4 if recipe.optimiser.method == "muon" else 8
    state = everything * size + trained * ((4 + moments) if size == 4 else (2 + 4 + 4 + moments))
    if processes.split:
        state = state // processes.count + (config.parameter_count() // config.layers) * (size + 4)
    rows = min(recipe.part_tokens or recipe.batch_tokens, recipe.batch_tokens) // processes.count
    each = kept_per_token(config, recipe.context)
    # With gradient checkpointing, what goes into each layer, and one layer's all.
    layers = each + config.layers * config.width if recipe.gradient_checkpointing else each * config.layers
    kept = rows * size * layers
    # The head's gradient, in float32 and again as it is handed on, and the embedding's.
    around = vocabulary * config.width * (4 + 4 + size + 4)
    logits = min(rows, ROWS) * vocabulary * (4 + 4 + size)
    if teacher_vocabulary:
        logits = rows * max(vocabulary, teacher_vocabulary) * 4 * 8
    measuring = MEASURED * config.width * 4 * 12 + 1024 * vocabulary * 4 * 3
    return int(processes.on_this_machine * (PROCESS + state + max(kept + around + logits, measuring)))


def kept_per_token(c: DecoderConfig, context: int) -> float:
    """Numbers that a layer keeps of a token for the way back, with attention's probabilities where they are kept."""
    queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
    attention = 3 * queries + 4 * keys + 3 * queries
    probabilities = c.heads * (min(context, LONGEST) / 2 + STRIPE / 2) if context <= LONGEST else 0
    return 7 * c.width + attention + (4 if c.gated_mlp else 3) * c.mlp_width + probabilities


@dataclass(frozen=True, slots=True)
class Room:
    """The memory that a run finds."""

    recipe: Recipe
    processes: Processes
    device: str = "cpu"

    def check(self, config: DecoderConfig, teacher_vocabulary: int = 0, *, trainable: int | None = None) -> int:
        """The bytes that training needs (`memory_needed`). Raises DoesNotFit where fewer are free."""
        needed = memory_needed(
            config,
            self.recipe,
            trainable=trainable,
            teacher_vocabulary=teacher_vocabulary,
            processes=self.processes,
        )
        free = free_memory(self.device)
        if needed > free:
            raise DoesNotFit(
                f"Training {self.recipe.model} needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB "
                "are free, so nothing was begun; choose a smaller model or a shorter --context, or give the recipe "
                "part_tokens, so that less of a step is computed at a time."
            )
        return needed


def seconds_needed(
    decoder: Decoder,
    objective: Objective,
    tokens: Tokens,
    measured: Tokens | None,
    recipe: Recipe,
    folder: Path,
    *,
    teacher: Decoder | None = None,
    processes: Processes = Processes(),  # noqa: B008
) -> float:
    """About how long the steps that are left will take, from learning a few hundred predictions now.

    The weights stay as they are. `teacher`: one that reads the whole text once beforehand. Where `tokens` are few, the
    trial is as short as they are.
    """
    path = newest(folder)
    steps = recipe.steps - (step_of(path) if path else 0)
    if steps <= 0:
        return 0.0
    size = min(TRIAL, recipe.batch_tokens, tokens.predictions)
    batch, _ = tokens.batches(size, recipe.context, recipe.seed).at(Place())
    batch, size = batch.to(decoder.device), len(batch.ids)
    learning = min(_learning(decoder, objective, batch) for _ in range(2)) / size
    moving = decoder.config.parameter_count() * MOVED / MOVES
    spent = steps * (recipe.batch_tokens * learning / processes.count + moving)
    if measured is not None:
        often = 1 + (steps // recipe.evaluate_every if recipe.evaluate_every else 0)
        spent += often * measured.predictions * learning / 3  # a pass there alone is a third of there and back
    if teacher is not None:
        spent += tokens.predictions * min(_reading(teacher, batch) for _ in range(2)) / size
    return spent


def _learning(decoder: Decoder, objective: Objective, batch: Batch) -> float:
    begun = time.perf_counter()
    with torch.random.fork_rng():  # what a trial draws must not change the run
        loss, _ = objective(decoder, batch)
        loss.backward()  # type: ignore[no-untyped-call]
    for weight in decoder.parameters():
        weight.grad = None
    return time.perf_counter() - begun


@torch.no_grad()
def _reading(teacher: Decoder, batch: Batch) -> float:
    begun = time.perf_counter()
    hidden = teacher(batch.ids, batch.packed)
    float(teacher.head(hidden).float().log_softmax(-1)[-1, -1])
    return time.perf_counter() - begun


def sentence(needed: int, seconds: float, device: str = "cpu") -> str:
    """For a person to read before a run: memory and time."""
    return f"Needs about {needed / 1e9:.1f} GB of {free_memory(device) / 1e9:.1f} GB; {about(seconds)}."


def about(seconds: float) -> str:
    """A time in words, no finer than it is known."""
    if seconds < 60:
        return "less than a minute"
    minutes = seconds / 60
    if minutes < 90:
        return f"about {minutes:.0f} minute{'s' if round(minutes) != 1 else ''}"
    hours = minutes / 60
    return f"about {hours:.0f} hours" if hours < 48 else f"about {hours / 24:.0f} days"
