"""What a repository holds at one commit, and which of its files are wanted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from fairground.errors import DownloadError
from fairground.hub.catalogue import Alternatives, Repository
from fairground.hub.transport import HubClient, HubError

_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: its size in bytes, and its SHA-256 (LFS) or else the SHA-1 of its git blob."""

    path: str
    size: int
    sha256: str | None
    blob_sha1: str | None

    @property
    def identity(self) -> str:
        """What the content is named after; equal identities are equal bytes."""
        return self.sha256 or self.blob_sha1 or ""


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file of a repository at one commit."""

    commit: str
    files: tuple[RemoteFile, ...]


def fetch_listing(client: HubClient, repository: Repository) -> Listing:
    """Asks the hub what the revision holds, with sizes and hashes.

    Raises HubError where it does not answer as a hub does, and DownloadError for a file name that would leave the
    model's folder.
    """
    path = f"/{repository.api}/revision/{quote(repository.revision, safe='')}?blobs=true"
    answer = client.get_json(path)
    try:
        commit = answer["sha"]
        files = tuple(_remote_file(sibling) for sibling in answer["siblings"])
    except (KeyError, TypeError, ValueError, AttributeError):
        files, commit = (), ""
    if not isinstance(commit, str) or not _SHA1.fullmatch(commit):
        raise HubError(
            client.name,
            f"{client.host} did not describe the repository as a hub does (commit, sizes and hashes)",
            "check HF_ENDPOINT and pull again",
        )
    for file in files:
        # One such name condemns the whole repository: nobody publishes it by accident.
        if _leaves_folder(file.path):
            raise DownloadError(
                f"{client.name} lists the file {file.path!r}, which lies outside its own folder, so nothing "
                "of it was pulled; do not use this repository."
            )
    return Listing(commit, files)


def select(listing: Listing, repository: Repository, name: str, *, allow_pickle: bool) -> list[RemoteFile]:
    """The files to pull, smallest first, so that what is wrong with a small one is seen before gigabytes are fetched.

    Raises DownloadError where the weights are only pickles and `allow_pickle` is false, where there are none, and
    where there are several .gguf files.
    """
    weights = _first_found(listing, repository.weights)
    if not weights:
        pickled = _first_found(listing, repository.pickles)
        if pickled and not allow_pickle:
            raise DownloadError(
                f"{name} has its weights only as pickles ({pickled[0].path}), which can run any code when they are "
                "loaded, so it was not pulled; add --allow-pickle if you trust its authors."
            )
        weights = pickled
    if not weights:
        raise DownloadError(
            f"{name} holds no weights that Fairground reads (safetensors or GGUF), so it was not pulled; "
            "choose a repository that does."
        )
    ggufs = [file.path for file in weights if file.path.endswith(".gguf")]
    if len(ggufs) > 1:
        raise DownloadError(
            f"{name} holds {len(ggufs)} .gguf files ({ggufs[0]}, {ggufs[1]}, …) and no reference says which, so it "
            "was not pulled; download the one you want and name it by its path."
        )
    chosen = {file.path: file for file in _matching(listing, repository.files) + weights}
    return sorted(chosen.values(), key=lambda file: (file.size, file.path))


def _first_found(listing: Listing, alternatives: Alternatives) -> list[RemoteFile]:
    for patterns in alternatives:
        if all(_matching(listing, (pattern,)) for pattern in patterns):
            return _matching(listing, patterns)
    return []


def _matching(listing: Listing, patterns: tuple[str, ...]) -> list[RemoteFile]:
    return [file for file in listing.files if any(_matches(file.path, pattern) for pattern in patterns)]


def _matches(path: str, pattern: str) -> bool:
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=True))


def _leaves_folder(path: str) -> bool:
    return (
        not path
        or path.startswith("/")
        or "\\" in path
        or re.match(r"[A-Za-z]:", path) is not None
        or any(part in {"", ".", ".."} for part in path.split("/"))
        or any(ord(character) < 32 for character in path)
    )


def _remote_file(sibling: Any) -> RemoteFile:
    """Raises KeyError, TypeError or ValueError for what is not a file with a size and a hash."""
    lfs = sibling.get("lfs") or None
    path, size = sibling["rfilename"], sibling["size"]
    identity = lfs["sha256"] if lfs else sibling["blobId"]
    hashed = (_SHA256 if lfs else _SHA1).fullmatch(identity)
    if not isinstance(path, str) or not isinstance(size, int) or size < 0 or not hashed:
        raise ValueError(sibling)
    return RemoteFile(path, size, identity if lfs else None, None if lfs else identity)
