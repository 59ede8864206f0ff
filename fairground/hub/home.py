"""The state folder: where it is, how it is laid out, and the lock that keeps two pulls of one model apart.

    $FAIRGROUND_HOME/models/NAME/              a model that was pulled, complete and verified
    $FAIRGROUND_HOME/models/hf/ORG--NAME@REV/  the same, from an `hf:` reference
    $FAIRGROUND_HOME/models/data/hf/…           a data set from an `hf:` reference
    $FAIRGROUND_HOME/models/.partial/…         a pull under way or interrupted; never counts as pulled
    $FAIRGROUND_HOME/models/.removed/…         a model on its way out
    $FAIRGROUND_HOME/models/.locks/…           empty files, locked while a model is pulled or removed

`.partial` lies beside the models, so that a finished folder is moved into place by one rename on one file system.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from fairground.errors import DownloadError


def home() -> Path:
    """`$FAIRGROUND_HOME`, or the platform's user data folder. It may not exist yet."""
    chosen = os.environ.get("FAIRGROUND_HOME")
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_data_dir("fairground", False))


def models_folder() -> Path:
    """The folder that holds every pulled model. It may not exist yet."""
    return home() / "models"


def model_folder(folder: str) -> Path:
    """Where a finished model lies; `folder` is a `Target`'s."""
    return models_folder() / folder


def partial_folder(folder: str) -> Path:
    """Where the same model is put together while it is pulled."""
    return models_folder() / ".partial" / folder


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turns what the file system refuses into DownloadError; `what` begins the sentence: "NAME could not be pulled"."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
            raise DownloadError(
                f"{what} because the disk is full; free some space, or set FAIRGROUND_HOME to another disk, and try "
                "again (a pull continues where it stopped)."
            ) from None
        raise DownloadError(
            f"{what} because of {error.filename or 'the disk'}: {error.strerror or error}; check the state folder, or "
            "set FAIRGROUND_HOME to one that you may write, and try again."
        ) from error


def discard(folder: str) -> None:
    """Deletes a finished model, if there is one.

    It is renamed first, so that an interrupted removal never leaves half a model where a whole one is looked for.
    """
    final, doomed = model_folder(folder), models_folder() / ".removed" / folder
    shutil.rmtree(doomed, ignore_errors=True)
    if final.exists():
        doomed.parent.mkdir(parents=True, exist_ok=True)
        os.replace(final, doomed)
        shutil.rmtree(doomed)


@contextmanager
def locked(folder: str, waiting: Callable[[], None] | None) -> Iterator[None]:
    """Holds the one lock of a model; the system lets go of it when the process ends, however it ends.

    Where another process or thread holds it, calls `waiting` once and waits; with `waiting` None, raises DownloadError
    instead.
    """
    path = models_folder() / ".locks" / f"{folder}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file stays: deleting it would let a third process lock a new file while a second still holds the old one.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        told = False
        while not _try_lock(descriptor):
            if waiting is None:
                raise DownloadError(
                    f"The model in {model_folder(folder)} is being pulled by another process, so it was left alone; "
                    "end that pull or wait for it, and try again."
                )
            if not told:
                waiting()
                told = True
            time.sleep(0.1)  # Polling, because a blocking lock cannot be interrupted by ctrl-C everywhere.
        yield
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def pulling(ref: str, folder: str, say: Callable[[str], None]) -> Iterator[None]:
    """The lock under which a pull into the state folder's `folder` works, and its errors of the disk."""
    with (
        disk_errors(f"{ref} could not be pulled"),
        locked(folder, lambda: say(f"Waiting for another pull of {ref} to end.")),
    ):
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all. Raises OSError, and then nothing is left."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
