"""The only SQL: tables, migrations, queries.

with open_database(default_database(home())) as database:
    journal = RunJournal(database, "0123456789abcdef")

The arena's are in `log`, `people`, `battles` and `settings`.
"""

from fairground.store.database import Database, default_database, open_database
from fairground.store.runs import RunJournal, StoredRun, begin_run, find_run, finish_run, forget_if_empty, list_runs

__all__ = [
    "Database",
    "RunJournal",
    "StoredRun",
    "begin_run",
    "default_database",
    "find_run",
    "finish_run",
    "forget_if_empty",
    "list_runs",
    "open_database",
]
