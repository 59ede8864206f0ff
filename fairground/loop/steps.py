"""The steps by which votes became a better model, in the log: what each made, of what, and with which hashes.

    pairs     votes up to an entry became pairs, in files with these hashes
    trained   the pairs of that entry became a model, in files with these hashes
    model     people meet it under its own name (as any other model)
    verdict   whether it is better than the one it came from

Each names the entry that it builds on by number and hash. What is written twice, as by a command that was interrupted
and given again, stands in the log once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from fairground.governance.chain import Entry
from fairground.loop.facts import rounded
from fairground.loop.ledger import Ledger, as_entry
from fairground.loop.verdict import Verdict, verdict
from fairground.store.log import Append

PAIRS, TRAINED, VERDICT = "pairs", "trained", "verdict"
POINTS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "both_bad": 0.5}
PIECE = 1 << 20


def log_pairs(ledger: Ledger, name: str, model: str, until: tuple[int, str], made: Mapping[str, Any]) -> Entry:
    """That votes up to an entry (number and hash) became pairs to make `name` of `model`; `made`: counts and files."""
    return _once(ledger, PAIRS, {"name": name, "model": model, "until": _pointer(*until), **made})


def log_training(ledger: Ledger, pairs: Entry, made: Mapping[str, Any]) -> Entry:
    """That the pairs of an entry became a model; `made`: base, recipe and files."""
    named = {key: pairs.body[key] for key in ("name", "model")}
    return _once(ledger, TRAINED, {**named, "of": _pointer(pairs.number, pairs.hash), **made})


def log_verdict(ledger: Ledger, trained: Entry, said: Verdict, **more: Any) -> Entry:
    """What a model's verdict was; for people's votes, `until` says up to which entry they were counted."""
    return _once(ledger, VERDICT, {**said.as_json(), "of": _pointer(trained.number, trained.hash), **more})


def log_ranking(ledger: Ledger, trained: Entry, run: str, comparisons: Sequence[Mapping[str, Any]]) -> Entry:
    """What a run of `rank` says of a model beside the one it came from: every measure's paired difference."""
    found = [
        {"metric": one["metric"], "a": one["a"], "b": one["b"], "significant": bool(one["significant"])}
        | {name: rounded(one[name]) for name in ("difference", "low", "high", "p")}
        for one in comparisons
    ]
    named = {"name": trained.body["name"], "against": trained.body["model"], "measure": "rank", "run": run}
    return _once(ledger, VERDICT, {**named, "comparisons": found, "of": _pointer(trained.number, trained.hash)})


def newest_training(ledger: Ledger, name: str) -> Entry | None:
    """The entry that says how a model was made; None of any other."""
    found = None
    for entry in ledger.entries():
        if entry.kind == TRAINED and entry.body["name"] == name:
            found = entry
    return found


@dataclass(frozen=True, slots=True)
class Counted:
    """The results of people's votes, for `verdict`, and the last entry that was read."""

    results: Sequence[tuple[float, str]]
    until: tuple[int, str]


def count_votes(ledger: Ledger, trained: Entry) -> Counted:
    """The blind votes between a model and the one it came from, each with its voter; those in quarantine left out."""
    quarantined = set(ledger.quarantined())
    found: list[tuple[float, str]] = []
    last = trained
    for last in ledger.entries(trained.number):
        if last.kind == "vote" and last.body["voter"] not in quarantined:
            value = points_of(last.body, trained.body["name"], trained.body["model"])
            if value is not None:
                found.append((value, last.body["voter"]))
    return Counted(found, (last.number, last.hash))


def points_of(vote: Mapping[str, Any], name: str, against: str) -> float | None:
    """What a blind vote gives to `name` against the other; None for a vote on other models, or on chosen ones."""
    if vote["mode"] != "battle" or {vote["model_a"], vote["model_b"]} != {name, against}:
        return None
    first = POINTS[vote["winner"]]
    return first if vote["model_a"] == name else 1 - first


def verdict_of_votes(ledger: Ledger, trained: Entry) -> tuple[Verdict, Entry] | None:
    """Whether people prefer a model to the one it came from, as the log has it; None where nobody voted on the two."""
    counted = count_votes(ledger, trained)
    if not counted.results:
        return None
    said = verdict(trained.body["name"], trained.body["model"], "votes", counted.results)
    return said, log_verdict(ledger, trained, said, until=_pointer(*counted.until))


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of those of the named files that are there."""
    return {name: file_hash(folder / name) for name in names if (folder / name).is_file()}


def file_hash(path: Path) -> str:
    """SHA-256, in hexadecimal. Raises OSError."""
    whole = sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            whole.update(piece)
    return whole.hexdigest()


def _pointer(number: int, hash_: str) -> dict[str, Any]:
    return {"number": number, "hash": hash_}


def _once(ledger: Ledger, kind: str, body: Mapping[str, Any]) -> Entry:
    for entry in ledger.entries():
        if entry.kind == kind and entry.body == body:
            return entry

    def deed(connection: Connection, append: Append) -> Entry:
        return as_entry(append(kind, body))

    return ledger.do(deed)
