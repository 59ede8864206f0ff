"""Pulling from a hub: whole, continued, killed, two at once, verified and removed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
from fake_hub import FILES, REF, WANTED, WEIGHTS, FakeHub, Fault, partial_bytes

import fairground
from fairground.errors import DownloadError
from fairground.hub.installed import locate, remove, state, verify
from fairground.hub.pull import pull


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "waited 10 s for nothing"
        time.sleep(0.01)


def test_a_pull_brings_the_wanted_files_verified_and_recorded(model: FakeHub, home: Path) -> None:
    told: list[tuple[str, int, int]] = []
    folder = pull(REF, progress=lambda *report: told.append(report))
    assert folder == home / "models/hf/org--model@main"
    assert {path.name for path in folder.iterdir()} == WANTED | {"fairground.json"}
    assert all((folder / name).read_bytes() == FILES[name] for name in WANTED)
    record = json.loads((folder / "fairground.json").read_text())
    assert (record["source"], record["origin"], record["commit"]) == (
        "hub",
        "org/model",
        model.repos["org/model"].commit,
    )
    assert record["files"]["model.safetensors"] == {"size": 1 << 20, "sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    assert told[-1] == ("model.safetensors", 1 << 20, 1 << 20)
    assert locate(REF) == folder
    assert str(state(REF)).startswith("pulled (1 MB, hub org/model@")
    assert verify(REF).bytes == sum(len(FILES[name]) for name in WANTED)


def test_a_second_pull_asks_nobody(model: FakeHub) -> None:
    pull(REF)
    asked = len(model.seen)
    pull(REF)
    assert len(model.seen) == asked


def test_a_pull_continues_after_a_cut(model: FakeHub, naps: list[float]) -> None:
    model.fault("model.safetensors", Fault())  # the redirect
    model.fault("model.safetensors", Fault(cut_after=700_000))
    notices: list[str] = []
    folder = pull(REF, notice=notices.append)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    first, second = (seen for seen in model.body_requests("model.safetensors") if seen.host == "storage")
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=700000-"
    assert second.status == 206
    wait_until(lambda: second.sent == (1 << 20) - 700_000)  # its handler counts after the last byte is out
    assert naps == [0.5]
    assert "trying again in 0.5 s" in notices[0]


def test_an_interrupted_pull_is_continued_by_the_next(model: FakeHub, home: Path) -> None:
    def interrupt(file: str, done: int, size: int) -> None:
        if file == "model.safetensors" and done >= 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(REF, progress=interrupt)
    assert locate(REF) is None
    assert not (home / "models/hf/org--model@main").exists()
    kept = partial_bytes(home)
    assert kept >= 300_000
    assert "of an interrupted pull" in str(state(REF))
    model.seen.clear()
    pull(REF)
    (again,) = (seen for seen in model.body_requests("model.safetensors") if seen.host == "storage")
    assert again.headers["range"] == f"bytes={kept}-"
    assert not model.body_requests("config.json")
    verify(REF)


def test_a_part_of_another_version_is_not_continued(model: FakeHub, home: Path) -> None:
    def interrupt(file: str, done: int, size: int) -> None:
        if done >= 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(REF, progress=interrupt)
    newer = WEIGHTS[::-1]
    model.publish("org/model", FILES | {"model.safetensors": newer, "config.json": b"{}"}, lfs=("model.safetensors",))
    folder = pull(REF)
    assert (folder / "model.safetensors").read_bytes() == newer
    assert (folder / "config.json").read_bytes() == b"{}"
    assert not any("range" in seen.headers for seen in model.seen)
    assert partial_bytes(home) == 0


@pytest.mark.parametrize("fault", [Fault(ignore_range=True), Fault(status=416)])
def test_a_server_that_cannot_continue_begins_again(model: FakeHub, fault: Fault) -> None:
    for one in (Fault(), Fault(cut_after=700_000), Fault(), fault):
        model.fault("model.safetensors", one)
    folder = pull(REF)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_wrong_range_is_not_appended(model: FakeHub) -> None:
    wrong = Fault(
        status=206, body=WEIGHTS[10:], headers={"Content-Range": f"bytes 10-{len(WEIGHTS) - 1}/{len(WEIGHTS)}"}
    )
    for one in (Fault(), Fault(cut_after=700_000), Fault(), wrong):
        model.fault("model.safetensors", one)
    assert (pull(REF) / "model.safetensors").read_bytes() == WEIGHTS


def test_shards_come_with_their_index_and_without_other_copies(hub: FakeHub) -> None:
    shards = {"model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    hub.publish("org/model", dict.fromkeys(shards | {"consolidated.safetensors", "original/model.safetensors"}, b"x"))
    assert {path.name for path in pull(REF).iterdir()} == shards | {"fairground.json"}


def test_two_pulls_of_one_model_take_turns(model: FakeHub) -> None:
    model.fault("model.safetensors", Fault())
    stall = model.fault("model.safetensors", Fault(stall_after=1000))
    notices: list[str] = []
    waiting = threading.Event()

    def tell(sentence: str) -> None:
        notices.append(sentence)
        waiting.set()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pull, REF)
        wait_until(lambda: any(seen.sent == 1000 for seen in model.body_requests("model.safetensors")))
        second = threads.submit(pull, REF, notice=tell)
        assert waiting.wait(10)
        with pytest.raises(DownloadError, match="is being pulled by another process"):
            remove(REF)
        stall.released.set()
        assert first.result() == second.result()
    assert notices == [f"Waiting for another pull of {REF} to end."]
    assert len([seen for seen in model.body_requests("model.safetensors") if seen.host == "storage"]) == 1
    verify(REF)


def test_a_killed_pull_is_continued(model: FakeHub, home: Path) -> None:
    model.fault("model.safetensors", Fault())
    stall = model.fault("model.safetensors", Fault(stall_after=1 << 19))
    command = [sys.executable, "-c", f"from fairground.hub.pull import pull; pull({REF!r})"]
    environment = os.environ | {"PYTHONPATH": str(Path(fairground.__file__).parents[1])}
    puller = subprocess.Popen(command, env=environment)
    try:
        wait_until(lambda: partial_bytes(home) > 400_000)
    finally:
        puller.send_signal(signal.SIGKILL)
        puller.wait()
        stall.released.set()
    assert state(REF).pulled is False
    assert locate(REF) is None
    kept = partial_bytes(home)
    model.seen.clear()
    pull(REF)
    (again,) = (seen for seen in model.body_requests("model.safetensors") if seen.host == "storage")
    assert again.headers["range"] == f"bytes={kept}-"
    verify(REF)


def test_remove_frees_and_verify_notices(model: FakeHub, home: Path) -> None:
    with pytest.raises(DownloadError, match="has not been pulled, so nothing was removed"):
        remove(REF)
    with pytest.raises(DownloadError, match="nothing to verify"):
        verify(REF)
    folder = pull(REF)
    size = sum(path.stat().st_size for path in folder.iterdir())
    damaged = bytes([WEIGHTS[0] ^ 1]) + WEIGHTS[1:]
    (folder / "model.safetensors").write_bytes(damaged)
    with pytest.raises(DownloadError, match=r"does not match its SHA-256, .*fairground remove"):
        verify(REF)
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1])
    with pytest.raises(DownloadError, match="has 1048575 bytes instead of 1048576"):
        verify(REF)
    (folder / "model.safetensors").unlink()
    with pytest.raises(DownloadError, match="is missing"):
        verify(REF)
    assert locate(REF) is None
    pull(REF)  # replaces what is no longer whole
    assert verify(REF)
    assert remove(REF) == size
    assert locate(REF) is None
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_remove_frees_an_interrupted_pull(model: FakeHub, home: Path) -> None:
    def interrupt(file: str, done: int, size: int) -> None:
        if done >= 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(REF, progress=interrupt)
    assert remove(REF) >= 300_000
    assert partial_bytes(home) == 0


def test_the_fake_hub_speaks_the_real_protocol(model: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hugging Face's own client gets the same bytes from it, so passing above means something."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    folder = huggingface_hub.snapshot_download(
        "org/model", endpoint=model.endpoint, cache_dir=tmp_path / "cache", token=model.token, max_workers=1
    )
    ours = pull(REF)
    for name in WANTED:
        assert (Path(folder) / name).read_bytes() == (ours / name).read_bytes()
