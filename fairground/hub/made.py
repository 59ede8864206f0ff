"""Models that were made here and have a name of their own: in `$FAIRGROUND_HOME/made.json`, each with its folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fairground.errors import UnknownModel
from fairground.hub.catalogue import catalogue
from fairground.hub.home import disk_errors, home, write_whole

MADE = "made.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def made_models() -> dict[str, Path]:
    """The folder of each by its name, whether or not it is still there. Raises UnknownModel for a damaged record."""
    path = home() / MADE
    try:
        table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {str(name): Path(folder) for name, folder in table.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise UnknownModel(f"{path} cannot be read, so models made here are not known by name; move it away.") from None


def made_folder(name: str) -> Path | None:
    """Where a model of that name lies; None for a name that no model made here has.

    Raises UnknownModel where the folder is gone.
    """
    folder = made_models().get(name)
    if folder is not None and not folder.is_dir():
        raise UnknownModel(f"{name} was made in {folder}, which is not there any more; put it back, or make it again.")
    return folder


def check_name(name: str, folder: Path) -> None:
    """Raises UnknownModel for a name that is none, that the catalogue has, or that a model in another folder has."""
    if not NAME.fullmatch(name):
        raise UnknownModel(f"{name[:100]!r} cannot be a model's name; use letters, digits, dots, dashes, underscores.")
    taken = made_models().get(name)
    if name in {entry.name for entry in catalogue()} or (taken is not None and taken != folder.absolute()):
        where = f"the model in {taken}" if taken else "a model of the catalogue"
        raise UnknownModel(f"{name} is the name of {where}; give this one another with --name.")


def keep_made(name: str, folder: Path) -> None:
    """Makes `name` stand for the model in `folder`. Raises UnknownModel (see check_name); DownloadError on the disk."""
    check_name(name, folder)
    path, table = home() / MADE, {name: str(folder) for name, folder in made_models().items()}
    table[name] = str(folder.absolute())
    with disk_errors(f"{name} could not be entered in {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(table, indent=1, sort_keys=True) + "\n").encode())
