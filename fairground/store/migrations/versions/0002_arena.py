"""The arena: people, battles, what was written in them, and the log that nothing is taken out of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SQLITE_GUARD = (
    "CREATE TRIGGER log_keeps_{name} BEFORE {event} ON log BEGIN SELECT RAISE(ABORT, 'the log is only added to'); END"
)
POSTGRESQL_GUARD = (
    "CREATE FUNCTION log_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the log is only added to'; END $$",
    "CREATE TRIGGER log_keeps_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON log "
    "FOR EACH STATEMENT EXECUTE FUNCTION log_is_kept()",
)


def upgrade() -> None:
    op.create_table(
        "people",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("pseudonym", sa.String(32), nullable=False),
        sa.Column("name", sa.String(64)),
        sa.Column("folded", sa.String(128)),
        sa.Column("password", sa.Text()),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("consent", sa.Boolean()),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_people"),
        sa.UniqueConstraint("pseudonym", name="uq_people_pseudonym"),
        sa.UniqueConstraint("folded", name="uq_people_folded"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("person", sa.String(32), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("secret", name="uq_sessions_secret"),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name="fk_sessions_person", ondelete="CASCADE"),
    )
    op.create_index("ix_sessions_person", "sessions", ["person"])
    op.create_table(
        "invitations",
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("by", sa.String(32)),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("secret", name="pk_invitations"),
    )
    op.create_table(
        "tallies",
        sa.Column("person", sa.String(32), nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("person", "what", "day", name="pk_tallies"),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name="fk_tallies_person", ondelete="CASCADE"),
    )
    op.create_table(
        "battles",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("session", sa.String(32), nullable=False),
        sa.Column("person", sa.String(32)),
        sa.Column("model_a", sa.String(200), nullable=False),
        sa.Column("model_b", sa.String(200)),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("by", sa.String(16), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("entry", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_battles"),
        sa.UniqueConstraint("entry", name="uq_battles_entry"),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name="fk_battles_person", ondelete="SET NULL"),
    )
    op.create_index("ix_battles_person", "battles", ["person"])
    op.create_table(
        "conversations",
        sa.Column("battle", sa.String(32), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("publish", sa.Boolean(), nullable=False),
        sa.Column("share", sa.String(64)),
        sa.PrimaryKeyConstraint("battle", name="pk_conversations"),
        sa.UniqueConstraint("share", name="uq_conversations_share"),
        sa.ForeignKeyConstraint(["battle"], ["battles.id"], name="fk_conversations_battle", ondelete="CASCADE"),
    )
    op.create_table(
        "turns",
        sa.Column("battle", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("answer_a", sa.Text(), nullable=False),
        sa.Column("answer_b", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("battle", "number", name="pk_turns"),
        sa.ForeignKeyConstraint(["battle"], ["conversations.battle"], name="fk_turns_battle", ondelete="CASCADE"),
    )
    op.create_table(
        "log",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("battle", sa.String(32)),
        sa.Column("voter", sa.String(32)),
        sa.PrimaryKeyConstraint("number", name="pk_log"),
        sa.UniqueConstraint("battle", name="uq_log_battle"),
    )
    op.create_index("ix_log_voter", "log", ["voter"])
    op.create_table(
        "quarantines",
        sa.Column("voter", sa.String(32), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("voter", name="pk_quarantines"),
    )
    op.create_table(
        "models",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("offered", sa.Boolean(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_settings"),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )
    if op.get_bind().dialect.name == "postgresql":
        for statement in POSTGRESQL_GUARD:
            op.execute(statement)
    else:
        for event in ("UPDATE", "DELETE"):
            op.execute(SQLITE_GUARD.format(name=f"from_{event.lower()}", event=event))


def downgrade() -> None:
    for table in (
        "secrets", "settings", "models", "quarantines", "log", "turns", "conversations", "battles", "tallies",
        "invitations", "sessions", "people",
    ):  # fmt: skip
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION log_is_kept()")
