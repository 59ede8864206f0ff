"""`fairground up`, as people start it: two real models battle, and ctrl-C ends it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import COMMAND, in_this_process
from httpx import Client
from visitors import Visitor


@pytest.mark.verify
def test_two_real_models_battle_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    environment = {**os.environ, "FAIRGROUND_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [COMMAND, "up", "commons-5gram", "commons-llama-4m", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(6)]
        address = lines[0].split(" on ")[1].split(";")[0]
        link = lines[2].strip()
        assert link.startswith(f"{address}/join/")
        assert lines[3].startswith("Only this machine reaches this site. Guests may vote, and anybody may sign up.")
        assert str(tmp_path / "fairground.db") in lines[5]
        someone = Visitor(Client(base_url=address, timeout=60))
        assert "Warming up" in someone.get("/").text or "Ask both models" in someone.get("/").text
        end = time.monotonic() + 60
        while someone.get("/warming").json()["ready"] < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        talk = someone.open()
        told = someone.ask(talk, "Tell me a story.")
        answers = [event for event in told if "html" in event]
        assert len(answers) == 2
        assert all(answer["text"].strip() for answer in answers)
        revealed = someone.vote(talk, "tie").json()
        assert sorted(revealed["models"]) == ["commons-5gram", "commons-llama-4m"]
        assert re.search(r"3\.4 million parameters", revealed["html"])
        assert "Energy of both models together: " in revealed["html"]
        models = someone.client.get("/v1/models").json()["data"]
        assert {model["id"] for model in models} == {"commons-5gram", "commons-llama-4m"}
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode in (0, 130, -signal.SIGINT), err
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()


def test_what_cannot_be_opened_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = in_this_process(tmp_path, monkeypatch, capfd)
    run("up", "commons-lama-4m").refused("commons-lama-4m", "commons-llama-4m")
    run("up", "uniform,shots=5").refused("shots")
    run("up", "uniform", "--host", "0.0.0.0", "--database", f"sqlite:///{tmp_path / 'a.db'}").refused("keys add")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("up", "uniform", "--port", str(port))
        assert ran.status == 2
        assert f"127.0.0.1:{port} cannot be listened on" in ran.err
        assert "Traceback" not in ran.err


def test_where_others_reach_it_the_first_lines_say_who_may_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def not_for_long(site: Any, host: str, port: int, *, shutdown_timeout: int, ready: Callable[[str], None]) -> None:
        ready(f"http://{host}:{port}")
        settings = site.state.site.ledger.settings()
        assert (settings["guests_may_vote"], settings["open_sign_up"]) == (False, False)

    run = in_this_process(tmp_path, monkeypatch, capfd)
    monkeypatch.setattr("fairground.serving.server.serve", not_for_long)
    run("keys", "add", "alice")
    ran = run("up", "uniform", "--host", "0.0.0.0", "--database", f"sqlite:///{tmp_path / 'a.db'}")
    assert ran.status == 0
    assert "Other machines can reach this site. Guests may not vote, and accounts are made by" in ran.out
