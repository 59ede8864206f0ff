"""A model that comes with Fairground: copied out of this package, so that no network is needed."""

from __future__ import annotations

from pathlib import Path

from fairground.errors import DownloadError
from fairground.hub import catalogue
from fairground.hub.catalogue import Target
from fairground.hub.copying import copy_verified
from fairground.hub.manifest import FileRecord, Progress

_REPAIR = "reinstall Fairground, or in a clone restore its files with git, and pull again"


def copy_bundled(target: Target, folder: Path, progress: Progress) -> dict[str, FileRecord]:
    """Puts the bundled model's files into the folder, each verified, and returns their records.

    Raises DownloadError where this installation lacks the model or one of its files, and where a file's hash is not the
    catalogue's.
    """
    bundled = target.bundled
    assert bundled is not None
    if not bundled.files:
        raise DownloadError(
            f"{target.name} should come with Fairground, but this copy was made without it, so it was not pulled; "
            "install a release that has it, or a newer clone, and pull again."
        )
    # The weights last, so that what is wrong with a small file is seen first.
    for name, record in sorted(bundled.files.items(), key=lambda file: file[1].size):
        path = catalogue.COMMONS / bundled.folder / name
        if not path.is_file():
            raise DownloadError(
                f"{path} is missing from this installation, so {target.name} was not pulled; {_REPAIR}."
            )
        with open(path, "rb") as source:
            right = copy_verified(source, record, folder / name, progress)
        if not right:
            raise DownloadError(
                f"{path} does not match the size and SHA-256 that Fairground recorded, so {target.name} was not "
                f"pulled; {_REPAIR}."
            )
    return bundled.files
