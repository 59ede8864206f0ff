"""What an arena can be set to: names, defaults, and what each may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairground.arena.pairing import UNIFORM_SHARE
from fairground.errors import ArenaRefusal

DEFAULTS: dict[str, Any] = {
    "guests_may_vote": True,
    "open_sign_up": True,  # without it, people come by one-time links
    "votes_per_day": 200,  # of a person with a name
    "guest_votes_per_day": 40,
    "battles_per_day": 500,  # of anybody, since each costs two answers
    "battle_minutes": 120,  # how long a battle can be voted on
    "keep_text": "keep",
    "uniform_share": UNIFORM_SHARE,  # of battles whose pair is drawn uniformly
}
# Where other machines reach the arena: accounts that cost nothing make attacks that cost next to nothing, and no test
# of single voters sees them (docs/methods.md). Whoever only reaches it from its own machine has no need to.
PUBLIC_DEFAULTS: dict[str, Any] = DEFAULTS | {"guests_may_vote": False, "open_sign_up": False}
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


def admission(settings: Mapping[str, Any], *, public: bool) -> str:
    """Who may vote and sign up, in two sentences. `public`: whether other machines reach the arena."""
    guests = "Guests may vote" if settings["guests_may_vote"] else "Guests may not vote"
    sign_up = "anybody may sign up" if settings["open_sign_up"] else "accounts are made by a steward's one-time links"
    reach = "Other machines can reach this site" if public else "Only this machine reaches this site"
    said = f"{reach}. {guests}, and {sign_up}."
    if public and (settings["guests_may_vote"] or settings["open_sign_up"]):
        return f"{said} Whoever can have many accounts can move the leaderboard unseen: see the methods page."
    return said
