"""A real server on a free port of the loopback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_models as tiny
from command import COMMAND, Command, in_this_process
from scripted import LIMITS, Scripted, Served, serving

from fairground.engine.local import LocalGenerator, open_model
from fairground.serving.app import create_app


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def local(folder: Path) -> Iterator[LocalGenerator]:
    model = open_model(folder, precision="float32", threads=1)
    yield model
    model.close()


@pytest.fixture
def served(local: LocalGenerator, folder: Path) -> Iterator[Served]:
    scripted = Scripted()
    app = create_app({"tiny": local, "scripted": scripted}, limits=LIMITS)
    with serving(app) as url:
        yield Served(url, app, local, folder, scripted)
        for stream in scripted.streams:
            stream.cancel()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Starts `fairground serve` on a free port and gives the process and its address."""
    running = []

    def make(*arguments: object) -> tuple[subprocess.Popen[str], str]:
        environment = {**os.environ, "FAIRGROUND_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
        given = [COMMAND, "serve", *map(str, arguments), "--port", "0"]
        process = subprocess.Popen(given, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        said = process.stdout.readline()
        assert " on http" in said, process.communicate(timeout=20)[1]
        return process, said.split(" on ")[1].split("/v1")[0]

    yield make
    for process in running:
        process.kill()
        process.communicate()
