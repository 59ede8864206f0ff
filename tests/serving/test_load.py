"""More than the server bears: who is taken in is answered, the rest is told to come again, and nothing piles up."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import tiny_models as tiny
from scripted import LIMITS, Scripted, Served, serving, until

from fairground.serving.app import create_app
from fairground.serving.metrics import Metrics
from fairground.serving.refusals import Refusal
from fairground.serving.running import Running

JSON = {"content-type": "application/json"}


def ask(url: str, timeout: float = 60, **fields: Any) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    connection.request("POST", "/v1/completions", json.dumps(fields), JSON)
    return connection.getresponse()


def resident(process: subprocess.Popen[str]) -> int:
    """Bytes of the process that are in memory."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


@pytest.fixture
def tiny_server(start: Callable[..., Any], tmp_path: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that bears eight answers, six of them one client's."""
    folder = tiny.write_folder(tmp_path / "tiny")
    process, url = start(folder, "--max-running", 8, "--shutdown-timeout", 3)
    assert isinstance(process, subprocess.Popen)
    return process, url


def test_ten_times_what_it_bears(tiny_server: tuple[subprocess.Popen[str], str]) -> None:
    """A new prompt each time, so that blocks are written anew; memory stays where the first rounds left it."""
    process, url = tiny_server
    model = json.loads(urllib.request.urlopen(f"{url}/v1/models", timeout=30).read())["data"][0]["id"]

    def one(number: int) -> int:
        answer = ask(url, model=model, prompt=f"{number:05}", max_tokens=40, ignore_eos=True, temperature=0)
        said = json.loads(answer.read())
        if answer.status == 200:
            assert said["usage"]["completion_tokens"] == 40
        else:
            assert said["error"]["code"] == "rate_limit_exceeded"
            assert int(answer.headers["retry-after"]) >= 1
        return answer.status

    after: list[int] = []
    with ThreadPoolExecutor(80) as pool:
        for first in range(0, 960, 80):
            seen = Counter(pool.map(one, range(first, first + 80)))
            assert set(seen) == {200, 429}, seen
            assert seen[200] >= 6
            after.append(resident(process))
    assert after[-1] <= 1.05 * after[5], after
    assert ask(url, model=model, prompt="a", max_tokens=1).status == 200


def test_told_to_stop_under_load(tiny_server: tuple[subprocess.Popen[str], str]) -> None:
    """Every stream that was taken in ends with its end or an error, and the process ends."""
    process, url = tiny_server
    model = json.loads(urllib.request.urlopen(f"{url}/v1/models", timeout=30).read())["data"][0]["id"]
    begun = threading.Barrier(7)

    def one(number: int) -> list[str]:
        ends: list[str] = []
        first = True
        while True:
            try:
                answer = ask(url, model=model, prompt=f"{number} a", max_tokens=50, ignore_eos=True, stream=True)
            except (ConnectionError, http.client.HTTPException):
                return ends  # nothing listens any more
            if answer.status != 200:
                assert answer.status in (429, 503)
                answer.read()
                continue
            if first:
                answer.readline()
                begun.wait(timeout=30)
                first = False
            events = [line.removeprefix(b"data: ").strip() for line in answer if line.strip()]
            assert events[-1] == b"[DONE]"
            ends.append("error" if b'"error"' in events[-2] else json.loads(events[-2])["choices"][0]["finish_reason"])

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(one, number) for number in range(6)]
        begun.wait(timeout=30)
        process.terminate()
        ends = [one.result(timeout=60) for one in running]
    assert process.wait(timeout=20) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert all(ends)
    assert set().union(*ends) <= {"length", "error"}
    assert "Traceback" not in process.stderr.read()  # type: ignore[union-attr]


def test_a_client_that_does_not_read(served: Served) -> None:
    """Its answer ends early, so that it holds neither memory nor the engine; others do not notice."""
    fast = Scripted()
    app = create_app({"fast": fast, "tiny": served.local}, limits=replace(LIMITS, unread=500, max_tokens=100_000))
    with serving(app) as url:
        body = json.dumps({"model": "fast", "prompt": "a", "max_tokens": 90_000, "stream": True}).encode()
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect(("127.0.0.1", urlsplit(url).port))
            head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            idle.sendall(head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: fast.streams)
            fast.permits.release(90_000)
            until(lambda: fast.streams[0].cancelled.is_set(), 30)
            until(lambda: app.state.running.count == 0)
            assert fast.streams[0].written < 60_000
            assert ask(url, model="tiny", prompt="a", max_tokens=3).status == 200
            received = b""
            while b"[DONE]" not in received:
                received += idle.recv(1 << 16)
    assert b"was not read" in received


def test_one_client_leaves_room_for_another() -> None:
    running = Running(LIMITS, Metrics())
    for _ in range(6):
        running.take("many", 1)
    with pytest.raises(Refusal, match="of yours") as refused:
        running.take("many", 1)
    assert refused.value.status == 429
    running.take("one", 2)
    with pytest.raises(Refusal, match="full"):
        running.take("one", 1)
    running.give_back("many", 6)
    running.take("large", 6)  # more than its share at once, of which it has nothing yet
    with pytest.raises(Refusal, match="full"):
        running.take("one", 1)
    running.give_back("one", 2)
    running.give_back("large", 6)
    assert running.count == 0


def test_a_scored_prompt_whose_client_goes_away(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of it is not computed."""
    decoder, passes, let = served.local.decoder, [], threading.Event()
    forward = type(decoder).forward

    def slow(self: Any, *given: Any, **more: Any) -> Any:
        passes.append(1)
        let.wait(10)
        return forward(self, *given, **more)

    monkeypatch.setattr(type(decoder), "forward", slow)
    monkeypatch.setattr("fairground.engine.scoring.PASS_TOKENS", 8)
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=10)
    fields = {"model": "tiny", "prompt": ["abcdefgh", "ijklmnop", "qrstuvwx"], "echo": True, "logprobs": 1}
    connection.request("POST", "/v1/completions", json.dumps({**fields, "max_tokens": 0}), JSON)
    until(lambda: passes)
    connection.sock.close()
    connection.close()
    until(lambda: served.app.state.running.count == 0)
    let.set()
    assert served.client().completions.create(model="tiny", prompt="a", max_tokens=1)
    assert len(passes) == 2
