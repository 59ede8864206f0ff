"""`export`: what an arena gathered, as a public data set; and how commands find an arena's database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairground.cli.app import app, bar, out
from fairground.errors import StoreError

if TYPE_CHECKING:
    from fairground.store import Database

DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="Where the arena's votes are; the default is in the state folder.")
]

export = typer.Typer(help="Write what an arena gathered as a public data set.", no_args_is_help=True)
app.add_typer(export, name="export")


@export.callback()
def _export() -> None:
    pass


@export.command(epilog="Example: fairground export votes public/votes.parquet --licence CC-BY-4.0")
def votes(
    parquet: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="Its card, README.md, is written beside it.")],
    licence: Annotated[str, typer.Option("--licence", help="Under which it is given away, as SPDX names it.")],
    text: Annotated[
        bool, typer.Option("--text/--no-text", help="With the conversations that people allow to be published.")
    ] = True,
    database: DatabaseOption = None,
) -> None:
    """Write the votes in LMSYS's columns; conversations only where their person allows it, redacted."""
    from fairground.evaluation.personal_data import redacted
    from fairground.loop.export import export_votes

    with arena_database(database) as opened, bar("{task.description}") as shown:
        task = shown.add_task("writing votes", total=None)
        done = export_votes(
            opened,
            parquet,
            licence=licence,
            redact=redacted if text else None,
            progress=lambda count: shown.update(task, description=f"writing votes: {count:,}"),
        )
    said = f"{done.votes:,} votes, {done.conversations:,} with their conversation: {done.parquet} and {done.card}"
    out.print(said, highlight=False, soft_wrap=True)


@contextmanager
def arena_database(named: str | None) -> Iterator[Database]:
    """The database that was named, else the one in the state folder; one that is not there is not made."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    from fairground.hub.home import home
    from fairground.store import default_database, open_database

    url = named or default_database(home())
    try:
        address = make_url(url)
    except ArgumentError:
        raise StoreError(f"{url!r} is no address of a database; give another one.") from None
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").is_file():
        raise StoreError(f"There is no database at {address.database}; 'fairground up' makes one, or give --database.")
    with open_database(url) as database:
        yield database


def redaction() -> Callable[[str], str] | None:
    """What takes personal data out of texts; None where that part of the package is not installed."""
    from importlib.util import find_spec

    from fairground.evaluation.personal_data import redacted

    return redacted if find_spec("presidio_analyzer") else None
