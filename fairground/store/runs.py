"""Runs of `fairground rank`: what an unfinished one has measured, and what a finished one found."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from fairground.errors import StoreError
from fairground.store.database import Database, store_errors
from fairground.store.tables import outcomes, runs


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as the store has it. `begun` and `finished` are seconds since the epoch."""

    id: str
    suite: str
    models: tuple[str, ...]
    begun: float
    finished: float | None
    kept: int  # outcomes in its journal


def begin_run(database: Database, id_: str, suite: str, models: Sequence[str], *, fresh: bool = False) -> int:
    """How many outcomes an unfinished run of this id has left behind; 0 for a new one.

    A finished run of the id, or with `fresh` any, is begun anew. Raises StoreError where nothing can be written.
    """
    with store_errors("written"), database.begin() as connection:
        found = connection.execute(select(runs.c.finished).where(runs.c.id == id_)).first()
        if found is not None and found.finished is None and not fresh:
            return _kept(connection, id_)
        connection.execute(delete(outcomes).where(outcomes.c.run == id_))
        connection.execute(delete(runs).where(runs.c.id == id_))
        connection.execute(insert(runs).values(id=id_, suite=suite, models=json.dumps(list(models)), begun=time.time()))
    return 0


def forget_if_empty(database: Database, id_: str) -> bool:
    """Forgets a run that has measured nothing; whether the database then has no run at all. Raises StoreError."""
    with store_errors("written"), database.begin() as connection:
        if not _kept(connection, id_):
            connection.execute(delete(runs).where(runs.c.id == id_, runs.c.finished.is_(None)))
        return not connection.execute(select(func.count()).select_from(runs)).scalar_one()


def _kept(connection: Connection, id_: str) -> int:
    """How many outcomes the run's journal holds."""
    query = select(func.count()).select_from(outcomes).where(outcomes.c.run == id_)
    return int(connection.execute(query).scalar_one())


def finish_run(database: Database, id_: str, leaderboard: str, scores: str) -> None:
    """Keeps what a run found; its journal is not needed any more. Raises StoreError."""
    with store_errors("written"), database.begin() as connection:
        connection.execute(
            update(runs).where(runs.c.id == id_).values(finished=time.time(), leaderboard=leaderboard, scores=scores)
        )
        connection.execute(delete(outcomes).where(outcomes.c.run == id_))


def list_runs(database: Database) -> list[StoredRun]:
    """All runs, the newest first. Raises StoreError."""
    counted = select(outcomes.c.run, func.count().label("kept")).group_by(outcomes.c.run).subquery()
    query = (
        select(runs.c.id, runs.c.suite, runs.c.models, runs.c.begun, runs.c.finished, counted.c.kept)
        .outerjoin(counted, counted.c.run == runs.c.id)
        .order_by(runs.c.begun.desc())
    )
    with store_errors("read"), database.connect() as connection:
        rows = connection.execute(query).all()
    return [StoredRun(r.id, r.suite, tuple(json.loads(r.models)), r.begun, r.finished, r.kept or 0) for r in rows]


def find_run(database: Database, prefix: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Leaderboard and scores of the finished run whose id begins so. Raises StoreError for none, or for several."""
    query = select(runs.c.id, runs.c.leaderboard, runs.c.scores).where(
        runs.c.id.startswith(prefix, autoescape=True), runs.c.finished.is_not(None)
    )
    with store_errors("read"), database.connect() as connection:
        rows = connection.execute(query).all()
    if len(rows) != 1:
        said = "no finished run has" if not rows else f"{len(rows)} runs have"
        raise StoreError(f"{prefix!r} names no one run: {said} an id that begins so; see 'fairground runs'.")
    return json.loads(rows[0].leaderboard), [json.loads(line) for line in rows[0].scores.split("\n") if line]


def read_leaderboards(database: Database, *, limit: int = 100) -> list[tuple[str, float, dict[str, Any]]]:
    """Id, end (seconds since the epoch) and leaderboard of finished runs, the newest first. Raises StoreError."""
    c = runs.c
    query = (
        select(c.id, c.finished, c.leaderboard)
        .where(c.finished.is_not(None))
        .order_by(c.finished.desc(), c.id)
        .limit(limit)
    )
    with store_errors("read"), database.connect() as connection:
        return [(row.id, row.finished, json.loads(row.leaderboard)) for row in connection.execute(query)]


def newest_run(database: Database) -> float | None:
    """When the newest finished run ended, in seconds since the epoch; None where there is none. Raises StoreError."""
    with store_errors("read"), database.connect() as connection:
        found = connection.execute(select(func.max(runs.c.finished))).scalar()
    return None if found is None else float(found)


class RunJournal:
    """What a run has measured, in the database; fulfils fairground.evaluation.journal.Journal."""

    def __init__(self, database: Database, run: str) -> None:
        self._database, self._run = database, run

    def known(self, model: str, task: str, shots: int) -> Mapping[str, Mapping[str, Any]]:
        """Raises StoreError where the database cannot be read."""
        t = outcomes.c
        query = select(t.item, t.entry).where(t.run == self._run, t.model == model, t.task == task, t.shots == shots)
        with store_errors("read"), self._database.connect() as connection:
            return {row.item: json.loads(row.entry) for row in connection.execute(query)}

    def keep(self, model: str, task: str, shots: int, entries: Sequence[Mapping[str, Any]]) -> None:
        """In one transaction, which is on the disk before this returns. Raises StoreError where it cannot be."""
        if not entries:
            return
        head = {"run": self._run, "model": model, "task": task, "shots": shots}
        # Half of a surrogate pair, which a model may write, is no text in UTF-8; JSON spells it in ASCII.
        rows = [{**head, "item": entry["id"], "entry": json.dumps(entry)} for entry in entries]
        t = outcomes.c
        with store_errors("written"), self._database.begin() as connection:
            connection.execute(
                delete(outcomes).where(
                    t.run == self._run, t.model == model, t.task == task, t.shots == shots,
                    t.item.in_([row["item"] for row in rows]),
                )
            )  # fmt: skip
            connection.execute(insert(outcomes), rows)
