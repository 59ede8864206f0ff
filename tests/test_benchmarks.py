"""The benchmark page shows what the raw results hold."""

from __future__ import annotations

import importlib.util
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_tables_are_written_from_the_raw_results() -> None:
    spec = importlib.util.spec_from_file_location("tables", BENCHMARKS / "tables.py")
    assert spec
    assert spec.loader
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert tables.page(page) == page
    assert "times better" in page
