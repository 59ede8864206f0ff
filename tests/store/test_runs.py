"""Runs in the database: what is kept outlives its process, in SQLite and in PostgreSQL's words."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import event, inspect

from fairground.errors import StoreError
from fairground.store import RunJournal, begin_run, default_database, find_run, finish_run, list_runs, open_database
from fairground.store.tables import metadata


def test_migrations_make_the_tables_that_queries_expect(url: str) -> None:
    with open_database(url) as database:
        found = inspect(database)
        for table in metadata.sorted_tables:
            columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
            assert columns == {column.name: column.nullable for column in table.columns}
            keys = found.get_pk_constraint(table.name)["constrained_columns"]
            assert keys == [column.name for column in table.primary_key]
    with open_database(url):  # again: nothing is left to do
        pass


def test_what_is_kept_is_there_when_the_database_is_opened_again(url: str) -> None:
    entries = [{"id": "a", "measures": {"accuracy": 1.0}}, {"id": "b", "record": {"answer": "\ud800"}}]
    with open_database(url) as database:
        assert begin_run(database, "r1", "house", ["m"]) == 0
        journal = RunJournal(database, "r1")
        journal.keep("m", "quiz", 0, entries)
        journal.keep("m", "quiz", 0, [{"id": "a", "measures": {"accuracy": 0.0}}])
        journal.keep("m", "quiz", 0, [])
    with open_database(url) as database:
        assert begin_run(database, "r1", "house", ["m"]) == 2
        known = RunJournal(database, "r1").known("m", "quiz", 0)
        assert known["a"] == {"id": "a", "measures": {"accuracy": 0.0}}
        assert known["b"] == entries[1]
        assert RunJournal(database, "r1").known("m", "quiz", 5) == {}
        assert RunJournal(database, "r2").known("m", "quiz", 0) == {}
        (run,) = list_runs(database)
        assert (run.id, run.suite, run.models, run.finished, run.kept) == ("r1", "house", ("m",), None, 2)
        assert begin_run(database, "r1", "house", ["m"], fresh=True) == 0
        assert RunJournal(database, "r1").known("m", "quiz", 0) == {}


def test_a_finished_run_is_found_by_the_beginning_of_its_id(url: str) -> None:
    with open_database(url) as database:
        for id_ in ("abc1", "abd2", "abe%"):
            begin_run(database, id_, "house", ["m"])
        RunJournal(database, "abc1").keep("m", "quiz", 0, [{"id": "a"}])
        finish_run(database, "abc1", '{"run": 1}', '{"id": "a"}\n{"id": "b"}\n')
        finish_run(database, "abd2", "{}", "")
        assert find_run(database, "abc") == ({"run": 1}, [{"id": "a"}, {"id": "b"}])
        assert [run.kept for run in list_runs(database) if run.id == "abc1"] == [0]
        for name, says in (
            ("ab", "2 runs have"),
            ("x", "no finished run"),
            ("abe", "no finished run"),
            ("%", "no fin"),
        ):
            with pytest.raises(StoreError, match=says):
                find_run(database, name)
        # It is begun anew, not gone on with.
        assert begin_run(database, "abc1", "house", ["m"]) == 0


def test_every_commit_is_synced_before_it_returns(tmp_path: Path) -> None:
    with open_database(default_database(tmp_path)) as database, database.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


@pytest.mark.parametrize("address", ["nonsense", "sqlite:////proc/nowhere/x.db", "oracle+nothing://x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(StoreError, match=r"(give|name) another"), open_database(address):
        pass


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, but long enough to be looked at " * 50)
    with pytest.raises(StoreError, match="not a database"), open_database(f"sqlite:///{tmp_path / 'x.db'}"):
        pass


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with open_database(default_database(tmp_path)) as database:
        begin_run(database, "r1", "house", ["m"])
        database.dispose()
        event.listen(database, "connect", lambda connection, record: connection.execute("PRAGMA max_page_count=1"))
        with pytest.raises(StoreError, match="full"):
            RunJournal(database, "r1").keep("m", "quiz", 0, [{"id": str(i), "record": "x" * 9_000} for i in range(99)])
        database.dispose()
