"""Ctrl-C in the middle of a ranking ends it at once and leaves nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("seconds", [3, 7])
def test_an_interrupted_ranking_leaves_nothing(stories15m: Path, tmp_path: Path, seconds: int) -> None:
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("fairground")), "rank", str(stories15m), "--out", str(tmp_path / "run")],
        env={**os.environ, "FAIRGROUND_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)  # a whole ranking takes longer
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=40)
    assert process.returncode not in (0, 2)
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "run").exists()
