"""A hub on the loopback, a state folder of its own for each test, and waiting that takes no time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_hub import FILES, FakeHub

from fairground.hub import transport


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("HF_") or name.lower() in {"http_proxy", "https_proxy", "all_proxy"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("FAIRGROUND_HOME", str(tmp_path / "home"))
    # No test may reach the real hub, not even one that forgets to start a fake one.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "home"


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub()
    monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
    yield fake
    fake.close()


@pytest.fixture
def model(hub: FakeHub) -> FakeHub:
    """The hub with `org/model` on it: configuration, tokenizer, weights of 1 MiB, and files that nobody wants."""
    hub.publish("org/model", dict(FILES), lfs=("model.safetensors", "pytorch_model.bin"))
    return hub


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that retries would have waited."""
    slept: list[float] = []
    monkeypatch.setattr(transport, "time", SimpleNamespace(sleep=slept.append, time=time.time))
    return slept
