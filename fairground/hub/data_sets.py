"""Data sets from a hub: `hf:ORG/NAME[@REVISION][:FILES]`, fetched and verified as models are."""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import quote

from fairground.errors import DownloadError
from fairground.hub.catalogue import Repository, Target, hub_folder, repository_parts
from fairground.hub.home import model_folder, pulling
from fairground.hub.listing import Listing, RemoteFile
from fairground.hub.manifest import Progress, intact, read_manifest
from fairground.hub.pull import from_hub, move_into_place, unwatched
from fairground.hub.transport import Notice

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".txt")


def pull_data(ref: str, *, progress: Progress | None = None, notice: Notice | None = None) -> Path:
    """Fetches and verifies a data set's files; returns the folder that holds them and nothing else to learn from.

    FILES is a pattern of paths, as in `hf:org/name:data/train_prefs-*.parquet`. Without it those that can be read here
    and have "train" in their path are taken, or all that can be read where none has. What is here already is returned
    without asking anyone. Raises UnknownModel for a malformed reference and DownloadError for everything that can go
    wrong on the way, as `pull`.
    """
    target, pattern = _target(ref)
    say = notice or logging.getLogger("fairground.hub").warning
    with pulling(ref, target.folder, say):
        final = model_folder(target.folder)
        here = read_manifest(final)
        if here is None or not intact(final, here):
            manifest = from_hub(
                target,
                lambda listing: _chosen(listing, pattern, target.name),
                progress or unwatched,
                say,
                impatient=False,
            )
            move_into_place(target, manifest)
    return final


def _target(ref: str) -> tuple[Target, str]:
    named, _, pattern = ref.removeprefix("hf:").partition(":")
    repo, revision = repository_parts(f"hf:{named}", "data set")
    folder = f"data/{hub_folder(repo, revision)}" + (f":{quote(pattern, safe='')}" if pattern else "")
    return Target(
        f"hf:{repo}@{revision}", folder, Repository(repo, revision, (), data=True), None, None, False
    ), pattern


def _chosen(listing: Listing, pattern: str, name: str) -> list[RemoteFile]:
    files = [file for file in listing.files if file.path.lower().endswith(ENDINGS)]
    if pattern:
        files = [file for file in files if fnmatchcase(file.path, pattern)]
    else:
        files = [file for file in files if "train" in file.path.lower()] or files
    if not files:
        what = f"no file {pattern}" if pattern else "no file"
        raise DownloadError(
            f"{name} has {what} that ends in {', '.join(ENDINGS)}, so it was not pulled; choose other files or another "
            "data set."
        )
    return sorted(files, key=lambda file: (file.size, file.path))
