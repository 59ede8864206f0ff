"""What an arena can be set to: names, defaults, and what each may be."""

from __future__ import annotations

from typing import Any

from fairground.errors import ArenaRefusal

DEFAULTS: dict[str, Any] = {
    "guests_may_vote": True,
    "votes_per_day": 200,  # of a person with a name
    "guest_votes_per_day": 40,
    "battles_per_day": 500,  # of anybody, since each costs two answers
    "battle_minutes": 120,  # how long a battle can be voted on
    "keep_text": "keep",
    "uniform_share": 0.2,  # of battles whose pair is drawn uniformly
}
CHOICES: dict[str, tuple[str, ...]] = {"keep_text": ("keep", "redact", "none")}
SHARES = {"uniform_share"}


def check_setting(name: str, value: object) -> None:
    """Raises ArenaRefusal (400) for a name that is none, and for a value that it cannot have."""
    if name not in DEFAULTS:
        raise ArenaRefusal(f"There is no setting {name!r}; there are {', '.join(sorted(DEFAULTS))}.", 400)
    if name in CHOICES:
        right, may = value in CHOICES[name], f"one of {', '.join(CHOICES[name])}"
    elif name in SHARES:
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        may = "a number from 0 to 1"
    elif isinstance(DEFAULTS[name], bool):
        right, may = isinstance(value, bool), "true or false"
    else:
        right = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1_000_000
        may = "a whole number from 1 to 1,000,000"
    if not right:
        raise ArenaRefusal(f"{name} cannot be {value!r}; it is {may}.", 400)
