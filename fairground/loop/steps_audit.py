"""The audit of the steps by which votes became a model: whether each builds on what it names, and whether its files
are still those it names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairground.governance.chain import Entry
from fairground.loop.steps import PAIRS, TRAINED, VERDICT, file_hash, points_of

Pair = tuple[str, str]  # a model, and the one it came from


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that an entry names with another hash than it has now."""

    number: int
    path: Path


class StepCheck:
    """Checks the entries of a log one after another, in memory that grows with the models made and their voters."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)  # by model and name: entry and hash
        self.steps = 0
        self._hashes: dict[int, tuple[str, str]] = {}  # of steps: kind and hash
        self._votes = 0
        self._made: set[Pair] = set()
        self._tallies: dict[Pair, dict[str, Counter[float]]] = defaultdict(lambda: defaultdict(Counter))
        self._quarantined: set[str] = set()
        self._last = ""

    def check(self, entry: Entry) -> str | None:
        """What is wrong with the next entry; None where nothing is."""
        try:
            said = self._step(entry) if entry.kind in (PAIRS, TRAINED, VERDICT) else None
            self._count(entry)
        except (KeyError, TypeError, AttributeError):
            said = "it is not written as such a step is"
        self._last = entry.hash
        return said

    def _count(self, entry: Entry) -> None:
        body = entry.body
        match entry.kind:
            case "vote":
                self._votes += 1
                for pair in self._made:
                    value = points_of(body, *pair)
                    if value is not None:
                        self._tallies[pair][body["voter"]][value] += 1
            case "quarantine":
                self._quarantined.add(body["voter"])
            case "release":
                self._quarantined.discard(body["voter"])

    def _step(self, entry: Entry) -> str | None:
        self.steps += 1
        self._hashes[entry.number] = (entry.kind, entry.hash)
        body = entry.body
        for name, digest in body.get("files", {}).items():
            self.files[body["name"]][name] = (entry.number, digest)
        if entry.kind == PAIRS:
            if body["until"] == {"number": entry.number - 1, "hash": self._last} and (
                body["counts"]["votes"] != self._votes
            ):
                return f"it says that there were {body['counts']['votes']:,} votes, but there were {self._votes:,}"
            return None
        wanted = PAIRS if entry.kind == TRAINED else TRAINED
        if self._hashes.get(body["of"]["number"]) != (wanted, body["of"]["hash"]):
            return f"it builds on entry {body['of']['number']}, which is not the step before it"
        if entry.kind == TRAINED:
            pair = (body["name"], body["model"])
            self._made.add(pair)
            self._tallies[pair].clear()
        elif body["measure"] == "votes":
            return self._miscounted(entry)
        return None

    def _miscounted(self, entry: Entry) -> str | None:
        body = entry.body
        if body["until"] != {"number": entry.number - 1, "hash": self._last}:
            return None  # others voted while it was counted, so that this place in the log does not say the same
        found: Counter[float] = Counter()
        for voter, tally in self._tallies[(body["name"], body["against"])].items():
            if voter not in self._quarantined:
                found += tally
        told = {1.0: body["wins"], 0.5: body["ties"], 0.0: body["losses"]}
        if any(found[value] != count for value, count in told.items()):
            return "it counts " + " and ".join(
                f"{told[value]:,} {what} where the log has {found[value]:,}"
                for value, what in ((1.0, "wins"), (0.5, "ties"), (0.0, "losses"))
                if found[value] != told[value]
            )
        return None

    def changed(self, folders: Mapping[str, Path]) -> tuple[int, list[Changed]]:
        """How many of the named files are there, in the folder of their model, and which of them have another hash."""
        there, wrong = 0, []
        for name, files in self.files.items():
            for file, (number, digest) in files.items():
                path = folders[name] / file if name in folders else None
                if path is not None and path.is_file():
                    there += 1
                    if file_hash(path) != digest:
                        wrong.append(Changed(number, path))
        return there, wrong
