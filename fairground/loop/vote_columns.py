"""Votes as growing columns: a vote is added in microseconds, and a million are chosen from in milliseconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairground.arena.categories import TITLES, UNKNOWN
from fairground.arena.columns import CODES, NO_STYLE, Battles

Bools = NDArray[np.bool_]

MODES = ("battle", "side_by_side")
_BIT = {name: 1 << i for i, name in enumerate(TITLES)}
_TYPES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "first": (np.int32, ()),
    "second": (np.int32, ()),
    "outcome": (np.int8, ()),
    "voter": (np.int32, ()),
    "prompt": (np.int64, ()),
    "mode": (np.int8, ()),
    "by": (np.int8, ()),
    "language": (np.int16, ()),
    "categories": (np.int32, ()),
    "style": (np.float64, (len(NO_STYLE),)),
    "seconds": (np.float32, (4,)),  # whole answer of a and b, first token of a and b
}


class _Names(dict[str, int]):
    """Numbers for names, in the order in which they came."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


class VoteColumns:
    """n votes in columns, from the bodies of the log's entries.

    Rows are only added, and a column that has grown full is copied, so what was taken from here stays as it is.
    """

    def __init__(self) -> None:
        self._models, self._voters, self._languages, self._by = _Names(), _Names(), _Names(), _Names()
        self._n = 0
        self._columns = {name: np.empty((1024, *shape), type_) for name, (type_, shape) in _TYPES.items()}

    def __len__(self) -> int:
        return self._n

    def add(self, body: Mapping[str, Any]) -> None:
        """Adds a vote; see fairground.loop.ledger for what its body holds."""
        n, columns = self._n, self._columns
        if n == len(columns["first"]):
            columns = {name: np.concatenate([column, np.empty_like(column)]) for name, column in columns.items()}
            self._columns = columns
        times, style, prompt = body.get("times") or {}, body.get("style"), body.get("prompt")
        columns["first"][n] = self._models[body["model_a"]]
        columns["second"][n] = self._models[body["model_b"]]
        columns["outcome"][n] = CODES[body["winner"]]
        columns["voter"][n] = self._voters[body["voter"]]
        columns["prompt"][n] = -1 if prompt is None else int(prompt, 16) >> 1
        columns["mode"][n] = MODES.index(body["mode"])
        columns["by"][n] = self._by[body.get("by") or "uniform"]
        columns["language"][n] = self._languages[body.get("language") or UNKNOWN]
        columns["categories"][n] = sum(_BIT.get(tag, 0) for tag in set(body.get("tags") or ()))
        columns["style"][n] = NO_STYLE if style is None else style
        a, b = times.get("a") or {}, times.get("b") or {}
        columns["seconds"][n] = [
            np.nan if value is None else value
            for value in (a.get("whole"), b.get("whole"), a.get("first"), b.get("first"))
        ]
        self._n = n + 1

    def snapshot(self) -> VoteColumns:
        """The votes as they are now; no vote is copied."""
        taken = VoteColumns()
        taken._n, taken._columns = self._n, self._columns
        for names in ("_models", "_voters", "_languages", "_by"):
            setattr(taken, names, _Names(getattr(self, names)))
        return taken

    def _column(self, name: str) -> NDArray[Any]:
        return self._columns[name][: self._n]

    def mask(self, mode: str, category: str | None = None, language: str | None = None) -> Bools:
        """Which votes [n] are of a mode, and of a category and a language where these are given."""
        kept: Bools = self._column("mode") == MODES.index(mode)
        if category is not None:
            kept &= self._column("categories") & _BIT.get(category, 0) != 0
        if language is not None:
            kept &= self._column("language") == self._languages.get(language, -1)
        return kept

    def by(self, voters: Collection[str]) -> Bools:
        """Which votes [n] are those voters'."""
        found: Bools = np.isin(self._column("voter"), [self._voters[name] for name in voters if name in self._voters])
        return found

    def voters(self, kept: Bools) -> dict[str, int]:
        """How many votes of a mask [n] each voter has, those that have any."""
        counts = np.bincount(self._column("voter")[kept], minlength=len(self._voters))
        return {name: int(counts[i]) for name, i in self._voters.items() if counts[i]}

    def styled(self) -> Bools:
        """Of which votes [n] the style of the answers is known."""
        known: Bools = ~np.isnan(self._column("style")[:, 0])
        return known

    def categories(self, mode: str) -> dict[str, int]:
        """How many votes of a mode each category has, those that have any."""
        found = self._column("categories")[self.mask(mode)]
        counts = {name: int((found & bit != 0).sum()) for name, bit in _BIT.items()}
        return {name: count for name, count in counts.items() if count}

    def languages(self, mode: str) -> dict[str, int]:
        """How many votes of a mode each language has, the most first."""
        counts = np.bincount(self._column("language")[self.mask(mode)], minlength=len(self._languages))
        found = {name: int(counts[i]) for name, i in self._languages.items() if counts[i]}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def drawn_by(self, kept: Bools) -> dict[str, int]:
        """How many of the pairs of a mask [n] each way of drawing gave: uniform, information, newcomer."""
        counts = np.bincount(self._column("by")[kept], minlength=len(self._by))
        return {name: int(counts[i]) for name, i in sorted(self._by.items()) if counts[i]}

    def medians(self, kept: Bools) -> dict[str, tuple[float | None, float | None]]:
        """For each model, medians over its answers in a mask [n]: seconds to the whole one, and to its first token."""
        model = np.concatenate([self._column("first")[kept], self._column("second")[kept]])
        times = self._column("seconds")[kept]
        found = [_medians(model, np.concatenate([times[:, i], times[:, i + 1]]), len(self._models)) for i in (0, 2)]
        return {name: (found[0][i], found[1][i]) for name, i in self._models.items()}

    def battles(self, kept: Bools, *, style: bool, alone: bool = False) -> Battles:
        """The votes of a mask [n] as Battles; with `alone`, every vote is its own voter's."""
        names = sorted(self._models)
        place = np.empty(len(names), dtype=np.int32)
        place[[self._models[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        column = {name: self._column(name)[kept] for name in ("first", "second", "outcome", "voter", "prompt")}
        return Battles(
            models=tuple(names),
            first=place[column["first"]],
            second=place[column["second"]],
            outcome=column["outcome"],
            voter=np.full_like(column["voter"], -1) if alone else column["voter"],
            prompt=column["prompt"],
            style=self._column("style")[kept] if style else None,
        ).only(np.ones(int(kept.sum()), dtype=bool))


def _medians(model: NDArray[np.int32], value: NDArray[np.float32], models: int) -> list[float | None]:
    known = ~np.isnan(value)
    model, value = model[known], value[known]
    order = np.lexsort((value, model))
    counts = np.bincount(model, minlength=models)
    ends = np.cumsum(counts)
    found: list[float | None] = []
    for begin, end in zip(ends - counts, ends, strict=True):
        of_model = value[order[begin:end]]
        found.append(round(float(np.median(of_model)), 3) if len(of_model) else None)
    return found
