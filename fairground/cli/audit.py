"""`audit`: whether the log of votes is whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import TextColumn

from fairground.cli.app import Json, app, bar, out
from fairground.cli.arena import DatabaseOption, arena_database
from fairground.errors import RequestError, StoreError
from fairground.hub.home import write_whole

if TYPE_CHECKING:
    from fairground.store import Database

REMEMBERED = "audited.json"  # in the state folder: by database, the last entry that an audit found whole


@app.command(epilog="Example: fairground audit --head 812:3f9c…")
def audit(
    heads: Annotated[
        list[str] | None,
        typer.Option("--head", metavar="NUMBER:HASH", help="An entry that must be there, as a vote's receipt has it."),
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Take the log as it is, whatever was remembered of an earlier audit.")
    ] = False,
    database: DatabaseOption = None,
    as_json: Json = False,
) -> None:
    """Verify the log of votes: every hash, every link, and that no entry is missing at the end.

    The last entry is remembered in the state folder, and the next audit holds the log to it. Where votes became models,
    it verifies that each step builds on the one before, and that the files it names are what they were. Exits with 1
    where the log is broken or a file was changed, and says where.
    """
    from fairground.hub.made import made_models
    from fairground.loop.audit import audit as verify

    given = dict(_head(text) for text in heads or ())
    with arena_database(database) as opened, bar("{task.description}", TextColumn("{task.fields[said]}")) as shown:
        task = shown.add_task("verifying", total=None, said="")
        remembered = {} if forget else _remembered(opened)
        for number, digest in remembered.items():
            if given.setdefault(number, digest) != digest:
                raise RequestError(f"An earlier audit found entry {number} with another hash than --head says.")
        try:
            found = verify(
                opened,
                given,
                folders=made_models(),
                progress=lambda count: shown.update(task, said=f"{count:,} entries"),
            )
        except OSError as error:
            raise StoreError(f"{error.filename} cannot be read ({error.strerror}), so nothing is verified.") from error
        if found.broken is None and found.number is not None and found.hash is not None:
            _remember(opened, found.number, found.hash)
    if as_json:
        print(json.dumps({"whole": found.broken is None, **asdict(found)}, indent=1, default=str))
    elif found.broken is not None:
        out.print(f"The log is broken at entry {found.broken.number}: {found.broken.said}.", soft_wrap=True)
    elif found.number is None:
        out.print("The log has not begun; 'fairground up' begins it.")
    else:
        held = f", and still holds {len(given)} remembered" if given else ""
        out.print(f"The log is whole: {found.entries:,} entries, {found.votes:,} of them votes{held}.", highlight=False)
        if found.steps:
            there = f"{found.files - len(found.changed):,} of {found.files:,} named files that are here are unchanged"
            said = f"Of votes that became models: {found.steps:,} steps, each on the one before; {there}."
            out.print(said, highlight=False, soft_wrap=True)
        for changed in found.changed:
            said = f"{changed.path} is not the file that entry {changed.number} names: its hash is another."
            out.print(said, highlight=False, soft_wrap=True)
        out.print(
            f"Its head, for --head later or elsewhere: {found.number}:{found.hash}", highlight=False, soft_wrap=True
        )
    if found.broken is not None or found.changed:
        raise typer.Exit(1)


def _head(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise RequestError(f"{text!r} is no head of a log; give NUMBER:HASH, with the 64 digits of the hash.")
    return int(number), digest


def _file() -> Path:
    from fairground.hub.home import home

    return home() / REMEMBERED


def _all() -> dict[str, dict[str, str]]:
    path = _file()
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    except (OSError, ValueError, TypeError):
        raise StoreError(
            f"{path} cannot be read, so it is not known what earlier audits found; move it away."
        ) from None


def _remembered(database: Database) -> dict[int, str]:
    """The entry that the last audit of this database ended with, if there was one."""
    return {int(number): digest for number, digest in _all().get(_name(database), {}).items()}


def _remember(database: Database, number: int, digest: str) -> None:
    path, known = _file(), _all()
    known[_name(database)] = {str(number): digest}
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(path, json.dumps(known, indent=1, sort_keys=True).encode())
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}), so this audit is not remembered.") from error


def _name(database: Database) -> str:
    """The database's address, without its password."""
    url = database.url
    if url.get_backend_name() == "sqlite" and url.database:
        return f"sqlite:///{Path(url.database).resolve()}"
    return url.render_as_string(hide_password=True)
