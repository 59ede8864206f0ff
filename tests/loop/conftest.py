"""An arena in each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from arena import Arena, opened

from fairground.store import default_database


@pytest.fixture(params=["sqlite", "postgresql"])
def arena(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Arena]:
    postgresql = request.param == "postgresql"
    with opened(
        request.getfixturevalue("postgres")(tables=True) if postgresql else default_database(tmp_path / "state")
    ) as one:
        yield one
