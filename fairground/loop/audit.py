"""The audit: whether the log is whole, and whether the tables beside it tell the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairground.governance.chain import Entry, Flaw, Verifier, canonical
from fairground.loop.steps_audit import Changed, StepCheck
from fairground.store.battles import StoredBattle, beside_log, decided_without_entry
from fairground.store.database import Database, store_errors
from fairground.store.log import LogRow

STEP = 1_000  # entries after which progress is told
DECIDED = {"vote": "voted", "set_aside": "set_aside"}  # what the kinds that decide a battle make of it


@dataclass(frozen=True, slots=True)
class Broken:
    """The first entry that something is wrong with. `flaw`: as in Break, "tables" where another table disagrees, or
    "step" where a step from votes to a model does not build on what it names."""

    number: int
    flaw: Flaw | Literal["tables", "step"]
    said: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found. `entries`, `votes`: checked until the end or the break. `number`, `hash`: of the last whole one,
    which proves the history up to there to whoever remembers them; None where there is none. `steps`: those by which
    votes became models; of the `files` that they name and that are there, `changed` have other hashes now."""

    entries: int
    votes: int
    number: int | None
    hash: str | None
    broken: Broken | None
    steps: int = 0
    files: int = 0
    changed: tuple[Changed, ...] = ()


def audit(
    database: Database,
    remembered: Mapping[int, str] | None = None,
    *,
    folders: Mapping[str, Path] | None = None,
    progress: Callable[[int], None] = lambda entries: None,
) -> Audit:
    """Reads the whole log in order, in constant memory, and stops at the first break.

    It recomputes every hash, and holds to the log what the tables say of battles: that each that was voted on or set
    aside is so by one entry, with the same models. `remembered`: hashes by number from earlier audits or from receipts
    of votes, without which an end that was cut off together with its battles cannot be seen. `folders`: where models
    that were made here lie, by name, so that their files are held to the log too. Raises StoreError, and OSError for a
    file that cannot be read.
    """
    verifier, steps, votes, entries = Verifier(remembered), StepCheck(), 0, 0
    broken: Broken | None = None
    for row, battle in beside_log(database):
        broken = _flaw(verifier, row, battle) or _step(verifier, steps)
        if broken:
            break
        entries, votes = entries + 1, votes + (row.kind == "vote")
        if entries % STEP == 0:
            progress(entries)
    last = verifier.last
    if broken is None:
        if end := verifier.end():
            broken = Broken(end.number, end.flaw, end.said)
        else:
            broken = _loose_battle(database, -1 if last is None else last.number)
    files, changed = (0, []) if broken else steps.changed(folders or {})
    number, digest = (last.number, last.hash) if last else (None, None)
    return Audit(entries, votes, number, digest, broken, steps.steps, files, tuple(changed))


def _step(verifier: Verifier, steps: StepCheck) -> Broken | None:
    """What is wrong with the entry that was found whole last, as a step."""
    entry = verifier.last
    said = None if entry is None else steps.check(entry)
    return None if entry is None or said is None else Broken(entry.number, "step", f"entry {entry.number}: {said}")


def _flaw(verifier: Verifier, row: LogRow, battle: StoredBattle | None) -> Broken | None:
    entry = _strictly(row)
    if entry is None:
        return Broken(row.number, "body", f"entry {row.number} was changed: its body is not the JSON that was written")
    if found := verifier.check(entry):
        return Broken(found.number, found.flaw, found.said)
    body = entry.body
    decides = body.get("battle") if row.kind in DECIDED else None
    if (row.battle, row.voter) != (decides, body.get("voter")):
        return _tables(row, "its battle or its voter stands otherwise beside it than in it")
    if row.kind not in DECIDED:
        return None
    if battle is None:
        return _tables(row, f"it decides battle {row.battle}, which is not there")
    if (battle.state, battle.entry) != (DECIDED[row.kind], row.number):
        return _tables(row, f"battle {battle.id} is {battle.state} by entry {battle.entry}")
    if any(body.get(name) != value for name, value in _same(battle, row.kind).items()):
        return _tables(row, f"battle {battle.id} has other models, or was drawn otherwise, than it says")
    return None


def _strictly(row: LogRow) -> Entry | None:
    """The entry of a row; None where its body is not, to the byte, how its value is written."""
    try:
        body: Any = json.loads(row.body)
        if not isinstance(body, dict) or canonical(body) != row.body:
            return None
    except ValueError:
        return None
    return Entry(row.number, row.at, row.kind, body, row.previous, row.hash)


def _same(battle: StoredBattle, kind: str) -> dict[str, Any]:
    """What a battle and the entry that decides it both say."""
    names = ("model_a", "model_b", *(("mode", "probability", "by") if kind == "vote" else ()))
    return {name: getattr(battle, name) for name in names}


def _tables(row: LogRow, said: str) -> Broken:
    return Broken(row.number, "tables", f"entry {row.number} does not agree with the tables: {said}")


def _loose_battle(database: Database, last: int) -> Broken | None:
    with store_errors("read"), database.connect() as connection:
        battle = decided_without_entry(connection)
    if battle is None:
        return None
    number = last + 1 if battle.entry is None else battle.entry
    said = f"battle {battle.id} was decided by entry {battle.entry}, which does not decide it"
    if number <= last:
        return Broken(number, "tables", said)
    return Broken(last + 1, "end", f"the log ends before entry {last + 1}, but {said}: it was cut off")
