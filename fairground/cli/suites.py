"""`suite`: which suites there are, what is in one, and whether one can be read."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fairground.cli.app import Json, app, out

suite = typer.Typer(help="List, show and check suites.", no_args_is_help=True)
app.add_typer(suite, name="suite")

Path = Annotated[str, typer.Argument(metavar="SUITE", help="A suite by name, or a folder with a suite.toml.")]


@suite.command("list", epilog="Example: fairground suite list")
def list_() -> None:
    """The suites in the package."""
    from rich.table import Table

    from fairground.evaluation.suite import described

    table = Table("Suite", "What it measures", "Licence", box=None, pad_edge=False)
    for name, description, licence in described():
        table.add_row(name, description, licence)
    out.print(table)


@suite.command(epilog="Example: fairground suite show house")
def show(name: Path, as_json: Json = False) -> None:
    """The tasks of a suite: kind, items, what they count in, and how one is asked."""
    from rich.table import Table

    from fairground.evaluation.suite import load_suite

    loaded = load_suite(name)
    rows: list[dict[str, Any]] = [
        {"task": task.name, "kind": task.kind, "items": len(task.items), "shots": task.max_shots or 0,
         "counts_in": task.metric} for task in loaded.tasks
    ]  # fmt: skip
    if as_json:
        about = {"name": loaded.name, "version": loaded.version, "licence": loaded.licence, "hash": loaded.hash}
        print(json.dumps({**about, "tasks": rows}, indent=1))
        return
    said = f"{loaded.name} {loaded.version}, {loaded.licence}: {loaded.description}"
    out.print(said, soft_wrap=True, highlight=False)
    table = Table("Task", "Kind", "Items", "Shots", "Counts in", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["task"], row["kind"], str(row["items"]), str(row["shots"]), row["counts_in"] or "–")
    out.print(table)


@suite.command(epilog="Example: fairground suite check ./my-suite")
def check(name: Path) -> None:
    """Read every line of a suite; the first that is wrong is named with its file and number."""
    from fairground.evaluation.suite import load_suite

    loaded = load_suite(name)
    items = len({item.id for task in loaded.tasks for item in task.items})
    out.print(f"{loaded.name} {loaded.version}: {items:,} items in {len(loaded.tasks)} tasks, all in order.")
