"""What `fairground rank` has measured of models: of each its newest number, from the runs in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MEASURES = ("accuracy", "coherence", "ttft_ms", "tokens_per_s", "energy_j_per_1k_tokens")


@dataclass(frozen=True, slots=True)
class Measured:
    """A number of a run, in the unit that its metric's name states; shares from 0 to 1. `low`, `high`: 95%."""

    value: float
    low: float | None
    high: float | None
    estimate: bool
    run: str


def newest_measures(runs: Iterable[tuple[str, float, Mapping[str, Any]]]) -> dict[str, dict[str, Measured]]:
    """Of each model, by the name it was ranked as, its newest numbers; `runs` as `read_leaderboards` gives them."""
    found: dict[str, dict[str, Measured]] = {}
    for run, _, leaderboard in runs:
        for model in leaderboard.get("models") or ():
            known = found.setdefault(str(model.get("model")), {})
            for name in MEASURES:
                entry = (model.get("metrics") or {}).get(name) or {}
                value = entry.get("value")
                if name not in known and isinstance(value, int | float) and not isinstance(value, bool):
                    known[name] = Measured(
                        float(value), entry.get("low"), entry.get("high"), bool(entry.get("estimate")), run
                    )
    return found
