"""Battles, and what was written in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from fairground.store.database import Database, store_errors
from fairground.store.log import LogRow
from fairground.store.tables import battles, conversations, log, turns

CHUNK = 1_000  # rows that are read at a time


@dataclass(frozen=True, slots=True)
class StoredBattle:
    """A battle, its models included: not for the eyes of whoever has still to vote.

    `token`: its hash. `session`: the id of the session it was opened in. `person`: None once erased. `model_b`: None
    in a chat. `opened`, `expires`: ms since the epoch. `state`: open, voted or set_aside. `entry`: the number in the
    log of what decided it.
    """

    id: str
    token: str
    session: str
    person: str | None
    model_a: str
    model_b: str | None
    mode: str
    probability: float
    by: str
    opened: int
    expires: int
    state: str
    entry: int | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt and what the two answered, as far as it is kept; `answer_b` is empty in a chat."""

    number: int
    prompt: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was written in a battle. `publish`: whether its person allows it to be shown and given away."""

    battle: str
    system: str
    comment: str
    publish: bool
    turns: tuple[Turn, ...]


_BATTLE = [battles.c[name] for name in StoredBattle.__slots__]
_TURN = [turns.c[name] for name in Turn.__slots__]


def add_battle(connection: Connection, battle: StoredBattle) -> None:
    connection.execute(insert(battles).values({name: getattr(battle, name) for name in StoredBattle.__slots__}))


def find_battle(connection: Connection, id_: str) -> StoredBattle | None:
    """The battle of that id; None where there is none."""
    row = connection.execute(select(*_BATTLE).where(battles.c.id == id_)).first()
    return None if row is None else StoredBattle(*row)


def battles_of(connection: Connection, person: str, *, limit: int, before: int | None = None) -> list[StoredBattle]:
    """A person's battles, the newest first; with `before`, those opened earlier (ms since the epoch)."""
    query = select(*_BATTLE).where(battles.c.person == person)
    if before is not None:
        query = query.where(battles.c.opened < before)
    rows = connection.execute(query.order_by(battles.c.opened.desc(), battles.c.id).limit(limit))
    return [StoredBattle(*row) for row in rows]


def decide(connection: Connection, id_: str, state: str, entry: int) -> None:
    """Marks what became of an open battle, and which entry of the log says so."""
    connection.execute(
        update(battles).where(battles.c.id == id_, battles.c.state == "open").values(state=state, entry=entry)
    )


def _conversation(connection: Connection, battle: str) -> None:
    """Begins the conversation of a battle, where nothing of it is kept yet."""
    if connection.execute(select(conversations.c.battle).where(conversations.c.battle == battle)).first() is None:
        connection.execute(insert(conversations).values(battle=battle, system="", comment="", publish=False))


def keep_turn(connection: Connection, battle: str, turn: Turn) -> None:
    """Keeps a turn, in the place of one with its number."""
    _conversation(connection, battle)
    connection.execute(delete(turns).where(turns.c.battle == battle, turns.c.number == turn.number))
    connection.execute(
        insert(turns).values(
            battle=battle, number=turn.number, prompt=turn.prompt, answer_a=turn.answer_a, answer_b=turn.answer_b
        )
    )


def keep_words(
    connection: Connection,
    battle: str,
    *,
    system: str | None = None,
    comment: str | None = None,
    publish: bool | None = None,
    share: str | None = None,
) -> None:
    """Keeps what is given of a conversation; `share` is the hash of what a link holds."""
    given = {"system": system, "comment": comment, "publish": publish, "share": share}
    values = {name: value for name, value in given.items() if value is not None}
    _conversation(connection, battle)
    if values:
        connection.execute(update(conversations).where(conversations.c.battle == battle).values(values))


def unshare(connection: Connection, battle: str) -> None:
    """No link leads to the conversation any more."""
    connection.execute(update(conversations).where(conversations.c.battle == battle).values(share=None))


def publish_of(connection: Connection, person: str, publish: bool) -> None:
    """Allows or forbids that the conversations a person has had are published."""
    theirs = select(battles.c.id).where(battles.c.person == person)
    connection.execute(update(conversations).where(conversations.c.battle.in_(theirs)).values(publish=publish))


def drop_conversation(connection: Connection, battle: str) -> None:
    """Erases what was written in a battle."""
    connection.execute(delete(conversations).where(conversations.c.battle == battle))


def read_conversation(
    connection: Connection, *, battle: str | None = None, share: str | None = None
) -> Conversation | None:
    """What is kept of a battle's conversation, by the battle or by a link (hash); None where nothing is."""
    which = conversations.c.battle == battle if share is None else conversations.c.share == share
    c = conversations.c
    row = connection.execute(select(c.battle, c.system, c.comment, c.publish).where(which)).first()
    if row is None:
        return None
    found = connection.execute(select(*_TURN).where(turns.c.battle == row.battle).order_by(turns.c.number))
    return Conversation(*row, turns=tuple(Turn(*turn) for turn in found))


def published_with(connection: Connection, model: str, *, limit: int) -> list[str]:
    """The newest battles of a model that were voted on and may be shown."""
    query = (
        select(battles.c.id)
        .join(conversations, conversations.c.battle == battles.c.id)
        .where(
            conversations.c.publish, battles.c.state == "voted",
            or_(battles.c.model_a == model, battles.c.model_b == model),
        )
        .order_by(battles.c.entry.desc())
        .limit(limit)
    )  # fmt: skip
    return list(connection.execute(query).scalars())


def beside_log(database: Database, *, after: int = -1) -> Iterator[tuple[LogRow, StoredBattle | None]]:
    """Each entry of the log, in order, with the battle that it decides, as the table has it; a chunk at a time.

    Raises StoreError where the database cannot be read.
    """
    entry = [log.c[name] for name in LogRow.__slots__]
    query = (
        select(*entry, *_BATTLE).outerjoin(battles, battles.c.id == log.c.battle).order_by(log.c.number).limit(CHUNK)
    )
    while True:
        with store_errors("read"), database.connect() as connection:
            rows = [tuple(row) for row in connection.execute(query.where(log.c.number > after))]
        for row in rows:
            battle = row[len(entry) :]
            yield LogRow(*row[: len(entry)]), None if battle[0] is None else StoredBattle(*battle)
        if len(rows) < CHUNK:
            return
        after = rows[-1][0]


def decided_without_entry(connection: Connection) -> StoredBattle | None:
    """A battle that was decided by an entry that is not in the log, the first by its number; None where none is."""
    query = (
        select(*_BATTLE)
        .where(battles.c.state != "open", ~exists().where(log.c.battle == battles.c.id))
        .order_by(battles.c.entry)
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else StoredBattle(*row)


def read_published(connection: Connection, ids: Sequence[str]) -> dict[str, Conversation]:
    """What may be published of these battles' conversations, by battle."""
    c = conversations.c
    found = connection.execute(
        select(c.battle, c.system, c.comment, c.publish).where(c.publish, c.battle.in_(ids))
    ).all()
    said: dict[str, list[Turn]] = {row.battle: [] for row in found}
    query = select(turns.c.battle, *_TURN).where(turns.c.battle.in_(said)).order_by(turns.c.battle, turns.c.number)
    for battle, *turn in connection.execute(query):
        said[battle].append(Turn(*turn))
    return {row.battle: Conversation(*row, turns=tuple(said[row.battle])) for row in found}
