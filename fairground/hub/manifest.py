"""`fairground.json`, the record in every pulled folder: what it is, where it came from, and each file's hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

MANIFEST = "fairground.json"
BLOCK = 1 << 20  # bytes read at a time

Source = Literal["bundled", "hub", "package"]
Progress = Callable[[str, int, int], None]  # file, bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file's size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What lies in a pulled folder.

    `origin` is the repository, the package's requirement, or the Fairground that a bundled model came with. `revision`
    and `commit` are None but for a hub. `pulled_at` is UTC in ISO 8601. `files` maps each path to its record.
    """

    name: str
    source: Source
    origin: str
    revision: str | None
    commit: str | None
    pulled_at: str
    files: dict[str, FileRecord]

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(record.size for record in self.files.values())

    @property
    def where_from(self) -> str:
        """The origin in a few words, for a list: "hub ORG/NAME@1a2b3c4", "bundled fairground==VERSION"."""
        return f"hub {self.origin}@{self.commit[:7]}" if self.commit else f"{self.source} {self.origin}"

    def write(self, folder: Path) -> None:
        """Writes the record into the folder, durably."""
        with open(folder / MANIFEST, "w", encoding="utf-8") as file:
            json.dump({"format": 1, **asdict(self)}, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's record; None where there is none or it cannot be understood (then nothing there can be trusted)."""
    try:
        table: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if table.pop("format") != 1:
            return None
        files = {
            path: FileRecord(int(record["size"]), str(record["sha256"])) for path, record in table["files"].items()
        }
        return Manifest(**{**table, "files": files})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def intact(folder: Path, manifest: Manifest) -> bool:
    """Whether every recorded file is there in its size; `verify` reads them as well."""
    for path, record in manifest.files.items():
        file = folder / path
        if not file.is_file() or file.stat().st_size != record.size:
            return False
    return True


def hash_file(path: Path, progress: Progress | None = None, name: str = "") -> str:
    """The file's SHA-256 in hexadecimal."""
    digest, done, size = hashlib.sha256(), 0, path.stat().st_size
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            if progress:
                progress(name, done, size)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes the folder's names durable, where the system can open a folder (Windows cannot)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
