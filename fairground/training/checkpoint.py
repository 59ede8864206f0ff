"""Checkpoints: one file that holds a whole run, written so that it is either there or not.

A file is written under a temporary name, synced and renamed; the one before is deleted only then. So a run that is
killed, or a disk that fills up, leaves the last whole checkpoint.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fairground.errors import TrainingError

KEPT = "best"  # beside the checkpoints: the weights alone of the best measure
_NAME = re.compile(r"checkpoint-(\d+)\.safetensors")


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any], *, kind: str = "checkpoint"
) -> Path:
    """Writes `checkpoint-STEP.safetensors`, with `state` as JSON in its header, and removes older ones of its kind.

    Raises TrainingError where the disk is full or cannot be written; what was there before is still there.
    """
    path = folder / f"{kind}-{step}.safetensors"
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, partial, {"state": json.dumps(state)}
        )
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(folder)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        before = newest(folder)
        stands = f"the checkpoint of step {step_of(before)} stands" if before else "no checkpoint was there before"
        raise TrainingError(
            f"The checkpoint of step {step} could not be written to {folder} ({error}); {stands}. Make room and give "
            "the same command again to go on."
        ) from None
    for old in folder.glob(f"{kind}-*.safetensors*"):
        if old != path:
            old.unlink(missing_ok=True)
    return path


def newest(folder: Path) -> Path | None:
    """The checkpoint of the latest step, or None."""
    found = [path for path in folder.glob("checkpoint-*.safetensors") if _NAME.fullmatch(path.name)]
    return max(found, key=step_of, default=None)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_checkpoint` wrote. Raises TrainingError for a damaged file."""
    with _understood(path), safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
        return {name: file.get_tensor(name).clone() for name in file.keys()}, state  # noqa: SIM118


def read_state(path: Path) -> dict[str, Any]:
    """The state alone, without reading the tensors. Raises TrainingError for a damaged file."""
    with _understood(path), safe_open(path, "pt") as file:
        state: dict[str, Any] = json.loads(file.metadata()["state"])
        return state


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(
            f"{path} is damaged ({str(error)[:120]}), so the run cannot go on from it; remove the file to begin anew."
        ) from None


def step_of(path: Path) -> int:
    """The step after which a checkpoint was written."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
