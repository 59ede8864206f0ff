"""`runs` and `compare`: what was ranked before, and what changed since."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairground.cli.app import Json, app, out
from fairground.errors import FairgroundError, RequestError

if TYPE_CHECKING:
    from fairground.store import Database

DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="Where runs are kept; the default is in the state folder.")
]


@app.command(epilog="Example: fairground runs")
def runs(database: DatabaseOption = None, as_json: Json = False) -> None:
    """List the runs of `fairground rank`, the newest first."""
    from dataclasses import asdict

    from rich.table import Table

    from fairground.store import list_runs, open_database

    with open_database(_address(database)) as opened:
        found = list_runs(opened)
    if as_json:
        print(json.dumps([asdict(run) for run in found], indent=1))
        return
    if not found:
        out.print("No run yet; 'fairground rank smollm2' makes one.", highlight=False)
        return
    table = Table("Run", "Begun", "Suite", "Models", "State", box=None, pad_edge=False)
    for run in found:
        state = "finished" if run.finished else f"interrupted, {run.kept:,} outcomes kept"
        begun = datetime.fromtimestamp(run.begun).isoformat(sep=" ", timespec="minutes")
        table.add_row(run.id, begun, run.suite, ", ".join(run.models), state)
    out.print(table)


@app.command(epilog="Example: fairground compare ./rank-monday ./rank-friday")
def compare(
    before: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or a folder that rank wrote.")],
    after: Annotated[str, typer.Argument(metavar="RUN", help="The other one, of the same items.")],
    database: DatabaseOption = None,
    as_json: Json = False,
) -> None:
    """Paired differences between two runs: what rose, what fell, and what cannot be told apart."""
    from fairground.evaluation.against import change, compare_runs
    from fairground.store import open_database

    with open_database(_address(database)) as opened:
        entries = compare_runs(finished_run(opened, before), finished_run(opened, after))
    if as_json:
        print(json.dumps(entries, indent=1))
        return
    told = [entry for entry in entries if entry["significant"]]
    for entry in told:
        sentence = change(entry)
        out.print(f"{sentence[0].upper()}{sentence[1:]}.", soft_wrap=True, highlight=False)
    rest = len(entries) - len(told)
    if rest:
        out.print(f"{rest} other measure{'' if rest == 1 else 's'} did not change significantly.", highlight=False)


def _address(named: str | None) -> str:
    """The database that was named, else the one in the state folder."""
    from fairground.hub.home import home
    from fairground.store import default_database

    return named or default_database(home())


@contextmanager
def begun(url: str | None, run: Callable[[], str]) -> Iterator[Database]:
    """The database of runs. Where this ends in an error before anything was measured, it is left as it was found.

    `run` names the run that is begun, once it has a name.
    """
    from fairground.store import forget_if_empty, open_database

    address = _address(url)
    file = Path(address.removeprefix("sqlite:///")) if address.startswith("sqlite:///") else None
    new, empty = file is not None and not file.exists(), False
    try:
        with open_database(address) as database:
            try:
                yield database
            except FairgroundError:
                empty = forget_if_empty(database, run())
                raise
    finally:
        if new and empty and file is not None:
            for made in file.parent.glob(f"{file.name}*"):
                made.unlink()


def finished_run(database: Database, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Leaderboard and scores of a run by its folder or its id. Raises RequestError, or StoreError for an unknown id."""
    from fairground.evaluation.files import LEADERBOARD, SCORES
    from fairground.store import find_run

    folder = Path(name)
    if not folder.is_dir():
        return find_run(database, name)
    try:
        board = json.loads((folder / LEADERBOARD).read_text(encoding="utf-8"))
        lines = (folder / SCORES).read_text(encoding="utf-8").split("\n")
        return board, [json.loads(line) for line in lines if line]
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{folder} holds no whole run ({error}); name a folder that 'fairground rank' wrote, or a run's id."
        ) from None
