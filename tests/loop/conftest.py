"""An arena in each kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from arena import Arena, opened


@pytest.fixture
def arena(url: str) -> Iterator[Arena]:
    with opened(url) as one:
        yield one
