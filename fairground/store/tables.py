"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    },
)

# Below, times are milliseconds since the epoch; hashes are SHA-256 in hexadecimal.

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

people = Table(
    "people",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("pseudonym", String(32), nullable=False, unique=True),  # random; all that the log knows of a person
    Column("name", String(64)),  # none: a guest
    Column("folded", String(128), unique=True),  # the name as it is compared with others
    Column("password", Text),  # argon2id
    Column("role", String(16), nullable=False),
    Column("consent", Boolean),  # to publish conversations; none: not asked yet
    Column("made", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(32), primary_key=True),  # stays when the secret is changed
    Column("secret", String(64), nullable=False, unique=True),  # hash of what the cookie holds
    Column("person", String(32), ForeignKey("people.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("made", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

invitations = Table(
    "invitations",
    metadata,
    Column("secret", String(64), primary_key=True),  # hash of what the one-time link holds
    Column("role", String(16), nullable=False),
    Column("by", String(32)),  # pseudonym; none: the installation itself, for the first steward
    Column("expires", BigInteger, nullable=False),
)

tallies = Table(
    "tallies",
    metadata,
    Column("person", String(32), ForeignKey("people.id", ondelete="CASCADE"), primary_key=True),
    Column("what", String(16), primary_key=True),
    Column("day", Integer, primary_key=True),  # days since the epoch, UTC
    Column("count", Integer, nullable=False),
)

battles = Table(
    "battles",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("token", String(64), nullable=False),  # hash
    Column("session", String(32), nullable=False),
    Column("person", String(32), ForeignKey("people.id", ondelete="SET NULL"), index=True),  # none: erased
    Column("model_a", String(200), nullable=False),
    Column("model_b", String(200)),  # none: a chat with one model
    Column("mode", String(16), nullable=False),
    Column("probability", Float, nullable=False),
    Column("by", String(16), nullable=False),
    Column("opened", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # open, voted, set_aside
    Column("entry", BigInteger, unique=True),  # number in the log of what decided it
)

# What people and models wrote lies here alone, and can be erased.
conversations = Table(
    "conversations",
    metadata,
    Column("battle", String(32), ForeignKey("battles.id", ondelete="CASCADE"), primary_key=True),
    Column("system", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("publish", Boolean, nullable=False),
    Column("share", String(64), unique=True),  # hash of what a shared link holds
)

turns = Table(
    "turns",
    metadata,
    Column("battle", String(32), ForeignKey("conversations.battle", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("prompt", Text, nullable=False),
    Column("answer_a", Text, nullable=False),
    Column("answer_b", Text, nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    # As in the body, to be found by; a battle is decided once.
    Column("battle", String(32), unique=True),
    Column("voter", String(32), index=True),
)

quarantines = Table(
    "quarantines",
    metadata,
    Column("voter", String(32), primary_key=True),
    Column("entry", BigInteger, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("facts", Text, nullable=False),  # JSON
    Column("offered", Boolean, nullable=False),
    Column("since", BigInteger, nullable=False),
)

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),  # JSON
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(128), nullable=False),
)
