"""Tables are brought up to date wholly or not at all, with what is in them, and never down."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text

import fairground.store
from fairground.errors import MissingExtra, StoreError
from fairground.store import list_runs, open_database


def first_migration(url: str) -> None:
    """The database as the first release made it, with a run in it."""
    config = Config()
    config.set_main_option("script_location", str(Path(fairground.store.__file__).parent / "migrations"))
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO runs (id, suite, models, begun) VALUES ('r1', 'house', '[\"m\"]', 1.5)"))
    engine.dispose()


def test_what_an_older_version_kept_is_there(url: str) -> None:
    first_migration(url)
    with open_database(url) as database:
        assert [(run.id, run.begun) for run in list_runs(database)] == [("r1", 1.5)]
        assert "log" in inspect(database).get_table_names()


def test_a_migration_that_fails_changes_nothing(url: str) -> None:
    first_migration(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE turns (x INTEGER)"))  # in the way of one that is made late
    with pytest.raises(StoreError, match="already exists"), open_database(url):
        pass
    assert set(inspect(engine).get_table_names()) == {"alembic_version", "outcomes", "runs", "turns"}
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE turns"))
    engine.dispose()
    with open_database(url) as database:
        assert "log" in inspect(database).get_table_names()


def test_a_database_of_a_newer_version_is_left_alone(url: str) -> None:
    with open_database(url) as database, database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer Fairground"), open_database(url):
        pass


def test_a_driver_that_is_not_there_is_named_and_a_password_is_not() -> None:
    with pytest.raises(MissingExtra, match=r"fairground\[postgres\]") as said, open_database(
        "postgresql+pg8000://ann:orchid@127.0.0.1/x"
    ):  # fmt: skip
        pass
    assert "orchid" not in str(said.value)
    with pytest.raises(StoreError) as refused, open_database("oracle+nothing://ann:orchid@127.0.0.1/x"):
        pass
    assert "orchid" not in str(refused.value)
    with pytest.raises(StoreError, match="cannot be opened") as closed, open_database(
        "postgresql+psycopg://ann:orchid@127.0.0.1:1/x"
    ):  # fmt: skip
        pass
    assert "orchid" not in str(closed.value)
