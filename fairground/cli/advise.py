"""`advise`: whether examples in the prompt or a short training are worth it, measured."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairground.cli.app import Device, Json, Opening, Threads, app, bar, needs_local, out
from fairground.cli.refine import watched
from fairground.errors import CapabilityError, RequestError

if TYPE_CHECKING:
    from fairground.hub.reference import Reference
    from fairground.loop.advice import Item, Split, Way


@app.command(epilog="Example: fairground advise smollm2 answers.jsonl --shots 5")
def advise(
    model: Annotated[str, typer.Argument(help="The model that is to do better.")],
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="JSON lines: messages, prompt and completion, or question, choices, gold."),
    ],
    shots: Annotated[int, typer.Option(help="Solved examples in the prompt, as far as they fit.", min=1)] = 5,
    lora: Annotated[int, typer.Option(help="The adapter's rank.", min=1)] = 16,
    passes: Annotated[float, typer.Option(help="Over the items that are not held out.")] = 3.0,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The peak.")] = 5e-4,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Keep the adapter there (default: it is thrown away).")
    ] = None,
    threads: Threads = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Say whether a model needs examples in its prompt, training, or neither, on your own questions and answers.

    Three items in ten are held out. On them the model is measured as it is, with solved examples before the question,
    and after a short training of an adapter on the rest; each two are compared by a paired test, corrected for how many
    there are. What is not significantly better is not worth its cost.
    """
    with needs_local("Training"):
        import fairground.training.run  # noqa: F401
    from fairground.hub.reference import parse
    from fairground.loop.advice import advise as judge
    from fairground.loop.advice import read_items, split

    parts = split(read_items(data))
    reference = parse(model)
    if reference.kind not in ("catalogue", "path"):
        raise RequestError(f"{model} has no weights here that could learn; name a model on this machine.")
    settings = Opening(threads, device, deterministic=False, allow_pickle=False)
    settings.fetch(reference)
    with ExitStack() as stack:
        where = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairground-")))
        ways, used, batch = _untrained(settings, reference, parts, shots)
        cost = _train(settings, reference, parts, where, (lora, passes, learning_rate, batch), threads, as_json)
        trained = _measured(settings, parse(str((where / "adapter").absolute())), "LoRA", parts.measured)
    ways.append(trained)
    found = judge(ways)
    extra = ways[1].prompt_tokens - ways[0].prompt_tokens if used else None
    costs = {"shots": used, "extra_prompt_tokens": extra, **cost}
    if as_json:
        rows = [{"way": way.name, **{m: way.interval(m).as_json() for m in way.values}} for way in ways]
        told = {"advice": found.way, "measure": found.measure, "sentence": found.sentence}
        print(json.dumps({**told, "ways": rows, "comparisons": list(found.comparisons), "costs": costs}, indent=1))
        return
    _table(ways, parts, costs)
    out.print(found.sentence, highlight=False, soft_wrap=True)
    if folder is not None:
        out.print(f"The adapter is {folder / 'adapter'}.", highlight=False, soft_wrap=True)


def _untrained(settings: Opening, reference: Reference, parts: Split, wanted: int) -> tuple[list[Way], int, int]:
    """The model as it is, and with examples where some fit; how many, and the tokens of a step of training."""
    from fairground.loop.advice import batch_tokens, fitting_shots, measure

    model: Any = settings.open(reference)
    try:
        if not hasattr(model, "prompt_tokens"):
            raise CapabilityError(f"{reference.name} cannot be trained as an adapter; name a model with weights.")
        shots = fitting_shots(model, parts, wanted, model.info.can.context_length)
        ways = []
        for name, shown in (("zero-shot", []), *((("few-shot", shots),) if shots else ())):
            with bar("{task.description}") as bars:
                task = bars.add_task(f"{reference.name}, {name}", total=None)
                ways.append(measure(name, model, model, parts.measured, shown, partial(bars.advance, task)))
        return ways, len(shots), batch_tokens(model, parts.shown)
    finally:
        model.close()


def _measured(settings: Opening, reference: Reference, name: str, items: Sequence[Item]) -> Way:
    from fairground.loop.advice import measure

    model: Any = settings.open(reference)
    try:
        with bar("{task.description}") as bars:
            task = bars.add_task(name, total=None)
            return measure(name, model, model, items, (), partial(bars.advance, task))
    finally:
        model.close()


def _train(
    settings: Opening,
    reference: Reference,
    parts: Split,
    where: Path,
    how: tuple[int, float, float, int],
    threads: int | None,
    quiet: bool,
) -> dict[str, float]:
    """Trains the adapter in `where`/adapter; what that took: minutes, the process's peak in MB, and its size in MB."""
    import resource

    from fairground.cli.adapters import base_name
    from fairground.loop.preferences import write_file
    from fairground.models.load import open_source
    from fairground.training.recipe import recipe_of
    from fairground.training.run import train_model

    rank, passes, rate, batch = how
    path = settings.path(reference.name.partition("#")[0])
    learned = where / "learned.jsonl"
    lines = [json.dumps(item.as_chat(), ensure_ascii=False) + "\n" for item in parts.shown]
    write_file(learned, "".join(lines).encode())
    recipe = recipe_of(
        {
            "model": str(path),
            "passes": passes,
            "batch_tokens": batch,
            "context": min(1024, open_source(path).config.context_length),
            "cut": True,
            "evaluate_every": 0,
            "lora": {"rank": rank},
            "optimiser": {"learning_rate": rate, "warmup": 0.1},
        }
    )
    begun = time.perf_counter()
    with watched(quiet) as watch:
        base = base_name(reference.target)
        train_model(
            recipe, [learned], where / "adapter", base=base, threads=threads, device=settings.device, watch=watch
        )
    size = sum(file.stat().st_size for file in (where / "adapter").glob("adapter_model*")) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"minutes": (time.perf_counter() - begun) / 60, "peak_mb": peak, "adapter_mb": size}


def _table(ways: Sequence[Way], parts: Split, costs: dict[str, Any]) -> None:
    from rich.table import Table

    from fairground.loop.advice import LOGLIK

    title = f"{len(parts.measured)} held-out items, {len(parts.shown)} to show or to learn from"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    measures = list(ways[0].values)
    for head in ("Way", *(f"{m}{', nats per token' if m == LOGLIK else ' %'}" for m in measures), "Costs"):
        table.add_column(head, justify="left" if head in ("Way", "Costs") else "right")
    dear = {
        "zero-shot": f"{ways[0].prompt_tokens:.0f} prompt tokens a request",
        "few-shot": f"{costs['extra_prompt_tokens'] or 0:.0f} more tokens a request ({costs['shots']} examples)",
        "LoRA": f"{costs['minutes']:.1f} minutes once, {costs['peak_mb']:,.0f} MB at most; "
        f"{costs['adapter_mb']:.1f} MB to keep",
    }
    for way in ways:
        cells = []
        for measure in measures:
            found = way.interval(measure)
            factor, digits = (1, 2) if measure == LOGLIK else (100, 0)
            low, high = factor * found.low, factor * found.high
            cells.append(f"{factor * found.value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
        table.add_row(way.name, *cells, dear[way.name])
    out.print(table)
    if not costs["shots"]:
        out.print("No example fits into the model's context with the longest item, so none were shown.")
