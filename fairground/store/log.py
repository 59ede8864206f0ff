"""The log: entries that are only added, each sealed onto the one before, and read in order.

`Writer` is the one way in. Deeds of many threads share transactions, since the disk is synced once for all of them; a
deed is on the disk before `do` gives its result, and one that refuses leaves nothing behind and hinders no other.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError

from fairground.errors import StoreError
from fairground.store.database import Database, as_store_error, store_errors
from fairground.store.tables import log

LARGEST_GROUP = 500  # deeds in one transaction, so that nobody waits long for others
LOCK = 0x6C6F67  # PostgreSQL's advisory lock under which entries are added, by whatever process
CHUNK = 5_000  # entries that are read at a time
NOTHING = "0" * 64  # what the first entry has before it

T = TypeVar("T")
Seal = Callable[[int, int, str, Mapping[str, Any], str], str]


@dataclass(frozen=True, slots=True)
class LogRow:
    """An entry as it is stored. `at`: milliseconds since the epoch. `body`: JSON. `battle`, `voter`: as in the body."""

    number: int
    at: int
    kind: str
    body: str
    previous: str
    hash: str
    battle: str | None
    voter: str | None


class Append(Protocol):
    """Adds an entry within the transaction of a deed. `battle`: the one that it decides, which no other entry may."""

    def __call__(self, kind: str, body: Mapping[str, Any], *, battle: str | None = None) -> LogRow: ...


Deed = Callable[[Connection, Append], T]


@dataclass(slots=True, eq=False)
class _Task:
    deed: Deed[Any]
    ready: threading.Event = field(default_factory=threading.Event)  # done, or the one to do what has gathered
    done: bool = False
    result: Any = None
    error: BaseException | None = None

    def settle(self, error: BaseException | None) -> None:
        """It was not done."""
        self.error, self.done = error, True


class _DeedFailed(Exception):
    """The database failed within a deed, rather than as its transaction began or ended."""


class Writer:
    """Does deeds, each wholly or not at all.

    `seal`: the hash of number, at, kind, body and the hash before. `clock`: milliseconds since the epoch. An entry is
    never earlier than the one before it: where the clock went backwards, time stands still in the log. `patience`:
    seconds to wait for another process.
    """

    def __init__(self, database: Database, seal: Seal, clock: Callable[[], int], *, patience: float = 5.0) -> None:
        self._database, self._seal, self._clock, self._patience = database, seal, clock, patience
        self._waiting: deque[_Task] = deque()
        self._busy = False  # whether a thread is at work, which will hand on to those that wait
        self._mutex = threading.Lock()  # for the two above

    def do(self, deed: Deed[T]) -> T:
        """What `deed` gives, once all that it wrote is on the disk.

        Whatever it raises is raised here, and nothing of it was written. So it is where the database cannot be
        written, which raises StoreError.
        """
        task = _Task(deed)
        with self._mutex:
            self._waiting.append(task)
            leads, self._busy = not self._busy, True
        if not leads:
            task.ready.wait()
        if not task.done:
            self._lead()
        if task.error is not None:
            raise task.error
        return task.result  # type: ignore[no-any-return]

    def _lead(self) -> None:
        """Does what has gathered, in the thread that came first, and hands on to the first that came meanwhile."""
        with self._mutex:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_GROUP))]
        try:
            self._run(group)
        finally:
            with self._mutex:
                self._busy = bool(self._waiting)
                following = self._waiting[0] if self._waiting else None
            if following is not None:
                following.ready.set()
            for task in group:
                if not task.done:  # the process is told to end
                    task.settle(StoreError("The database was not written, because the process ends."))
                task.ready.set()

    def scrub(self) -> None:
        """After something was erased: nothing of it is left in SQLite's files, unless another still reads there.

        In PostgreSQL that is its own vacuum's work. Raises StoreError.
        """
        if self._database.dialect.name == "sqlite":
            with store_errors("written"), self._database.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def _run(self, group: Sequence[_Task]) -> None:
        try:
            self._together(group)
        except _DeedFailed as failed:
            if len(group) == 1:
                group[0].settle(failed.__cause__)
            else:  # nothing was written, and the others need not suffer for one
                for task in group:
                    self._run([task])
        except StoreError as error:
            for task in group:
                task.settle(StoreError(str(error)))

    def _together(self, group: Sequence[_Task]) -> None:
        """All of them in one transaction. Raises _DeedFailed or StoreError: nothing was written."""
        with store_errors("written"), self._database.connect() as connection:
            self._begin(connection)
            sealer = _Sealer(connection, self._seal, self._clock)
            for task in group:
                task.error, head = None, sealer.head
                try:
                    with connection.begin_nested():
                        task.result = task.deed(connection, sealer.append)
                except DBAPIError as error:  # what is left of the transaction is not to be trusted
                    raise _DeedFailed from as_store_error("written", error)
                except Exception as error:
                    task.error, sealer.head = error, head
            connection.commit()
        for task in group:
            task.done = True

    def _begin(self, connection: Connection) -> None:
        """Begins a transaction that no other one that writes to the log runs beside."""
        wait = int(self._patience * 1000)
        if self._database.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA busy_timeout={wait}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait}")
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")


class _Sealer:
    """The end of the log within one transaction."""

    def __init__(self, connection: Connection, seal: Seal, clock: Callable[[], int]) -> None:
        self._connection, self._seal, self._clock = connection, seal, clock
        self.head = read_head(connection)

    def append(self, kind: str, body: Mapping[str, Any], *, battle: str | None = None) -> LogRow:
        number, previous, earliest = 0, NOTHING, 0
        if self.head is not None:
            number, previous, earliest = self.head.number + 1, self.head.hash, self.head.at
        at = max(self._clock(), earliest)
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        # Sealed as it will be read.
        digest = self._seal(number, at, kind, json.loads(text), previous)
        self.head = LogRow(number, at, kind, text, previous, digest, battle, body.get("voter"))
        self._connection.execute(insert(log).values({name: getattr(self.head, name) for name in LogRow.__slots__}))
        return self.head


_COLUMNS = [log.c[name] for name in LogRow.__slots__]


def read_head(connection: Connection) -> LogRow | None:
    """The last entry; None where there is none."""
    row = connection.execute(select(*_COLUMNS).order_by(log.c.number.desc()).limit(1)).first()
    return None if row is None else LogRow(*row)


def read_entry(connection: Connection, number: int) -> LogRow | None:
    """The entry of that number; None where there is none."""
    row = connection.execute(select(*_COLUMNS).where(log.c.number == number)).first()
    return None if row is None else LogRow(*row)


def voter_known(connection: Connection, voter: str) -> bool:
    """Whether the log has an entry about the voter."""
    return connection.execute(select(log.c.number).where(log.c.voter == voter).limit(1)).first() is not None


def read_log(database: Database, *, after: int = -1, voter: str | None = None) -> Iterator[LogRow]:
    """The entries whose number is greater than `after`, in order, a chunk at a time; with `voter`, theirs alone.

    Raises StoreError where the database cannot be read.
    """
    query = select(*_COLUMNS).order_by(log.c.number).limit(CHUNK)
    if voter is not None:
        query = query.where(log.c.voter == voter)
    while True:
        with store_errors("read"), database.connect() as connection:
            rows = connection.execute(query.where(log.c.number > after)).all()
        for row in rows:
            yield LogRow(*row)
        if len(rows) < CHUNK:
            return
        after = rows[-1].number
