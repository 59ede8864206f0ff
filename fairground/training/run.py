"""From a recipe and files of text to a model's folder: what `fairground train` and `fairground distill` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairground.errors import ConfigError, TrainingError
from fairground.models.assemble import Precision, save, write_json, write_text
from fairground.models.config import DecoderConfig
from fairground.models.decoder import Decoder
from fairground.models.load import open_source
from fairground.models.machine import cores
from fairground.models.tokenizer import Tokenizer
from fairground.training.adapting import Adapted, begin_lora, check_begin
from fairground.training.canaries import FILE, Canaries
from fairground.training.card import model_card
from fairground.training.contamination import Contamination, SuiteTexts, contamination
from fairground.training.estimate import Room, seconds_needed, sentence
from fairground.training.loop import Run, Step, refuse_another, train, whose
from fairground.training.objective import FROM_STORED, Distillation, LanguageModelling, Objective, StoredDistillation
from fairground.training.pairs import read_pairs, tokenize_pairs
from fairground.training.parallel import Processes, count, gathered, join, placed
from fairground.training.plot import loss_plot
from fairground.training.preference import DirectPreference
from fairground.training.recipe import Recipe
from fairground.training.samples import beginnings, write_samples
from fairground.training.sizes import is_new_model, new_config
from fairground.training.start import new_decoder
from fairground.training.teacher_logits import TeacherLogits, teacher_logits
from fairground.training.text import read_documents
from fairground.training.tokenizer import tokenizer_of
from fairground.training.tokens import Tokens, tokenize, tokenize_documents

HELD_OUT = 100  # every so many-th document is measured and not learned, where no held-out text is given
MOST_HELD_OUT = 200  # documents
ENOUGH = 20  # documents; of fewer, all are learned
WATTS_PER_THREAD = 6.0  # a server core's share of its processor's power, for an estimate that is marked as one


@dataclass(frozen=True, slots=True)
class Watch:
    """What a caller may follow: what is being prepared, what the data hold of suites, what the run will take, each step
    and measure."""

    said: Callable[[str], None] = lambda _: None
    step: Callable[[Step, int], None] = lambda _step, _steps: None
    measure: Callable[[int, float], None] = lambda _step, _bits: None
    found: Callable[[str], None] = lambda _: None
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
    suites: SuiteTexts | None = None,
    base: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
    watch: Watch | None = None,
    split: bool = False,
) -> Trained:
    """Trains the recipe's model on the data and writes its folder, which Transformers and `fairground chat` load.

    Goes on from `out`'s checkpoint if it is this run's. A new model takes `tokenizer`, the teacher's, or one that is
    trained on the data first. `canaries` are learned with the rest, never held out. `suites`: what the data are
    compared with before training (contamination.py). Writes weights, tokenizer, log.jsonl, loss.svg, training.json, a
    card, and canaries.json where there are some. With LoRA, the weights are an adapter in the format of `peft`, which
    calls its base `base` (None: as the recipe does). Under torchrun, all processes train one model together; with
    `split` each holds a share of it (parallel.py).

    Raises TrainingError, DataError or ConfigError before any work where something does not fit together.
    """
    watch = watch or Watch()
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out} is a file, so no model can go into it; give --out another folder.")
    _fit_together(recipe, teacher, canaries, split)
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
    tokens, measured = _learned_and_measured(recipe, data, held_out, words, canaries)
    recipe = recipe.settled(tokens.predictions, decoder.config.parameter_count(), new=is_new_model(recipe.model))
    stored = teacher is not None and (recipe.tokens > tokens.predictions if teacher.stored is None else teacher.stored)
    decoder = placed(decoder, getattr(torch, recipe.precision), device, together)
    adapted = begin_lora(decoder, recipe, recipe.lora, base) if recipe.lora is not None else None
    identity = _identity(words, adapted, teacher, stored)
    in_the_loop = 0 if teacher is None or stored else teacher.decoder.config.vocab_size
    needed = room.check(decoder.config, in_the_loop, trainable=adapted.trained if adapted else None)
    objective = _objective(recipe, None if stored else teacher)
    refuse_another(out, whose(recipe, tokens, FROM_STORED if stored else objective.name, identity))
    # Before anything is stored: the loss from stored logits and that of preferences take about as long as the
    # cross-entropy, which needs nothing stored.
    trial = LanguageModelling() if isinstance(objective, DirectPreference) else objective
    first_reads = teacher.decoder if teacher is not None and stored else None
    seconds = seconds_needed(decoder, trial, tokens, measured, recipe, out, teacher=first_reads, processes=together)
    watch.estimate(sentence(needed, seconds, device))
    if teacher is not None and stored:
        objective = stored_distillation(teacher, decoder.config, tokens, recipe, out, watch, together)
    found: list[Contamination] = []

    def compare() -> None:
        if suites is not None:
            watch.said("comparing the data with every suite")
            found.append(contamination(_texts(recipe, data), *suites()))
            watch.found(found[0].sentence)
        watch.said("training")

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
        ready=compare,
        progress=lambda step: watch.step(step, recipe.steps),
        measure_progress=watch.measure,
        samples=lambda model: write_samples(model, words, given),
        processes=together,
    )
    summary = summarise(recipe, decoder, tokens, run, objective, time.perf_counter() - begun)
    if found:
        summary["contamination"] = found[0].as_dict()
    summary |= adapted.summary() if adapted else {}
    decoder = gathered(decoder, getattr(torch, recipe.precision), together)
    if together.first:
        # The tokenizer first and the config last, so that a folder with a config is whole.
        words.save(out)
        write_json(out / "training.json", summary)
        if canaries is not None:
            write_json(out / FILE, canaries.as_dict())
        write_text(out / "README.md", model_card(out.name, summary, samples=write_samples(decoder, words, given)))
        loss_plot(run, out / "loss.svg", title=f"{recipe.model}: {objective.name}")
        _write_weights(decoder, words, adapted, out)
    together.leave()
    return Trained(out, summary)


def _learned_and_measured(
    recipe: Recipe, data: Sequence[Path], held_out: Sequence[Path], words: Tokenizer, canaries: Canaries | None
) -> tuple[Tokens, Tokens | None]:
    """What is learned, canaries included, and what is held out: what was given for it, or some of the data."""
    tokens = _tokens(recipe, data, words)
    tokens, measured = (tokens, _tokens(recipe, held_out, words)) if held_out else _split(tokens, recipe.seed)
    if canaries is not None:
        tokens = tokens.joined(tokenize_documents(canaries.documents(), words, "The canaries"))
    return tokens, measured


def _identity(words: Tokenizer, adapted: Adapted | None, teacher: Teacher | None, stored: bool) -> dict[str, Any]:
    """What a checkpoint must agree with beside recipe and text."""
    identity: dict[str, Any] = {"tokenizer": words.digest()}
    if adapted is not None:
        identity["base"] = adapted.sha256
    if teacher is not None:
        identity["teacher"] = [teacher.name, teacher.temperature, teacher.alpha]
        identity |= {"top_k": teacher.top_k} if stored else {}
    return identity


def _objective(recipe: Recipe, teacher: Teacher | None) -> Objective:
    """`teacher`: one that is in the loop."""
    if recipe.objective == "dpo":
        return DirectPreference(recipe.preference.beta, recipe.preference.label_smoothing)
    if teacher is not None:
        return Distillation(teacher.decoder, teacher.temperature, teacher.alpha)
    return LanguageModelling()


def _write_weights(decoder: Decoder, words: Tokenizer, adapted: Adapted | None, out: Path) -> None:
    """The adapter, or the model in bfloat16, and which tokens end a text."""
    ends = {"bos_token_id": words.bos_id, "eos_token_id": sorted(words.eos_ids)}
    write_json(out / "generation_config.json", ends)
    if adapted:
        adapted.save(decoder, out)
    else:
        save(decoder.to(torch.bfloat16), out, tokens=ends)


def _model(
    recipe: Recipe, data: Sequence[Path], given: Path | None, teacher: Teacher | None, watch: Watch, room: Room
) -> tuple[Decoder, Tokenizer]:
    """The weights to begin with, in float32 if they are trained, and the tokenizer that goes with them."""
    check_begin(recipe)
    if is_new_model(recipe.model):
        words = _tokenizer(recipe, data, given, teacher, watch)
        config = new_config(recipe.model, vocab_size=words.vocab_size, context_length=recipe.context)
        room.check(config)
        return new_decoder(config, recipe.seed), words
    if given is not None:
        raise ConfigError(f"{recipe.model} has its own tokenizer; leave --tokenizer out, or train a new model.")
    # What is not trained needs no more digits than it is computed with.
    precision: Precision = "bfloat16" if recipe.lora and recipe.precision == "bfloat16" else "float32"
    source = open_source(Path(recipe.model))
    room.check(source.config, trainable=0 if recipe.lora else None)
    loaded, words = source.load(precision), source.tokenizer()
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
    together = tokens.together
    documents = len(tokens) // together
    if documents < ENOUGH:
        return tokens, None
    count = min(MOST_HELD_OUT, -(-documents // HELD_OUT))
    chosen = np.zeros(documents, dtype=bool)
    chosen[np.random.default_rng((seed, 1)).permutation(documents)[:count]] = True
    chosen = np.repeat(chosen, together)
    return tokens.only(~chosen), tokens.only(chosen)


def _tokens(recipe: Recipe, data: Sequence[Path], words: Tokenizer) -> Tokens:
    if recipe.objective != "dpo":
        return tokenize(data, words, context=recipe.context, cut=recipe.cut)
    pairs = (pair for path in data for pair in read_pairs(path))
    return tokenize_pairs(pairs, words, ", ".join(map(str, data)), context=recipe.context, cut=recipe.cut)


def _texts(recipe: Recipe, data: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Every document's text and source, as contamination is looked for in it."""
    for path in data:
        if recipe.objective == "dpo":
            yield from ((pair.text, pair.source) for pair in read_pairs(path))
        else:
            yield from ((document.text, document.source) for document in read_documents(path))


def _fit_together(recipe: Recipe, teacher: Teacher | None, canaries: Canaries | None, split: bool) -> None:
    """Refuses what adapters are not trained with, and what preferences cannot be learned with."""
    if split and (recipe.lora or recipe.objective == "dpo"):
        what = "An adapter is trained" if recipe.lora else "Preferences are learned"
        raise TrainingError(f"{what} with a whole model in every process; leave --split out.")
    if recipe.objective != "dpo":
        return
    if is_new_model(recipe.model):
        raise TrainingError(
            f"{recipe.model} is a new model, whose answers nobody can prefer; train it on text first, or give a folder."
        )
    if teacher is not None or canaries is not None:
        what = "a teacher" if teacher is not None else "canaries"
        raise TrainingError(f"Preferences are learned from pairs of answers alone, without {what}; leave that out.")


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
        **({"held_out_pairs": dict(run.preference)} if run.preference else {}),
        **({} if run.kept is None else {"kept_step": run.kept}),
        "final_loss": run.steps[-1].loss if run.steps else None,
        "tokens_per_s": speeds[len(speeds) // 2] if speeds else None,
        "share_of_matrix_rate": shares[len(shares) // 2] if shares else None,
        "step_seconds": spent,
        "this_call_seconds": seconds,
        "threads": threads,
        "energy_wh_estimated": spent * threads * WATTS_PER_THREAD / 3600,
    }
