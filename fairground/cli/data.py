"""What a person names as DATA, as files on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import DownloadColumn

from fairground.cli.app import bar, err


def local_data(names: Sequence[Path]) -> list[Path]:
    """Files and folders as they are, and the folder of every `hf:ORG/NAME[@REVISION][:FILES]`, fetched if need be.

    Raises UnknownModel and DownloadError as `pull_data`.
    """
    return [_pulled(str(name)) if str(name).startswith("hf:") else name for name in names]


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
