"""A server that is told to stop: answers end, or their clients are told; nothing hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from command import COMMAND, Command
from openai import APIError, InternalServerError
from scripted import Served, until


def test_streams_are_told(served: Served) -> None:
    client = served.client()
    served.scripted.permits.release()
    chunks = iter(client.completions.create(model="scripted", prompt="a", max_tokens=100, stream=True))
    assert next(chunks).choices[0].text == "word "
    running = served.app.state.running
    running.drain()
    with pytest.raises(InternalServerError, match="stopping"):
        client.completions.create(model="tiny", prompt="a")
    assert urllib.request.urlopen(f"{served.url}/health").status == 200
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"{served.url}/ready")
    running.end()
    with pytest.raises(APIError, match="stopped before this answer was whole"):
        list(chunks)
    until(lambda: running.count == 0)


def start(*arguments: object, home: Path) -> tuple[subprocess.Popen[str], str]:
    environment = {**os.environ, "FAIRGROUND_HOME": str(home), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [COMMAND, "serve", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    return process, said.split(" on ")[1].split("/v1")[0]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path, sign: signal.Signals) -> None:
    process, url = start("uniform", "--port", 0, home=tmp_path)
    body = json.dumps({"model": "uniform", "prompt": "a", "max_tokens": 5}).encode()
    asked = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})
    assert json.loads(urllib.request.urlopen(asked).read())["usage"]["completion_tokens"] == 5
    measured = urllib.request.urlopen(f"{url}/metrics").read().decode()
    assert 'fairground:generation_tokens_total{model_name="uniform"} 5.0' in measured
    process.send_signal(sign)
    assert process.wait(timeout=20) in (0, -sign, 128 + sign)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_addresses_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    process, url = start("uniform", "--port", 0, home=tmp_path)
    command("serve", "uniform", "--port", url.rpartition(":")[2]).refused("cannot be listened on", "--port")
    process.terminate()
    process.wait(timeout=20)
