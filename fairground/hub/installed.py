"""What is on this machine: the state of each model, where it lies, whether it is unchanged, and freeing it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fairground.errors import DownloadError, UnknownModel
from fairground.hub.catalogue import Target, resolve
from fairground.hub.home import discard, disk_errors, locked, model_folder, partial_folder
from fairground.hub.manifest import MANIFEST, Manifest, Progress, hash_file, intact, read_manifest


@dataclass(frozen=True, slots=True)
class State:
    """Whether a model is pulled, its bytes on disk (also of what does not count as pulled), and where it came from.

    `why` describes in a few words what is not pulled, where there is more to say than that nobody did.
    """

    pulled: bool
    bytes: int = 0
    where_from: str | None = None
    path: Path | None = None
    why: str = ""

    def __str__(self) -> str:
        if self.pulled:
            return f"pulled ({self.bytes / 1e6:,.0f} MB, {self.where_from})"
        return self.why or "not pulled"


def state(ref: str) -> State:
    """What is here of a catalogue name or `hf:` reference; reads no weights. Raises UnknownModel for an unknown one."""
    target = resolve(ref)
    path = model_folder(target.folder)
    manifest = read_manifest(path)
    if manifest is not None and current(target, path, manifest):
        return State(True, manifest.bytes, manifest.where_from, weights_path(path, manifest))
    partial = _bytes_on_disk(partial_folder(target.folder))
    if not target.sources:
        return State(False, partial, why="missing from this copy")
    if partial:
        return State(False, partial, why=f"not pulled ({partial / 1e6:,.0f} MB of an interrupted pull)")
    if manifest is not None and intact(path, manifest):
        return State(False, manifest.bytes, why=f"not pulled ({manifest.bytes / 1e6:,.0f} MB of another version)")
    return State(False)


def current(target: Target, folder: Path, manifest: Manifest) -> bool:
    """Whether a pulled folder may be used: its files are there and, of a bundled model, those of this installation.

    Otherwise whoever upgrades Fairground would go on measuring the models of the version before.
    """
    known = target.bundled.files if target.bundled else {}
    other = manifest.source == "bundled" and bool(known) and manifest.files != known
    return intact(folder, manifest) and not other


def locate(ref: str) -> Path | None:
    """The local folder, or the .gguf file, of a pulled model; None where it is not pulled, not known or not intact."""
    try:
        return state(ref).path
    except UnknownModel:
        return None


def weights_path(folder: Path, manifest: Manifest) -> Path:
    """What a loader is given: the single .gguf file where the model is one, else the folder."""
    ggufs = [path for path in manifest.files if path.endswith(".gguf")]
    return folder / ggufs[0] if len(ggufs) == 1 else folder


def verify(ref: str, *, progress: Progress | None = None) -> Manifest:
    """Reads every file again and compares its hash with the record of the pull, which is returned.

    Raises UnknownModel for an unknown name, and DownloadError where the model is not pulled or a file differs (names
    the first).
    """
    target = resolve(ref)
    folder = model_folder(target.folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise DownloadError(f"{ref} has not been pulled, so there is nothing to verify; run `fairground pull {ref}`.")
    with disk_errors(f"{ref} could not be read"):
        for path, record in manifest.files.items():
            file = folder / path
            if not file.is_file():
                difference = "is missing"
            elif file.stat().st_size != record.size:
                difference = f"has {file.stat().st_size} bytes instead of {record.size}"
            elif hash_file(file, progress, path) != record.sha256:
                difference = "does not match its SHA-256"
            else:
                continue
            raise DownloadError(
                f"{file} {difference}, so {ref} is no longer what was pulled; "
                f"run `fairground remove {ref}` and `fairground pull {ref}`."
            )
    return manifest


def remove(ref: str) -> int:
    """Deletes a pulled model, and what an interrupted pull left of it; returns the bytes freed.

    Raises UnknownModel for an unknown name, and DownloadError where nothing of it was pulled, where the folder is not
    one that Fairground made, or where it is being pulled at this moment.
    """
    target = resolve(ref)
    final, partial = model_folder(target.folder), partial_folder(target.folder)
    if not final.exists() and not partial.exists():
        raise DownloadError(f"{ref} has not been pulled, so nothing was removed; `fairground models` shows what is.")
    if final.exists() and not (final / MANIFEST).exists():
        raise DownloadError(
            f"{final} holds no {MANIFEST}, so Fairground did not put it there and leaves it; delete it by hand."
        )
    with disk_errors(f"{ref} could not be removed"), locked(target.folder, waiting=None):
        freed = _bytes_on_disk(final) + _bytes_on_disk(partial)
        discard(target.folder)
        shutil.rmtree(partial, ignore_errors=True)
    return freed


def _bytes_on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
