"""A finding's page shows its raw results, and nothing else as numbers of a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FINDINGS = ROOT / "docs" / "findings"
sys.path.insert(0, str(ROOT / "experiments"))

import distillation  # noqa: E402
import families  # noqa: E402


@pytest.mark.parametrize(
    ("page", "results", "table"),
    [
        ("families", "families", families.table),
        ("families", "parts", families.table),
        ("distillation", "distillation", distillation.table),
        ("distilling_smollm2", "distilling_smollm2", distillation.table),
    ],
)
def test_a_page_shows_its_results(page: str, results: str, table: object) -> None:
    raw = json.loads((FINDINGS / f"{results}.json").read_text(encoding="utf-8"))
    assert table(raw) in (FINDINGS / f"{page}.md").read_text(encoding="utf-8")  # type: ignore[operator]
