"""Runs of `fairground rank`, and the outcomes that they journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("suite", sa.String(200), nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("begun", sa.Float(), nullable=False),
        sa.Column("finished", sa.Float()),
        sa.Column("leaderboard", sa.Text()),
        sa.Column("scores", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_table(
        "outcomes",
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("task", sa.String(200), nullable=False),
        sa.Column("shots", sa.Integer(), nullable=False),
        sa.Column("item", sa.String(200), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "model", "task", "shots", "item", name="pk_outcomes"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_outcomes_run", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("outcomes")
    op.drop_table("runs")
