"""From a recipe and files of text to a model's folder: what `fairground train` and `fairground distill` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairground.errors import ConfigError, TrainingError
from fairground.models.assemble import save, write_json, write_text
from fairground.models.config import DecoderConfig
from fairground.models.decoder import Decoder
from fairground.models.load import open_source
from fairground.models.machine import cores
from fairground.models.tokenizer import Tokenizer
from fairground.training.canaries import FILE, Canaries
from fairground.training.card import model_card
from fairground.training.estimate import Room, seconds_needed, sentence
from fairground.training.loop import Run, Step, refuse_another, train, whose
from fairground.training.objective import FROM_STORED, Distillation, LanguageModelling, Objective, StoredDistillation
from fairground.training.parallel import Processes, count, gathered, join, placed
from fairground.training.plot import loss_plot
from fairground.training.recipe import Recipe
from fairground.training.samples import beginnings, write_samples
from fairground.training.sizes import is_new_model, new_config
from fairground.training.start import new_decoder
from fairground.training.teacher_logits import TeacherLogits, teacher_logits
from fairground.training.tokenizer import tokenizer_of
from fairground.training.tokens import Tokens, tokenize, tokenize_documents

HELD_OUT = 100  # every so many-th document is measured and not learned, where no held-out text is given
MOST_HELD_OUT = 200  # documents
ENOUGH = 20  # documents; of fewer, all are learned
WATTS_PER_THREAD = 6.0  # a server core's share of its processor's power, for an estimate that is marked as one


@dataclass(frozen=True, slots=True)
class Watch:
    """What a caller may follow: what is being prepared, what it will take, each step, each measure."""

    said: Callable[[str], None] = lambda _: None
    step: Callable[[Step, int], None] = lambda _step, _steps: None
    measure: Callable[[int, float], None] = lambda _step, _bits: None
    estimate: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Teacher:
    """Whose logits a student learns, and how (see objective.Distillation and StoredDistillation).

    `stored`: whether the teacher reads the text once beforehand, and its `top_k` likeliest tokens are kept in `logits`,
    a folder (None: teacher-logits in the student's). None: where the run sees the text more than once.
    """

    name: str
    decoder: Decoder
    tokenizer: Tokenizer
    temperature: float = 1.0
    alpha: float = 0.5
    stored: bool | None = None
    top_k: int = 64
    logits: Path | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """Where the model lies, and what its training.json says."""

    folder: Path
    summary: Mapping[str, Any]


def train_model(
    recipe: Recipe,
    data: Sequence[Path],
    out: Path,
    *,
    held_out: Sequence[Path] = (),
    tokenizer: Path | None = None,
    teacher: Teacher | None = None,
    canaries: Canaries | None = None,
    threads: int | None = None,
    device: str = "cpu",
    watch: Watch | None = None,
    split: bool = False,
) -> Trained:
    """Trains the recipe's model on the data and writes its folder, which Transformers and `fairground chat` load.

    Goes on from `out`'s checkpoint if it is this run's. A new model takes `tokenizer`, the teacher's, or one that is
    trained on the data first. `canaries` are learned with the rest, never held out. Writes weights, tokenizer,
    log.jsonl, loss.svg, training.json, a card, and canaries.json where there are some. Under torchrun, all processes
    train one model together; with `split` each holds a share of it (parallel.py).

    Raises TrainingError, DataError or ConfigError before any work where something does not fit together.
    """
    watch = watch or Watch()
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out} is a file, so no model can go into it; give --out another folder.")
    together = join(split, device)
    watch = watch if together.first else Watch()
    torch.set_num_threads(threads or max(1, cores() // together.on_this_machine))
    room = Room(recipe, together, device)
    decoder, words = _model(recipe, data, tokenizer, teacher, watch, room)
    if teacher is not None:
        _same_tokens(teacher, words)
    vocabulary = decoder.config.vocab_size
    if words.vocab_size > vocabulary:
        raise ConfigError(
            f"The tokenizer knows {words.vocab_size:,} tokens, but the model has {vocabulary:,}; they do not belong "
            "together, so give the model's own tokenizer."
        )
    watch.said("tokenizing")
    tokens = tokenize(data, words)
    measured = tokenize(held_out, words) if held_out else None
    if measured is None:
        tokens, measured = _split(tokens, recipe.seed)
    if canaries is not None:
        tokens = tokens.joined(tokenize_documents(canaries.documents(), words, "The canaries"))
    recipe = recipe.settled(tokens.predictions, decoder.config.parameter_count(), new=is_new_model(recipe.model))
    stored = teacher is not None and (recipe.tokens > tokens.predictions if teacher.stored is None else teacher.stored)
    needed = room.check(decoder.config, 0 if teacher is None or stored else teacher.decoder.config.vocab_size)
    decoder = placed(decoder, getattr(torch, recipe.precision), device, together)
    objective: Objective = LanguageModelling()
    identity: dict[str, Any] = {"tokenizer": words.digest()}
    if teacher is not None:
        identity |= {"teacher": [teacher.name, teacher.temperature, teacher.alpha]}
        if stored:
            identity |= {"top_k": teacher.top_k}
        else:
            objective = Distillation(teacher.decoder, teacher.temperature, teacher.alpha)
    name = FROM_STORED if stored else objective.name
    refuse_another(out, whose(recipe, tokens, name, identity))
    # Before anything is stored: the loss from stored logits takes as long as the cross-entropy, which is there already.
    first_reads = teacher.decoder if teacher is not None and stored else None
    seconds = seconds_needed(decoder, objective, tokens, measured, recipe, out, teacher=first_reads, processes=together)
    watch.estimate(sentence(needed, seconds, device))
    if teacher is not None and stored:
        objective = stored_distillation(teacher, decoder.config, tokens, recipe, out, watch, together)
    given = beginnings(measured) if measured is not None else []
    begun = time.perf_counter()
    run = train(
        decoder,
        objective,
        tokens,
        recipe,
        out,
        measured=measured,
        identity=identity,
        progress=lambda step: watch.step(step, recipe.steps),
        measure_progress=watch.measure,
        samples=lambda model: write_samples(model, words, given),
        processes=together,
    )
    summary = summarise(recipe, decoder, tokens, run, objective, time.perf_counter() - begun)
    decoder = gathered(decoder, getattr(torch, recipe.precision), together)
    if not together.first:
        together.leave()
        return Trained(out, summary)
    # The tokenizer first and the config last, so that a folder with a config is whole.
    words.save(out)
    write_json(out / "training.json", summary)
    if canaries is not None:
        write_json(out / FILE, canaries.as_dict())
    card = model_card(out.name, summary, samples=write_samples(decoder, words, given))
    write_text(out / "README.md", card)
    loss_plot(run, out / "loss.svg", title=f"{recipe.model}: {objective.name}")
    ends = {"bos_token_id": words.bos_id, "eos_token_id": sorted(words.eos_ids)}
    write_json(out / "generation_config.json", ends)
    save(decoder.to(torch.bfloat16), out, tokens=ends)
    together.leave()
    return Trained(out, summary)


def _model(
    recipe: Recipe, data: Sequence[Path], given: Path | None, teacher: Teacher | None, watch: Watch, room: Room
) -> tuple[Decoder, Tokenizer]:
    """The float32 weights to begin with, and the tokenizer that goes with them."""
    if is_new_model(recipe.model):
        words = _tokenizer(recipe, data, given, teacher, watch)
        config = new_config(recipe.model, vocab_size=words.vocab_size, context_length=recipe.context)
        room.check(config)
        return new_decoder(config, recipe.seed), words
    if given is not None:
        raise ConfigError(f"{recipe.model} has its own tokenizer; leave --tokenizer out, or train a new model.")
    source = open_source(Path(recipe.model))
    room.check(source.config)
    loaded, words = source.load("float32"), source.tokenizer()
    longest = loaded.decoder.config.context_length
    if recipe.context > longest:
        raise ConfigError(
            f"{recipe.model} sees {longest:,} tokens, fewer than the recipe's context of {recipe.context:,}; give "
            f"--context {longest} or less."
        )
    return loaded.decoder, words


def _tokenizer(
    recipe: Recipe, data: Sequence[Path], given: Path | None, teacher: Teacher | None, watch: Watch
) -> Tokenizer:
    if given is not None:
        return Tokenizer.from_folder(given)
    if teacher is not None:
        return teacher.tokenizer
    watch.said("training a tokenizer")
    return tokenizer_of(data, recipe.vocab_size)


def _split(tokens: Tokens, seed: int) -> tuple[Tokens, Tokens | None]:
    """Learned and measured documents; nothing is measured where there are too few."""
    if len(tokens) < ENOUGH:
        return tokens, None
    count = min(MOST_HELD_OUT, -(-len(tokens) // HELD_OUT))
    chosen = np.zeros(len(tokens), dtype=bool)
    chosen[np.random.default_rng((seed, 1)).permutation(len(tokens))[:count]] = True
    return tokens.only(~chosen), tokens.only(chosen)


def stored_distillation(
    teacher: Teacher,
    student: DecoderConfig,
    tokens: Tokens,
    recipe: Recipe,
    out: Path,
    watch: Watch,
    together: Processes,
) -> StoredDistillation:
    """The objective, with what the teacher says of the text, which the first process has it say now if need be."""
    begun = time.perf_counter()

    def progress(done: int, of: int) -> None:
        rate = done / (time.perf_counter() - begun)
        watch.said(f"{teacher.name} reads, {done / of:.0%} at {rate:,.0f} tokens/s")

    def kept() -> TeacherLogits:
        return teacher_logits(
            teacher.decoder,
            tokens,
            teacher.logits or out / "teacher-logits",
            k=teacher.top_k,
            temperature=teacher.temperature,
            context=recipe.context,
            vocabulary=min(teacher.decoder.config.vocab_size, student.vocab_size),
            progress=progress,
        )

    if together.first:
        kept()
    together.wait()
    return StoredDistillation(kept(), teacher.temperature, teacher.alpha)


def _same_tokens(teacher: Teacher, words: Tokenizer) -> None:
    if teacher.tokenizer.vocabulary() != words.vocabulary():
        raise ConfigError(
            f"The student's tokenizer is not {teacher.name}'s, so its logits mean other tokens; give the student that "
            "tokenizer, or let the teacher write instead (--objective sequence)."
        )


def summarise(
    recipe: Recipe, decoder: Decoder, tokens: Tokens, run: Run, objective: Objective, seconds: float
) -> dict[str, Any]:
    """What training.json says. Energy is an estimate by threads and time, in watt-hours."""
    learned = run.steps[-1].tokens if run.steps else 0
    speeds = sorted(step.tokens_per_s for step in run.steps)
    shares = sorted(step.share for step in run.steps)
    spent = sum(recipe.batch_tokens / step.tokens_per_s for step in run.steps)
    threads = torch.get_num_threads() * count()
    return {
        "recipe": recipe.as_dict(),
        "objective": objective.name,
        "parameters": decoder.config.parameter_count(),
        "text": {"documents": len(tokens), "predictions": tokens.predictions, "sha256": tokens.digest()},
        "tokens": learned,
        "passes": learned / tokens.predictions,
        "bits_per_byte": {str(step): bits for step, bits in run.bits_per_byte.items()},
        "final_loss": run.steps[-1].loss if run.steps else None,
        "tokens_per_s": speeds[len(speeds) // 2] if speeds else None,
        "share_of_matrix_rate": shares[len(shares) // 2] if shares else None,
        "step_seconds": spent,
        "this_call_seconds": seconds,
        "threads": threads,
        "energy_wh_estimated": spent * threads * WATTS_PER_THREAD / 3600,
    }
