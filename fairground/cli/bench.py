"""`bench`: how fast a model runs here."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from fairground.cli.app import AllowPickle, Device, Json, Opening, Threads, app, err, needs_local, out
from fairground.errors import CapabilityError


@app.command(epilog="Example: fairground bench smollm2#int4")
def bench(
    model: Annotated[str, typer.Argument(help="The model to measure.")],
    prompt_tokens: Annotated[int, typer.Option(help="Of the prompt that prefill is measured with.", min=16)] = 512,
    output_tokens: Annotated[int, typer.Option(help="Of each answer.", min=8)] = 64,
    repeats: Annotated[int, typer.Option(help="Medians of so many runs are told.", min=1)] = 3,
    threads: Threads = None,
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    as_json: Json = False,
) -> None:
    """Measure a model's speed, beside what this machine's memory and arithmetic allow."""
    from fairground.hub.reference import parse

    reference = parse(model)
    if reference.kind not in ("catalogue", "path"):
        raise CapabilityError(f"{model} does not run on this machine, so its speed here cannot be measured.")
    settings = Opening(threads, device, False, allow_pickle)
    with needs_local("Measuring models here"):
        from fairground.engine.bench import bench as measure
        from fairground.engine.local import LocalGenerator
    settings.fetch(reference)

    def load() -> LocalGenerator:
        opened = settings.open(reference)
        if not isinstance(opened, LocalGenerator):
            opened.close()
            raise CapabilityError(f"{model} is not made of matrices, which is what is measured here; give another.")
        return opened

    with err.status("starting") as status:
        found = measure(
            load,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            repeats=repeats,
            said=lambda what: status.update(what),
        )
    if as_json:
        print(json.dumps(found, indent=1))
        return
    _tell(found)


def _tell(found: dict[str, Any]) -> None:
    fractions, limits = found["fraction_of_limit"], found["limits"]
    out.print(f"{found['model']}, {found['precision']}, on {found['threads']} threads", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "tokens per s", "of the limit"):
        table.add_column(heading, justify="right" if heading else "left")
    rows = [(f"reading {found['prompt_tokens']} tokens", found["prefill_tokens_per_s"], fractions["prefill"])]
    rows += [("writing, one answer", found["decode_tokens_per_s"], fractions["decode"])]
    rows += [(f"writing, {n} answers at a time", rate, fractions[n]) for n, rate in found["batched"].items()]
    for label, rate, fraction in rows:
        table.add_row(label, f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}", f"{fraction:.0%}")
    out.print(table)
    alone, beside = found["ttft_ms"].values()
    out.print(
        f"First token after {alone:.0f} ms alone, {beside:.0f} ms beside eight other answers. Ready in "
        f"{found['load_s']:.1f} s, {found['memory_mb']:,.0f} MB of memory in all.\nThis machine reads the weights at "
        f"{limits['read_gb_per_s']:.0f} GB/s and multiplies at {limits['matmul_gflop_per_s']:,.0f} GFLOP/s; the limit "
        "is the slower of the two.",
        highlight=False,
    )
