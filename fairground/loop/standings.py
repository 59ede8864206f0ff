"""The leaderboard as the log has it: votes in columns, and ratings of any part of them, the same to the byte always.

    standings = Standings(ledger.entries())
    standings.to_json(View(category="code", style=True))

Whoever reads the same entries gets the same bytes, whatever was asked before and in whatever steps they were read.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fairground.arena.columns import BOTH_BAD, OUTCOMES, POINTS, Battles
from fairground.arena.groups import battle_groups
from fairground.arena.ratings import ELO_PER_LOGIT, Rating, Ratings, StyleEffect, rate, rated
from fairground.arena.robustness import with_robustness
from fairground.errors import DataError
from fairground.loop.vote_columns import VoteColumns

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Medians = Mapping[str, tuple[float | None, float | None]]

PRELIMINARY = 300  # votes below which a rating is called preliminary
STYLED = 100  # votes from which on style is controlled for
PROMPT_CAP = 200  # battles of one prompt that count; suggested prompts are asked often
KNOWN = ("organisation", "licence", "parameters", "offered")  # of what the log says of a model
DECIMALS = 3  # of ratings in points; a thousandth says nothing, and is the same on every machine


class LogEntry(Protocol):
    """What is needed of an entry of the log; see fairground.governance.chain.Entry."""

    @property
    def number(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> Mapping[str, Any]: ...
    @property
    def hash(self) -> str: ...


@dataclass(frozen=True, slots=True)
class View:
    """Which votes a leaderboard is made of: of blind battles or of chosen ones ("side_by_side").

    `category`, `language`: see fairground.arena.categories; None: all. `style`: controlled for style.
    """

    mode: str = "battle"
    category: str | None = None
    language: str | None = None
    style: bool = False


ALL = View()  # all blind battles


class Standings:
    """All votes of a log, and its leaderboards. While one thread adds, others ask a `snapshot`."""

    def __init__(self, entries: Iterable[LogEntry] = ()) -> None:
        self._lock = threading.Lock()
        self.number, self.hash = -1, ""
        self.votes = VoteColumns()
        self.facts: dict[str, Mapping[str, Any]] = {}  # by model: organisation, licence, parameters, offered
        self.quarantined: set[str] = set()
        for entry in entries:
            self.add(entry)

    def add(self, entry: LogEntry) -> None:
        """Takes the log's next entry, in microseconds. Raises ValueError where one before it is missing."""
        if entry.number != self.number + 1:
            raise ValueError(f"entry {entry.number} does not follow entry {self.number}")
        body = entry.body
        with self._lock:
            match entry.kind:
                case "vote":
                    self.votes.add(body)
                case "quarantine":
                    self.quarantined.add(body["voter"])
                case "release":
                    self.quarantined.discard(body["voter"])
                case "model":
                    self.facts[body["model"]] = {**body.get("facts", {}), "offered": body.get("offered", True)}
            self.number, self.hash = entry.number, entry.hash

    def snapshot(self) -> Standings:
        """The standings as they are now, whatever is added afterwards; the votes are not copied."""
        with self._lock:
            taken = Standings()
            taken.number, taken.hash = self.number, self.hash
            taken.votes, taken.facts, taken.quarantined = self.votes.snapshot(), dict(self.facts), set(self.quarantined)
        return taken

    def battles(self, view: View) -> Battles:
        """The battles of a view, without those of voters in quarantine; with `style`, those whose style is known."""
        return self.votes.battles(self._counted(view), style=view.style)

    def voters(self, view: View = ALL) -> dict[str, int]:
        """How many votes of a view each voter has, those in quarantine left out."""
        return self.votes.voters(self._counted(view))

    def without(self, voter: str, view: View = ALL) -> Battles:
        """The battles of a view as everybody else has them."""
        return self.votes.battles(self._counted(view) & ~self.votes.by({voter}), style=False)

    def _counted(self, view: View) -> Bools:
        kept = self.votes.mask(view.mode, view.category, view.language) & ~self.votes.by(self.quarantined)
        return kept & self.votes.styled() if view.style else kept

    def leaderboard(self, view: View = ALL) -> dict[str, Any]:
        """The leaderboard of a view as what JSON can hold.

        `models`: best first, those of the largest group of models that met, perhaps by way of others; `apart` names the
        rest, which no scale joins. Each has a Rating's fields, and `average_win_rate` (the mean over the others of the
        chance to beat each, by the model), `seconds` and `first_token_s` (medians of its answers), `preliminary`, and
        what the log knows of it. `votes_to_flip`, `votes_to_drop`: see with_robustness; None but for all of a mode's
        votes without style. `pairs`: for the models in this order, how often each two met (`battles`) and what the row
        took from the column (`points`; a tie is half). `outside`: the rating of "neither" as both-bad votes have
        it, a bar that an answer has to clear; None where nobody said so. `style`: the effects of style control.
        `unrated`: why there are votes and no ratings, as where too few show what style is worth. `log`: the entry up to
        which it goes.
        """
        return self.fitted(view)[0]

    def fitted(self, view: View = ALL) -> tuple[dict[str, Any], Ratings | None]:
        """The leaderboard, and the fit behind it; None where there is none."""
        asked, kept = self.votes.mask(view.mode, view.category, view.language), self._counted(view)
        battles = self.votes.battles(kept, style=view.style)
        rows, found = self._rated(battles, self.votes.medians(kept), view)
        board = {
            "mode": view.mode,
            "category": view.category,
            "language": view.language,
            "style_controlled": view.style,
            "log": {"number": self.number, "hash": self.hash},
            "votes": len(battles),
            "voters": len(np.unique(battles.voter)),
            "quarantined_votes": int((asked & self.votes.by(self.quarantined)).sum()),
            "prompt_cap": PROMPT_CAP,
            "categories": self.votes.categories(view.mode),
            "languages": self.votes.languages(view.mode),
            "drawn_by": self.votes.drawn_by(kept),
            "outcomes": dict(zip(OUTCOMES, np.bincount(battles.outcome, minlength=4).tolist(), strict=True)),
            **rows,
        }
        return board, found

    def to_json(self, view: View = ALL) -> bytes:
        """The leaderboard of a view as canonical JSON."""
        return canonical_bytes(self.leaderboard(view))

    def personal(self, pseudonym: str) -> dict[str, Any]:
        """One voter's own leaderboard of blind battles: `groups`, since models that never met have no common scale.

        A group is a leaderboard of the models that this person compared, perhaps by way of others; every vote stands
        for itself, so the intervals say how little a few votes tell about this person's own preferences.
        """
        kept = self.votes.mask("battle") & self.votes.by({pseudonym})
        battles = self.votes.battles(kept, style=False, alone=True)
        part = battle_groups(battles) if len(battles) else np.zeros(0, dtype=np.int64)
        groups = []
        for group in sorted(set(part.tolist()), key=lambda group: (-int((part == group).sum()), group)):
            own = battles.only(part[battles.first] == group)
            groups.append({"votes": len(own), "models": [_row(row) for row in rate(own)], "pairs": _pairs(own)})
        return {"votes": len(battles), "groups": groups}

    def _rated(self, battles: Battles, medians: Medians, view: View) -> tuple[dict[str, Any], Ratings | None]:
        if not len(battles):
            return _nothing(None), None
        part = battle_groups(battles)
        sizes = np.bincount(part[battles.first])
        joined = battles.only(part[battles.first] == int(np.argmax(sizes)))
        if view.style and len(joined) < STYLED:
            return _nothing(
                f"Style is controlled for from {STYLED} votes on; there are {len(joined)} of this kind."
            ), None
        some_bad = bool((joined.outcome == BOTH_BAD).any())
        try:
            found = rated(joined, both_bad="outside" if some_bad else "tie", style=view.style, prompt_cap=PROMPT_CAP)
        except DataError as error:
            return _nothing(str(error)), None
        # The dearest of all numbers, and not defined where style makes votes unlike: of the table of all votes alone.
        every = with_robustness(found) if view == View(view.mode) else found.rows
        rows = [row for row in every if not row.outside]
        models = []
        for row, chance in zip(rows, _average_win_rates(np.array([row.rating for row in rows])), strict=True):
            seconds, first = medians.get(row.model, (None, None))
            models.append(
                {
                    **_row(row),
                    "votes_to_flip": row.votes_to_flip,
                    "votes_to_drop": row.votes_to_drop,
                    "average_win_rate": round(float(chance), 4),
                    "preliminary": row.votes < PRELIMINARY,
                    "seconds": seconds,
                    "first_token_s": first,
                    **{name: self.facts.get(row.model, {}).get(name) for name in KNOWN},
                }
            )
        board = {
            "models": models,
            "unrated": None,
            "apart": sorted(set(battles.models) - set(joined.models)),
            "outside": next((_row(row) for row in found.rows if row.outside), None),
            "pairs": _pairs(joined, [row.model for row in rows]),
            "style": [_effect(effect) for effect in found.effects],
        }
        return board, found


def canonical_bytes(board: Mapping[str, Any]) -> bytes:
    """JSON in UTF-8 with sorted keys and a line end: the same values give the same bytes."""
    return (json.dumps(board, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def _nothing(why: str | None) -> dict[str, Any]:
    pairs: dict[str, list[list[float]]] = {"battles": [], "points": []}
    return {"models": [], "unrated": why, "apart": [], "outside": None, "pairs": pairs, "style": []}


def _effect(effect: StyleEffect) -> dict[str, Any]:
    numbers = {name: round(getattr(effect, name), DECIMALS) + 0.0 for name in ("points", "low", "high")}
    return {"style": effect.style, **numbers, "unit": round(effect.unit, 6)}


def _row(row: Rating) -> dict[str, Any]:
    """A Rating as JSON, with no more digits than are meant."""
    return {
        "model": row.model,
        **{name: round(getattr(row, name), DECIMALS) + 0.0 for name in ("rating", "low", "high")},
        **{name: int(getattr(row, name)) for name in ("votes", "rank_low", "rank_high", "both_bad")},
        **{name: round(getattr(row, name), 4) + 0.0 for name in ("win_rate", "both_bad_share")},
        "penalised": bool(row.penalised),
    }


def _average_win_rates(ratings: Floats) -> Floats:
    """For ratings [n] in points, each one's mean chance against the others, each met as often."""
    lead = (ratings[:, None] - ratings[None, :]) / ELO_PER_LOGIT
    chance = 1 / (1 + np.exp(-lead))
    rates: Floats = (chance.sum(axis=1) - 0.5) / max(len(ratings) - 1, 1)
    return rates


def _pairs(battles: Battles, order: list[str] | None = None) -> dict[str, Any]:
    """How often each two met and what the row took from the column, for models in this order."""
    names = order or list(battles.models)
    n = len(names)
    place = np.array([names.index(name) for name in battles.models])
    first, second = place[battles.first], place[battles.second]
    points = POINTS[battles.outcome]
    took = np.bincount(first * n + second, points, n * n) + np.bincount(second * n + first, 1 - points, n * n)
    met = np.bincount(first * n + second, minlength=n * n) + np.bincount(second * n + first, minlength=n * n)
    return {"battles": met.reshape(n, n).tolist(), "points": took.reshape(n, n).tolist()}
