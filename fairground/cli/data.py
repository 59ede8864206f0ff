"""What a person names as DATA, as files on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import DownloadColumn

from fairground.cli.app import bar, err


def local_data(names: Sequence[Path]) -> list[Path]:
    """Files and folders as they are, the folder of every `hf:ORG/NAME[@REVISION][:FILES]`, fetched if need be, and
    for `votes:` the file of pairs that this arena's votes make.

    Raises UnknownModel and DownloadError as `pull_data`; DataError and StoreError where there are no votes.
    """
    return [_local(str(name), name) for name in names]


def _local(named: str, path: Path) -> Path:
    if named == "votes:":
        return _voted()
    return _pulled(named) if named.startswith("hf:") else path


def _voted() -> Path:
    """The pairs to learn from, in the state folder, by the last entry of the log; those held out lie beside them."""
    from fairground.cli.arena import arena_database, redaction
    from fairground.errors import DataError
    from fairground.hub.home import home
    from fairground.loop.preferences import LEARNED, gather, write_pairs

    with arena_database(None) as database, err.status("reading votes"):
        made = gather(database, redact=redaction())
    if not made.learned:
        raise DataError(
            f"{made.votes:,} votes give no pair to learn from; let people vote, and allow the use of texts."
        )
    folder = home() / "pairs" / f"{made.number}-{made.hash[:16]}"
    write_pairs(made, folder)
    return folder / LEARNED


def texts_of_suites() -> tuple[Mapping[str, Sequence[tuple[str, tuple[str, ...]]]], Sequence[str]]:
    """What data are compared with before training; imported only then, as reading suites takes a second."""
    from fairground.evaluation.texts import texts_of_suites as read

    return read()


def _pulled(name: str) -> Path:
    from fairground.hub.data_sets import pull_data

    with bar("{task.description}", DownloadColumn()) as shown:
        task = shown.add_task(f"pulling {name}", total=None)
        return pull_data(
            name,
            progress=lambda file, done, total: shown.update(task, description=file, completed=done, total=total),
            notice=lambda sentence: err.print(sentence, style="yellow", highlight=False),
        )
