"""API keys: who may ask a server that other machines can reach. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fairground.errors import RequestError

PREFIX = "fg-"
BYTES = 32  # of randomness: nobody guesses so much, so that a plain hash is enough to keep a key


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept: whose it is, its SHA-256, and when it was made (seconds since the epoch)."""

    name: str
    sha256: str
    made: int


def read_keys(path: Path) -> list[Key]:
    """The keys in a file; none where there is no file. Raises RequestError for one that `add_key` did not write."""
    try:
        return [Key(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []
    except (OSError, ValueError, TypeError):
        raise RequestError(f"{path} is not a file of keys; move it away and make the keys anew.") from None


def add_key(path: Path, name: str) -> str:
    """Makes a key for `name` and gives it: this once, since only its hash is kept. Raises RequestError for a name that
    is empty or taken."""
    keys = read_keys(path)
    if not name.strip() or not name.isprintable():
        raise RequestError("A key needs a name that says whose it is; give one.")
    if any(key.name == name for key in keys):
        raise RequestError(f"{name} has a key already; remove it first, or choose another name.")
    made = PREFIX + secrets.token_urlsafe(BYTES)
    _write(path, [*keys, Key(name, _hash(made), int(time.time()))])
    return made


def remove_key(path: Path, name: str) -> None:
    """Raises RequestError where there is no key of that name."""
    keys = read_keys(path)
    if all(key.name != name for key in keys):
        raise RequestError(f"There is no key of {name}; `fairground keys list` shows whose there are.")
    _write(path, [key for key in keys if key.name != name])


class Gate:
    """Knows which keys open a server. Looked up by hash, so that the time it takes tells nothing of a key."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._names = {key.sha256: key.name for key in keys}

    def owner(self, authorization: str) -> str | None:
        """Whose key an Authorization header holds; None for none that is known."""
        scheme, _, key = authorization.partition(" ")
        return self._names.get(_hash(key.strip())) if scheme.lower() == "bearer" else None


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _write(path: Path, keys: Sequence[Key]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump([asdict(key) for key in keys], file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
