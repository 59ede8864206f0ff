"""One file from a hub: continued where an earlier attempt stopped, and kept only if its hash is right."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote

import httpx2

from fairground.errors import DownloadError
from fairground.hub.catalogue import Repository
from fairground.hub.listing import RemoteFile
from fairground.hub.manifest import BLOCK, FileRecord, Progress
from fairground.hub.transport import HubClient, TransientError

_ENOUGH = 1 << 20  # bytes that make an attempt worth something, so that a cut after them is forgiven


class _Hashes:
    """The SHA-256 of a file that is still growing and, where the hub names git's blob hash, that as well."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        # Not for secrecy: it is the name that git gives to these bytes.
        self._blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def update(self, block: bytes) -> None:
        self._sha256.update(block)
        if self._file.blob_sha1:
            self._blob.update(block)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def right(self) -> bool:
        if self._file.sha256:
            return self.sha256 == self._file.sha256
        return self._blob.hexdigest() == self._file.blob_sha1


def part_path(folder: Path, file: RemoteFile) -> Path:
    """Where a file lies while it is incomplete: named after its content, so that no other version is continued."""
    return folder / f"{file.path}.{file.identity[:16]}.part"


def kept_bytes(folder: Path, file: RemoteFile) -> int:
    """How many of the file's bytes an earlier attempt left in the folder."""
    for path in (folder / file.path, part_path(folder, file)):
        if path.is_file():
            return min(path.stat().st_size, file.size)
    return 0


def download(
    client: HubClient, repository: Repository, commit: str, file: RemoteFile, folder: Path, progress: Progress
) -> FileRecord:
    """Puts one file into the folder, complete and verified, and returns its record.

    What an earlier attempt left is hashed and continued. Raises HubError where the hub gives up on us and
    DownloadError where the bytes are not those that the hub promised (they are deleted).
    """
    final, part = folder / file.path, part_path(folder, file)
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.is_file():
        # Complete in an earlier attempt, but of which version and on what disk? Reading it again settles both.
        os.replace(final, part)
    address = f"/{repository.page}/resolve/{commit}/{quote(file.path)}"
    best = part.stat().st_size if part.is_file() else 0

    def progressed() -> bool:
        nonlocal best
        size = part.stat().st_size if part.is_file() else 0
        grown = size >= best + _ENOUGH
        best = max(best, size)
        return grown

    def attempt() -> FileRecord:
        return _attempt(client, address, file, part, progress)

    record: FileRecord = client.retrying(attempt, progressed)
    os.replace(part, final)
    return record


def _attempt(client: HubClient, address: str, file: RemoteFile, part: Path, progress: Progress) -> FileRecord:
    hashes = _Hashes(file)
    with open(part, "a+b") as out:
        done = _continue_from(out.fileno(), part, file, hashes)
        progress(file.path, done, file.size)
        if done < file.size:
            headers = {"Range": f"bytes={done}-"} if done else {}
            with client.stream(address, headers) as response:
                if done and not _continues(response, done, file.size):
                    # A server without ranges (200), or one that does not know this one (416): from the beginning.
                    out.truncate(0)
                    if response.status_code != 200:
                        raise TransientError(f"{response.url.host} refused to continue {file.path}", retry_after=0.0)
                    done, hashes = 0, _Hashes(file)
                elif not done and response.status_code != 200:
                    raise TransientError(f"{response.url.host} answered {response.status_code} to a whole file")
                for chunk in response.iter_raw():
                    done += len(chunk)
                    if done > file.size:
                        break  # Already wrong; a server that never stops must not fill the disk.
                    out.write(chunk)
                    hashes.update(chunk)
                    progress(file.path, done, file.size)
        if done < file.size:
            raise TransientError(f"{file.path} ended after {done} of {file.size} bytes")
        out.flush()
        os.fsync(out.fileno())
    if done > file.size or not hashes.right:
        part.unlink()
        raise DownloadError(
            f"{file.path} of {client.name} does not match the hash that {client.host} states, so it was deleted; "
            "pull again, and if it happens twice, distrust the network or the mirror."
        )
    return FileRecord(file.size, hashes.sha256)


def _continue_from(descriptor: int, part: Path, file: RemoteFile, hashes: _Hashes) -> int:
    """Hashes what is there and returns its length; what is longer than the file can be is dropped."""
    size = part.stat().st_size
    if size > file.size:
        os.ftruncate(descriptor, 0)
        return 0
    with open(part, "rb") as earlier:
        while block := earlier.read(BLOCK):
            hashes.update(block)
    return size


def _continues(response: httpx2.Response, start: int, size: int) -> bool:
    """Whether the answer is exactly the bytes from `start` to the end."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("content-range", ""))
    return response.status_code == 206 and match is not None and int(match[1]) == start and match[3] in {str(size), "*"}
