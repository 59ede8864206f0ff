"""A server that is told to stop: answers end, or their clients are told; nothing hangs."""

from __future__ import annotations

import http.client
import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import tiny_models as tiny
from command import Command
from openai import APIError, InternalServerError, OpenAI
from scripted import Served, serving, until

from fairground.engine.local import open_model
from fairground.serving.app import create_app


def test_streams_are_told(served: Served) -> None:
    client = served.client()
    served.scripted.permits.release()
    chunks = iter(client.completions.create(model="scripted", prompt="a", max_tokens=100, stream=True))
    assert next(chunks).choices[0].text == "word "
    running = served.app.state.running
    running.drain()
    with pytest.raises(InternalServerError, match="stopping"):
        client.completions.create(model="tiny", prompt="a")
    assert urllib.request.urlopen(f"{served.url}/health", timeout=30).status == 200
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"{served.url}/ready", timeout=30)
    running.end()
    with pytest.raises(APIError, match="stopped before this answer was whole"):
        list(chunks)
    until(lambda: running.count == 0)


def test_an_engine_that_breaks_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 within a second, for those who wait and those who come; alive, but not ready."""
    model = open_model(tiny.write_folder(tmp_path / "tiny"), precision="float32", threads=1)
    with serving(create_app({"tiny": model})) as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        assert urllib.request.urlopen(f"{url}/ready", timeout=30).status == 200
        broken = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no more memory"))  # noqa: E731
        monkeypatch.setattr(model.decoder, "logits", broken)
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(InternalServerError, match="The engine stopped at an error") as caught:
                client.completions.create(model="tiny", prompt="a")
            assert caught.value.status_code == 503
            assert time.monotonic() - begun < 1
        assert urllib.request.urlopen(f"{url}/health", timeout=30).status == 200
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{url}/ready", timeout=30)
    model.close()


def ask(url: str, **fields: object) -> http.client.HTTPResponse:
    body = json.dumps({"prompt": "a", **fields}).encode()
    asked = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})
    return urllib.request.urlopen(asked, timeout=30)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(start: Any, sign: signal.Signals) -> None:
    process, url = start("uniform")
    assert json.loads(ask(url, model="uniform", max_tokens=5).read())["usage"]["completion_tokens"] == 5
    measured = urllib.request.urlopen(f"{url}/metrics", timeout=30).read().decode()
    assert 'fairground:generation_tokens_total{model_name="uniform"} 5.0' in measured
    process.send_signal(sign)
    assert process.wait(timeout=20) in (0, -sign, 128 + sign)
    assert "Traceback" not in process.stderr.read()


def test_an_answer_that_takes_too_long_is_told(start: Any) -> None:
    process, url = start("commons-5gram", "--shutdown-timeout", 2)
    answer = ask(url, model="commons-5gram", max_tokens=32_000, ignore_eos=True, stream=True)
    assert json.loads(answer.readline().removeprefix(b"data: "))["choices"]
    process.terminate()
    events = [line.removeprefix(b"data: ").strip() for line in answer if line.strip()]
    assert "stopped before this answer was whole" in json.loads(events[-2])["error"]["message"]
    assert events[-1] == b"[DONE]"
    process.wait(timeout=20)


def test_addresses_that_cannot_be_had(start: Any, command: Command) -> None:
    _, url = start("uniform")
    command("serve", "uniform", "--port", url.rpartition(":")[2]).refused("cannot be listened on", "--port")
    command("serve", "uniform,shots=3").refused("shots=K")
