"""Writing a run to a folder, whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairground.errors import FairgroundError
from fairground.evaluation.runner import Run

LEADERBOARD = "leaderboard.json"
SAMPLES = "samples.jsonl"
SCORES = "scores.jsonl"
JUDGEMENTS = "judgements.jsonl"
TIMES = "times.jsonl"


def leaderboard_text(run: Run) -> str:
    """The leaderboard as strict JSON (no NaN), indented."""
    return json.dumps(run.leaderboard, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def scores_text(run: Run) -> str:
    """The scores as JSON lines."""
    return _lines(run.scores)


def write_run(run: Run, out_dir: str | Path, files: Mapping[str, str] | None = None) -> list[Path]:
    """Writes leaderboard.json, samples.jsonl, scores.jsonl, times.jsonl and the given files (report.html and others).

    Where models judged, there is judgements.jsonl too; an earlier run's is removed. Returns their paths. What a clock
    tells is in times.jsonl and leaderboard.json alone, so that the same run gives the same bytes in the others. A new
    leaderboard.json, which comes last, says that the others are there too. Raises as `write_files`.
    """
    texts = {SAMPLES: _lines(run.samples), SCORES: scores_text(run), TIMES: _lines(run.times)}
    if run.judgements:
        texts[JUDGEMENTS] = _lines(run.judgements)
    texts.update(files or {})
    texts[LEADERBOARD] = leaderboard_text(run)
    return write_files(out_dir, texts, without=() if run.judgements else (JUDGEMENTS,))


def write_files(out_dir: str | Path, texts: Mapping[str, str], *, without: Sequence[str] = ()) -> list[Path]:
    """Writes files by their names, or their paths within the folder ("lm-eval/MODEL/results_DATE.json").

    Everything is written and synced under temporary names first and then renamed, in the order of `texts`: each file is
    whole whenever this is interrupted. Then files of the names in `without` are removed. Raises FairgroundError where
    the folder cannot be written to, and ValueError for a name that leads out of it.
    """
    for name in texts:
        if Path(name).is_absolute() or ".." in Path(name).parts or Path(name).as_posix() != name:
            raise ValueError(f"{name!r} must be a plain file name, or a path within the run's folder")
    folder = Path(out_dir)
    temporary: dict[Path, Path] = {}
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            temporary[_write_temporary(folder, Path(name).name, text)] = folder / name
        for written, path in temporary.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(written, path)
        for name in without:
            (folder / name).unlink(missing_ok=True)
        _sync(folder)
    except OSError as error:
        raise FairgroundError(
            f"The run cannot be written to {folder} ({error.strerror or error}); "
            "make room there or choose another folder."
        ) from error
    finally:
        for left in folder.glob(f".{os.getpid()}-*.tmp") if folder.is_dir() else ():
            left.unlink(missing_ok=True)
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return [folder / name for name in texts]


def _lines(objects: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n" for one in objects)


def _write_temporary(folder: Path, name: str, text: str) -> Path:
    # What a model wrote may hold half a surrogate pair; "\\udXXX" is how JSON spells that.
    with tempfile.NamedTemporaryFile(
        "w",
        dir=folder,
        prefix=f".{os.getpid()}-{name}-",
        suffix=".tmp",
        delete=False,
        encoding="utf-8",
        errors="backslashreplace",
        newline="\n",
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        # As any new file, not 0600 as temporary ones.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(file.name, 0o666 & ~umask)
    return Path(file.name)


def _sync(folder: Path) -> None:
    """Makes the renames last through a crash, where the system lets folders be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
