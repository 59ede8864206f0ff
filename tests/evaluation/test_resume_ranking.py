"""A ranking that is killed and begun again ends with the same bytes as one that never was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command import COMMAND

import fairground

MODEL = Path(fairground.__file__).parent / "hub" / "commons" / "commons-gpt2-4m"
TASKS = "reading,relations,order_swapped,open,german"


def start(folder: Path, out: str) -> subprocess.Popen[str]:
    """`rank` in a process of its own, with a state folder of its own."""
    command = [COMMAND, "rank", MODEL, "uniform", "--tasks", TASKS, "--limit", "4", "--scorer", MODEL]
    return subprocess.Popen(
        [*map(str, command), "--threads", "1", "--out", out], cwd=folder, text=True, start_new_session=True,
        env={**os.environ, "FAIRGROUND_HOME": str(folder / "home")}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


@pytest.mark.verify
@pytest.mark.parametrize("kills", [20])
def test_the_same_bytes_after_any_kill(tmp_path: Path, kills: int) -> None:
    begun = time.monotonic()
    finish(start(tmp_path, "unbroken"))
    took = time.monotonic() - begun
    expected = {name: (tmp_path / "unbroken" / name).read_bytes() for name in ("scores.jsonl", "samples.jsonl")}
    assert expected["scores.jsonl"].count(b"\n") > 20
    chance, went_on = random.Random(kills), 0
    for kill in range(kills):
        process = start(tmp_path, f"broken-{kill}")
        time.sleep(took * chance.uniform(0.4, 0.95))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        went_on += "Going on with run" in finish(start(tmp_path, f"broken-{kill}"))
        for name, content in expected.items():
            assert (tmp_path / f"broken-{kill}" / name).read_bytes() == content
    assert went_on > 0
