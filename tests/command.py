"""Running the installed command: in this process, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fairground import cli

COMMAND = Path(sys.executable).with_name("fairground")


@dataclass(frozen=True)
class Ran:
    """What a run of the command left behind."""

    status: int
    out: str
    err: str
    wrote: bool

    def refused(self, *named: str) -> None:
        """Asserts that it was refused in one sentence that names all of `named`."""
        assert self.status == 2, self.err
        assert self.err.startswith("fairground: "), self.err
        assert self.err.endswith(".\n"), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        for part in named:
            assert part in self.err, self.err
        assert self.out == ""
        assert not self.wrote


Command = Callable[..., Ran]


def listing(*folders: Path) -> dict[str, tuple[int, int]]:
    found = [path for folder in folders for path in sorted(folder.rglob("*"))]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def in_this_process(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, in a folder of its own; importing torch anew for each case would take minutes."""
    home, here = folder / "home", folder / "here"
    home.mkdir(), here.mkdir()
    monkeypatch.setenv("FAIRGROUND_HOME", str(home))
    monkeypatch.chdir(here)

    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # threads that spin for each other are slow beside other processes

    def run(*arguments: str) -> Ran:
        before = listing(home, here)
        monkeypatch.setattr(sys, "argv", ["fairground", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Ran(int(ended.value.code or 0), out, err, listing(home, here) != before)

    return run


def in_a_process(folder: Path, *arguments: str) -> Ran:
    """The command as people start it, in `folder`, which has a home of its own beside it."""
    home = folder.with_name(folder.name + "-home")
    home.mkdir(exist_ok=True)
    before = listing(home, folder)
    environment = {**os.environ, "FAIRGROUND_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr, listing(home, folder) != before)
