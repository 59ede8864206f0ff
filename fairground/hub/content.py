"""What a model is made of, as one hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fairground.errors import UnknownModel

PIECE = 1 << 20


def content_hash(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's files by their names and content. Raises UnknownModel for none."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise UnknownModel(f"There is no model at {path}; check the path.")
    whole = hashlib.sha256()
    for file in files:
        own = hashlib.sha256()
        with file.open("rb") as opened:
            while piece := opened.read(PIECE):
                own.update(piece)
        name = file.name if file == path else file.relative_to(path).as_posix()
        whole.update(f"{name} {own.hexdigest()}\n".encode())
    return whole.hexdigest()
