"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"},
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("suite", String(200), nullable=False),
    Column("models", Text, nullable=False),  # a JSON list of labels
    Column("begun", Float, nullable=False),  # seconds since the epoch
    Column("finished", Float),
    Column("leaderboard", Text),  # JSON, of a finished run
    Column("scores", Text),  # JSON lines, of a finished run
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("run", String(64), ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("task", String(200), primary_key=True),
    Column("shots", Integer, primary_key=True),
    Column("item", String(200), primary_key=True),
    Column("entry", Text, nullable=False),  # JSON
)
