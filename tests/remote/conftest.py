"""Fake servers on the loopback, and an environment without keys of whoever runs the tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_server import KEY, FakeServer

from fairground.remote import transport
from fairground.remote.openai import OpenAIGenerator, open_remote


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name == "OPENAI_API_KEY" or name.startswith("FAIRGROUND_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(transport, "FIRST_WAIT_S", 0.004)


@pytest.fixture
def connect() -> Iterator[Callable[..., OpenAIGenerator]]:
    """Opens a generator over a fake server and forgets what was asked to open it."""
    opened: list[OpenAIGenerator] = []

    def make(server: FakeServer, **settings: Any) -> OpenAIGenerator:
        opened.append(open_remote(server.reference, **settings))
        server.seen.clear()
        return opened[-1]

    yield make
    for generator in opened:
        generator.close()
