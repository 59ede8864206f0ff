"""`train` and `distill`: models made better, or smaller and as good."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fairground.cli.adapters import base_name, with_changes, with_lora
from fairground.cli.app import Device, Json, Opening, Threads, app, err, needs_local, out
from fairground.cli.data import local_data, texts_of_suites
from fairground.errors import RequestError

if TYPE_CHECKING:
    from fairground.training.recipe import Recipe
    from fairground.training.run import Watch

Data = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA...",
        help="Text, chats or pairs: .txt, .jsonl(.gz), .parquet, folders, hf:ORG/NAME, or votes: (this arena's).",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="The model's folder; the same command goes on where it stopped.")]
HeldOut = Annotated[
    list[Path] | None, typer.Option(help="Text to measure on, never learned (default: a hundredth of the data).")
]
Words = Annotated[Path | None, typer.Option("--tokenizer", help="A folder whose tokenizer a new model takes.")]
TokenCount = Annotated[int | None, typer.Option("--tokens", help="Tokens to learn from (default: one pass).", min=1)]
Context = Annotated[int | None, typer.Option(help="Tokens of the longest stretch.", min=2)]
Rate = Annotated[
    float | None, typer.Option("--learning-rate", help="The peak learning rate (default: by the model's size).")
]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same weights.", min=0)]
Precision = Annotated[str | None, typer.Option(help="bfloat16 or float32, of activations and products.")]
Model = Annotated[str | None, typer.Option("--model", help="Another model than the recipe's.")]
Cut = Annotated[
    bool, typer.Option("--cut", help="Cut conversations and pairs that are longer than the context, not refuse them.")
]
LoraRank = Annotated[
    int | None,
    typer.Option("--lora", metavar="RANK", help="Train an adapter of this rank (16 is usual) only."),
]
LoraAlpha = Annotated[float | None, typer.Option(help="How much the adapter counts (default: twice its rank).")]
LoraTargets = Annotated[
    list[str] | None, typer.Option(help="A layer that gets an adapter, like q_proj; may be repeated (default: all).")
]
LoraDropout = Annotated[float | None, typer.Option(help="The share of an adapter's inputs left out in training.")]
Split = Annotated[
    bool, typer.Option("--split", help="Under torchrun: each process holds a share of the model (FSDP2), not a copy.")
]
Every = Annotated[int | None, typer.Option("--checkpoint-every", help="Steps between checkpoints.", min=1)]


@app.command(epilog="Example: fairground train gpt-neo:1m books/ --tokens 500000 --out my-model")
def train(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE_OR_MODEL",
            help="A recipe.toml, FAMILY:SIZE or kneser-ney:5 for a new model, a model's name or folder.",
        ),
    ],
    data: Data,
    folder: Out,
    held_out: HeldOut = None,
    other: Model = None,
    tokenizer: Words = None,
    tokens: TokenCount = None,
    context: Context = None,
    learning_rate: Rate = None,
    seed: Seed = None,
    precision: Precision = None,
    checkpoint_every: Every = None,
    objective: Annotated[
        str | None,
        typer.Option(help="lm: the next token, of chats the answers'; dpo: pairs of answers, by preference."),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="dpo: how dear it is to leave the model that it began as (default: 0.1).")
    ] = None,
    cut: Cut = False,
    lora: LoraRank = None,
    lora_alpha: LoraAlpha = None,
    lora_targets: LoraTargets = None,
    lora_dropout: LoraDropout = None,
    gradient_checkpointing: Annotated[
        bool | None, typer.Option("--gradient-checkpointing", help="Less memory for a third more time.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many measures without an improvement; keep the best.", min=0)
    ] = None,
    canaries: Annotated[
        int, typer.Option(help="Sentences with random numbers put into the text, whose exposure rank measures.", min=0)
    ] = 0,
    repetitions: Annotated[int, typer.Option("--canary-repetitions", help="How often each stands there.", min=1)] = 10,
    split: Split = False,
    threads: Threads = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train a language model on text, from nothing or from a model's folder; or on pairs of answers (--objective dpo).

    Pairs are JSON lines or parquet of "prompt", "chosen" and "rejected", each text or messages.
    Writes weights, tokenizer, loss.svg, log.jsonl and training.json. Interrupted anywhere, the same command goes on.
    With --lora, the folder is a small adapter in peft's format, which chat, rank and serve take like a model.
    """
    with needs_local("Training"):
        from fairground.training.canaries import make_canaries
        from fairground.training.ngrams import is_ngram, train_ngram
        from fairground.training.run import train_model
    data, held_out = local_data(data), local_data(held_out or ())
    if is_ngram(model):
        if canaries:
            raise RequestError("Canaries are for models with weights, and this one counts; leave --canaries out.")
        with err.status("starting") as status:
            summary = train_ngram(
                model, data, folder, held_out=held_out, tokenizer=tokenizer, said=lambda what: status.update(what)
            )
        _tell(folder, summary, as_json)
        return
    recipe = _recipe(model, other, tokens, context, learning_rate, seed, precision, checkpoint_every, cut)
    recipe = _preferring(recipe, objective, beta)
    recipe = with_lora(recipe, lora, lora_alpha, lora_targets, lora_dropout)
    recipe = with_changes(recipe, {"gradient_checkpointing": gradient_checkpointing, "patience": patience})
    with watched(as_json) as watch:
        trained = train_model(
            recipe,
            data,
            folder,
            held_out=held_out,
            tokenizer=tokenizer,
            base=base_name(other or model),
            canaries=make_canaries(canaries, repetitions, recipe.seed) if canaries else None,
            suites=texts_of_suites,
            threads=threads,
            device=device,
            watch=watch,
            split=split,
        )
    _tell(trained.folder, trained.summary, as_json)


@app.command(epilog="Example: fairground distill ./teacher llama:1m books/ --tokens 500000 --out student")
def distill(
    teacher: Annotated[str, typer.Argument(help="The model to learn from.")],
    student: Annotated[
        str,
        typer.Argument(metavar="STUDENT", help="A recipe.toml, FAMILY:SIZE for a new model, a model's name or folder."),
    ],
    data: Data,
    folder: Out,
    objective: Annotated[
        str, typer.Option(help="logits: learn the teacher's probabilities; sequence: learn what it writes.")
    ] = "logits",
    temperature: Annotated[
        float, typer.Option(help="Of both models' probabilities (logits), or of its writing.")
    ] = 1.0,
    alpha: Annotated[float, typer.Option(help="Share of the teacher in the loss; the rest is the data's.")] = 0.5,
    stored: Annotated[
        bool | None,
        typer.Option(
            "--stored/--online",
            help="The teacher reads the text once beforehand, or every time (default: stored for several passes).",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(help="Likeliest tokens that are stored; the others are one.", min=1)] = 64,
    logits: Annotated[
        Path | None, typer.Option(help="The folder of what is stored, for several students (default: in --out).")
    ] = None,
    held_out: HeldOut = None,
    other: Model = None,
    tokenizer: Words = None,
    tokens: TokenCount = None,
    context: Context = None,
    learning_rate: Rate = None,
    seed: Seed = None,
    precision: Precision = None,
    checkpoint_every: Every = None,
    cut: Cut = False,
    split: Split = False,
    threads: Threads = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Teach a smaller model what a larger one knows.

    With logits, both need one tokenizer, and DATA is text; over several passes the teacher reads it once, and what it
    said stays in teacher-logits beside the student, which may be deleted in the end. With sequence, DATA is JSON lines
    of {"prompt": …}, which the teacher answers first; what it wrote is kept as written.jsonl beside the student.
    """
    with needs_local("Training"):
        from fairground.training.run import Teacher, train_model
        from fairground.training.sizes import is_new_model
    if objective not in ("logits", "sequence"):
        raise RequestError(f"There is no objective {objective!r}; choose logits or sequence.")
    if objective == "sequence" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RequestError(
            "Several processes cannot let one teacher write; give this command once without torchrun, which may be "
            "ended when written.jsonl is there, and train the student on that file."
        )
    data, held_out = local_data(data), local_data(held_out or ())
    recipe = _recipe(student, other, tokens, context, learning_rate, seed, precision, checkpoint_every, cut)
    opening = Opening(threads, device, deterministic=False, allow_pickle=False)
    taught: Teacher | None = None
    if objective == "sequence":
        data = [_written(opening, teacher, data, folder, temperature)]
        if tokenizer is None and is_new_model(recipe.model) and (path := opening.path(teacher)).is_dir():
            tokenizer = path
    else:
        decoder, words = opening.weights(teacher)
        taught = Teacher(teacher, decoder, words, temperature, alpha, stored, top_k, logits)
    with watched(as_json) as watch:
        trained = train_model(
            recipe,
            data,
            folder,
            held_out=held_out,
            tokenizer=tokenizer,
            teacher=taught,
            suites=texts_of_suites,
            threads=threads,
            device=device,
            watch=watch,
            split=split,
        )
    _tell(trained.folder, trained.summary, as_json)


def _recipe(
    named: str,
    other: str | None,
    tokens: int | None,
    context: int | None,
    learning_rate: float | None,
    seed: int | None,
    precision: str | None,
    checkpoint_every: int | None,
    cut: bool,
) -> Recipe:
    """The recipe that a name or file stands for, with what the command line changes."""
    from dataclasses import replace

    from fairground.training.recipe import read_recipe

    opening = Opening(None, "cpu", deterministic=False, allow_pickle=False)

    def model(name: str) -> str:
        return name if ":" in name else str(opening.path(name))

    changes: dict[str, Any] = {
        "model": None if other is None else model(other),
        "tokens": tokens,
        "context": context,
        "seed": seed,
        "precision": precision,
        "checkpoint_every": checkpoint_every,
        "cut": cut or None,
    }
    recipe = read_recipe(named if named.endswith(".toml") else model(named), changes)
    if other is None and named.endswith(".toml"):
        recipe = replace(recipe, model=model(recipe.model))
    if learning_rate is None:
        return recipe
    return replace(recipe, optimiser=replace(recipe.optimiser, learning_rate=learning_rate))


def _preferring(recipe: Recipe, objective: str | None, beta: float | None) -> Recipe:
    """The recipe with another objective or β, where the command line gives them."""
    from dataclasses import replace

    if objective is not None:
        recipe = replace(recipe, objective=objective)
    if beta is not None:
        recipe = replace(recipe, preference=replace(recipe.preference, beta=beta))
    return recipe


def _written(opening: Opening, teacher: str, prompts: list[Path], folder: Path, temperature: float) -> Path:
    from fairground.cli.app import bar
    from fairground.hub.reference import parse
    from fairground.training.writing import read_prompts, write
    from fairground.types import Sampling

    asked = [prompt for path in prompts for prompt in read_prompts(path)]
    reference = parse(teacher)
    opening.fetch(reference)
    generator = opening.open(reference)
    path = folder / "written.jsonl"
    try:
        with bar("{task.description}") as shown:
            task = shown.add_task(f"{teacher} writes", total=len(asked))
            sampling = Sampling(temperature=temperature, top_k=50, top_p=0.95)
            write(generator, asked, path, sampling, progress=lambda done, _: shown.update(task, completed=done))
    finally:
        generator.close()
    return path


@contextmanager
def watched(quiet: bool) -> Iterator[Watch]:
    """A bar with loss and speed where somebody watches, and a line for each measure."""
    from fairground.training.run import Watch

    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), TimeRemainingColumn()]
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as shown:
        task = shown.add_task("training", total=None, now="")

        def step(done: Any, steps: int) -> None:
            now = f"loss {done.loss:.3f}  {done.tokens_per_s:,.0f} tokens/s  {done.share:.0%} of the machine"
            shown.update(task, completed=done.step, total=steps, now=now)

        def measured(at: int, bits: float) -> None:
            if not quiet:
                out.print(f"step {at:>6}: {bits:.3f} bits per byte on held-out text", highlight=False)

        yield Watch(
            said=lambda what: shown.update(task, description=what),
            step=step,
            measure=measured,
            found=lambda said: err.print(said, highlight=False, soft_wrap=True),
            estimate=lambda sentence: None if quiet else out.print(sentence, highlight=False),
        )


def _tell(folder: Path, summary: Mapping[str, Any], as_json: bool) -> None:
    if os.environ.get("RANK", "0") != "0":  # one process of several that torchrun started speaks
        return
    if as_json:
        print(json.dumps({"folder": str(folder), **summary}, indent=1))
        return
    bits = summary["bits_per_byte"]
    last = [bits[str(kept)]] if (kept := summary.get("kept_step")) is not None else list(bits.values())[-1:]
    speed = f" at {summary['tokens_per_s']:,.0f} tokens/s" if summary["tokens_per_s"] else ""
    measured = f", {last[0]:.3f} bits per byte on held-out text" if last else ""
    adapter = f"{trained:,} beside " if (trained := summary.get("trained_parameters")) else ""
    out.print(
        f"{adapter}{summary['parameters']:,} parameters learned from {summary['tokens']:,} tokens "
        f"({summary['passes']:.1f} passes){speed}{measured}.",
        highlight=False,
    )
    plot = f", its loss {folder / 'loss.svg'}" if (folder / "loss.svg").exists() else ""
    out.print(f"The model is {folder}{plot}.", highlight=False, soft_wrap=True)
    path = folder if folder.is_absolute() else f"./{folder}"
    out.print(f"Try next:\n  fairground chat {path}\n  fairground rank {path} smollm2", highlight=False, soft_wrap=True)
