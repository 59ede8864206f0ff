"""One database, SQLite unless another is named, brought to the newest migration when it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from fairground.errors import MissingExtra, StoreError

WAIT = 30  # seconds that a writer waits for another one
MIGRATING = 0x6D6967  # PostgreSQL's advisory lock under which tables are changed

Database = Engine


def default_database(home: Path) -> str:
    """The address of the database in the state folder."""
    return f"sqlite:///{home / 'fairground.db'}"


@contextmanager
def open_database(url: str) -> Iterator[Database]:
    """The database at the address, with all of its tables; closed at the end.

    SQLite journals ahead (WAL) and syncs every commit, so what was kept outlives a kill and a power failure; what is
    deleted is overwritten. Raises StoreError where the address means nothing or the database cannot be opened.
    """
    try:
        address = make_url(url)
        local = address.get_backend_name() == "sqlite"
        if local and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        # What waited for another's transaction has to see what that one wrote, whatever the server's default is.
        options = {"connect_args": {"timeout": WAIT}} if local else {"isolation_level": "READ COMMITTED"}
        engine = create_engine(address, **options)
    except ImportError as error:
        raise MissingExtra(
            f"A {address.get_backend_name()} database needs {error.name}; for PostgreSQL, install it with: "
            "pip install 'fairground[postgres]'"
        ) from None
    except (ArgumentError, NoSuchModuleError, OSError) as error:
        raise StoreError(f"{_shown(url)} is no database that can be used ({error}); give another address.") from None
    if local:
        event.listen(engine, "connect", _durable)
    try:
        with store_errors("opened"):
            _migrate(engine)
        yield engine
    finally:
        engine.dispose()


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turns SQLAlchemy's errors into StoreError: the database cannot be `what`."""
    try:
        yield
    except SQLAlchemyError as error:
        raise as_store_error(what, error) from error


def as_store_error(what: str, error: SQLAlchemyError) -> StoreError:
    """The sentence for a database that cannot be `what`."""
    reason = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
    return StoreError(f"The database cannot be {what} ({reason}); make room, or name another one with --database.")


def _shown(url: str) -> str:
    """The address without a password, for people to read."""
    try:
        return repr(make_url(url).render_as_string(hide_password=True))
    except ArgumentError:
        return repr(url)


def _durable(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _migrate(engine: Engine) -> None:
    """Brings the tables to the newest migration, wholly or not at all, whoever else does the same."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        if _revision(connection) == scripts.get_current_head():
            return
        connection.rollback()
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATING})")
        found = _revision(connection)
        if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
            raise StoreError(
                f"The database was made by a newer Fairground (its tables are at {found}); bring this one up to date."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def _revision(connection: Connection) -> str | None:
    """At which migration the tables are; None for a database without any."""
    return MigrationContext.configure(connection).get_current_revision()
