"""The audit: what it finds where somebody changed the log or the tables beside it, and what it remembers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from arena import Arena, opened
from command import Ran, in_this_process
from sqlalchemy import Connection, text

from fairground.governance.chain import NOTHING, canonical, seal
from fairground.loop.audit import Audit, audit
from fairground.store import Database, default_database, open_database

VOTES = 5


def filled(arena: Arena) -> Arena:
    session = arena.guest()
    for _ in range(VOTES):
        arena.vote(session)
    arena.ledger.set_aside(arena.open(session).id, "revealed")
    arena.open(session)
    return arena


def unguard(connection: Connection) -> None:
    """What somebody does who owns the database: takes away what keeps the log from being changed."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("DROP TRIGGER log_keeps_rows ON log"))
    else:
        for event in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER log_keeps_from_{event}"))


def tamper(database: Database, *statements: str) -> None:
    with database.begin() as connection:
        unguard(connection)
        for statement in statements:
            assert connection.exec_driver_sql(statement).rowcount > 0, statement


def forge(database: Database, since: int, change: Callable[[dict[str, object]], dict[str, object]]) -> None:
    """Writes the log anew from an entry on, with another body there and every later hash as it then has to be."""
    with database.begin() as connection:
        unguard(connection)
        rows = connection.execute(text("SELECT * FROM log WHERE number >= :n ORDER BY number"), {"n": since}).all()
        previous = rows[0].previous
        for row in rows:
            body = change(json.loads(row.body)) if row.number == since else json.loads(row.body)
            digest = seal(row.number, row.at, row.kind, body, previous)
            connection.execute(
                text("UPDATE log SET body = :body, previous = :previous, hash = :hash WHERE number = :n"),
                {"body": canonical(body), "previous": previous, "hash": digest, "n": row.number},
            )
            previous = digest


def flaw(found: Audit) -> tuple[int, str]:
    assert found.broken is not None
    assert found.entries == found.broken.number
    return found.broken.number, found.broken.flaw


def test_a_whole_log_is_whole(arena: Arena) -> None:
    filled(arena)
    found = audit(arena.database)
    head = arena.ledger.head()
    assert found == Audit(VOTES + 2, VOTES, head.number, head.hash, None)
    assert audit(arena.database, {entry.number: entry.hash for entry in arena.ledger.entries()}).broken is None


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["UPDATE log SET body = replace(body, 'model_a\"', 'model_b\"') WHERE number = 3"], (3, "body")),
        (["UPDATE log SET body = replace(body, ',', ', ') WHERE number = 2"], (2, "body")),
        (["UPDATE log SET body = 'x' WHERE number = 4"], (4, "body")),
        (["UPDATE log SET body = '[1]' WHERE number = 4"], (4, "body")),
        (["UPDATE log SET at = at + 1 WHERE number = 1"], (1, "body")),
        (["UPDATE log SET kind = 'role' WHERE number = 0"], (0, "body")),
        (["UPDATE log SET hash = previous WHERE number = 3"], (3, "body")),
        (["UPDATE log SET previous = hash WHERE number = 3"], (3, "link")),
        (["DELETE FROM log WHERE number = 3"], (3, "order")),
        (["DELETE FROM log WHERE number = 0"], (0, "order")),
        (["UPDATE log SET number = 99 WHERE number = 2", "UPDATE log SET number = 2 WHERE number = 3",
          "UPDATE log SET number = 3 WHERE number = 99"], (2, "link")),
        (["DELETE FROM log WHERE number >= 4"], (4, "end")),  # its battles still say that they were voted on
        (["UPDATE log SET voter = 'somebody' WHERE number = 1"], (1, "tables")),
        (["UPDATE log SET battle = NULL WHERE number = 2"], (2, "tables")),
        (["UPDATE battles SET state = 'open', entry = NULL WHERE entry = 2"], (2, "tables")),
        (["UPDATE battles SET state = 'voted' WHERE entry = 6"], (6, "tables")),
        (["UPDATE battles SET model_a = 'eve' WHERE entry = 5"], (5, "tables")),
        (["UPDATE battles SET entry = 77 WHERE entry = 1"], (1, "tables")),
        (["DELETE FROM battles WHERE entry = 3"], (3, "tables")),
    ],
)  # fmt: skip
def test_a_change_is_found_where_it_was_made(tmp_path: Path, statements: list[str], expected: tuple[int, str]) -> None:
    with opened(default_database(tmp_path)) as arena:
        filled(arena)
        tamper(arena.database, *statements)
        assert flaw(audit(arena.database)) == expected


def test_a_change_is_found_in_postgresql_too(postgres: Callable[..., str]) -> None:
    with opened(postgres(tables=True)) as arena:
        filled(arena)
        tamper(arena.database, "UPDATE log SET body = replace(body, 'model_a\"', 'model_b\"') WHERE number = 3")
        assert flaw(audit(arena.database)) == (3, "body")


def test_a_voted_battle_without_its_entry_is_found(arena: Arena) -> None:
    filled(arena)
    with arena.database.begin() as connection:
        connection.execute(text("UPDATE battles SET state = 'voted', entry = 100 WHERE state = 'open'"))
    assert flaw(audit(arena.database)) == (VOTES + 2, "end")
    with arena.database.begin() as connection:
        connection.execute(text("UPDATE battles SET entry = NULL WHERE entry = 100"))
    found = audit(arena.database).broken
    assert found is not None
    assert found.flaw == "end"


def test_a_log_written_anew_is_whole_but_for_who_remembers(tmp_path: Path) -> None:
    """The chain's limit: somebody with the database can write it anew, but not the receipts that others hold."""
    with opened(default_database(tmp_path)) as arena:
        filled(arena)
        receipt = {4: list(arena.ledger.entries())[4].hash}
        forge(arena.database, 2, lambda body: {**body, "winner": "model_b"})
        assert audit(arena.database).broken is None
        assert flaw(audit(arena.database, receipt)) == (4, "history")


def test_an_end_cut_off_with_its_battles_is_found_by_who_remembers(tmp_path: Path) -> None:
    with opened(default_database(tmp_path)) as arena:
        filled(arena)
        head = arena.ledger.head()
        tamper(
            arena.database, "UPDATE battles SET state = 'open', entry = NULL WHERE entry > 3",
            "DELETE FROM log WHERE number > 3",
        )  # fmt: skip
        assert audit(arena.database).broken is None
        assert flaw(audit(arena.database, {head.number: head.hash})) == (4, "end")


def test_an_empty_database_has_no_log(url: str) -> None:
    with open_database(url) as database:
        assert audit(database) == Audit(0, 0, None, None, None)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    return in_this_process(tmp_path, monkeypatch, capfd)


def test_the_command_remembers_and_says_where_it_breaks(command: Callable[..., Ran], tmp_path: Path) -> None:
    url = default_database(tmp_path / "home")
    assert "fairground audit" in command("audit", "--help").out
    command("audit").refused("no database", "fairground up")
    with opened(url) as arena:
        filled(arena)
        head = arena.ledger.head()
    first = command("audit")
    assert first.status == 0
    assert "whole: 7 entries, 5 of them votes." in first.out
    assert f"{head.number}:{head.hash}" in first.out
    assert "still holds 1 remembered" in command("audit").out
    good, bad = f"{head.number}:{head.hash}", f"{head.number}:{'0' * 64}"
    assert command("audit", "--head", good).status == 0
    assert command("audit", "--forget", "--head", bad).status == 1
    command("audit", "--head", bad).refused("earlier audit")
    for nonsense in ("6", "6:abc", "x:" + "0" * 64, "-1:" + "0" * 64):
        command("audit", "--head", nonsense).refused("NUMBER:HASH")
    with open_database(url) as database:
        forge(database, 2, lambda body: {**body, "winner": "model_b"})
    broken = command("audit")
    assert broken.status == 1
    assert broken.out == (
        f"The log is broken at entry {head.number}: entry {head.number} has another hash than is remembered: history "
        "was rewritten.\n"
    )
    told = json.loads(command("audit", "--json").out)
    assert (told["whole"], told["broken"]["number"], told["broken"]["flaw"]) == (False, head.number, "history")
    assert command("audit", "--forget").status == 0
    assert json.loads(command("audit", "--json").out)["whole"] is True
    (tmp_path / "home" / "audited.json").write_text("{")
    assert command("audit").status == 2


SCALE = """
import json, sys
from pathlib import Path
from fairground.loop.audit import audit
from fairground.store import open_database
with open_database(sys.argv[1]) as database:
    found = audit(database)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([found.entries, found.broken is None, int(peak.split()[1]) / 1024]))
"""


def many(database: Database, entries: int) -> None:
    """A log of so many entries, sealed by the chain's own rule, with the battles that they decide."""
    previous, log, battles = NOTHING, [], []
    for number in range(entries):
        id_ = f"{number:016x}"
        body = {
            "battle": id_, "model_a": "ada", "model_b": "bob", "mode": "battle", "probability": 0.5, "by": "uniform",
            "winner": "tie", "voter": id_, "style": [0.1, 0.2, 0.3, 0.4], "tags": ["code"], "prompt": id_, "turns": 1,
        }  # fmt: skip
        digest = seal(number, number, "vote", body, previous)
        log.append((number, number, "vote", canonical(body), previous, digest, id_, id_))
        battles.append((id_, "", "", None, "ada", "bob", "battle", 0.5, "uniform", 0, 0, "voted", number))
        previous = digest
    with database.begin() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.executemany("INSERT INTO battles VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", battles)
        raw.executemany("INSERT INTO log VALUES (?,?,?,?,?,?,?,?)", log)


@pytest.mark.verify
def test_the_audit_takes_no_more_memory_for_more_entries(tmp_path: Path) -> None:
    measured = []
    for entries in (2_000, 200_000):
        url = default_database(tmp_path / str(entries))
        with open_database(url) as database:
            many(database, entries)
        done = subprocess.run(
            [sys.executable, "-c", SCALE, url], capture_output=True, text=True, check=True, env=dict(os.environ)
        )
        found, whole, megabytes = json.loads(done.stdout)
        assert (found, whole) == (entries, True)
        measured.append(megabytes)
    assert measured[1] - measured[0] < 20, measured
