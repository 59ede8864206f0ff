"""People, their sessions, the invitations they are given, and how much each did on a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, select, update

from fairground.store.tables import battles, conversations, invitations, log, people, sessions, tallies


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody. `name` is None for a guest; `consent` to publish is None until asked; `made`: ms since the epoch."""

    id: str
    pseudonym: str
    name: str | None
    role: str
    consent: bool | None
    made: int

    @property
    def guest(self) -> bool:
        return self.name is None


@dataclass(frozen=True, slots=True)
class Invitation:
    """A one-time link. `by`: the pseudonym of who gave it; None for the first steward's."""

    role: str
    by: str | None
    expires: int


_PERSON = [people.c[name] for name in Person.__slots__]


def add_person(connection: Connection, person: Person, *, folded: str | None, password: str | None) -> None:
    values = {name: getattr(person, name) for name in Person.__slots__}
    connection.execute(insert(people).values(**values, folded=folded, password=password))


def find_person(
    connection: Connection, *, id_: str | None = None, folded: str | None = None, pseudonym: str | None = None
) -> Person | None:
    """The person of that id, name or pseudonym; None where there is none."""
    which = people.c.id == id_ if id_ is not None else (
        people.c.folded == folded if folded is not None else people.c.pseudonym == pseudonym
    )  # fmt: skip
    row = connection.execute(select(*_PERSON).where(which)).first()
    return None if row is None else Person(*row)


def list_people(connection: Connection, *, named: bool = True) -> list[Person]:
    """All people, the oldest first; with `named`, no guests."""
    query = select(*_PERSON).order_by(people.c.made, people.c.id)
    return [Person(*row) for row in connection.execute(query.where(people.c.name.is_not(None)) if named else query)]


def change_person(connection: Connection, id_: str, **values: Any) -> None:
    """`values`: by columns of the table, such as name, folded, password, role, consent."""
    connection.execute(update(people).where(people.c.id == id_).values(**values))


def read_password(connection: Connection, id_: str) -> str | None:
    """The hash of the person's password."""
    return connection.execute(select(people.c.password).where(people.c.id == id_)).scalar()


def any_of_role(connection: Connection, role: str) -> int:
    """How many people have the role, up to two."""
    return len(connection.execute(select(people.c.id).where(people.c.role == role).limit(2)).all())


def forget_person(connection: Connection, id_: str) -> None:
    """Takes out a person, their sessions and every text of their battles; the battles stay, without them."""
    theirs = select(battles.c.id).where(battles.c.person == id_)
    connection.execute(delete(conversations).where(conversations.c.battle.in_(theirs)))
    connection.execute(update(battles).where(battles.c.person == id_).values(person=None, session="", token=""))
    connection.execute(delete(people).where(people.c.id == id_))


def idle_guests(connection: Connection, *, made_before: int, now: int, limit: int) -> list[str]:
    """The ids of guests, the oldest first, of whom the log knows nothing and nothing that they wrote is kept, made
    before a time, who cannot come back: none of their sessions runs (ms since the epoch)."""
    wrote = exists().where(battles.c.person == people.c.id, conversations.c.battle == battles.c.id)
    query = (
        select(people.c.id)
        .where(
            people.c.name.is_(None), people.c.made < made_before,
            ~exists().where(sessions.c.person == people.c.id, sessions.c.expires > now),
            ~exists().where(log.c.voter == people.c.pseudonym), ~wrote,
        )
        .order_by(people.c.made)
        .limit(limit)
    )  # fmt: skip
    return list(connection.execute(query).scalars())


def drop_people(connection: Connection, ids: Sequence[str]) -> None:
    """Takes out people with their sessions and the battles that they left open; decided ones stay, without them."""
    connection.execute(delete(battles).where(battles.c.person.in_(ids), battles.c.state == "open"))
    connection.execute(update(battles).where(battles.c.person.in_(ids)).values(person=None, session="", token=""))
    connection.execute(delete(people).where(people.c.id.in_(ids)))


def add_session(connection: Connection, values: Mapping[str, Any]) -> None:
    """`values`: id, secret (hash), person, made, expires."""
    connection.execute(insert(sessions).values(dict(values)))


def find_session(connection: Connection, secret: str, now: int) -> tuple[str, Person] | None:
    """The id and the person of the session with that secret (hash); None where there is none that still runs."""
    row = connection.execute(
        select(sessions.c.id.label("session"), *_PERSON)
        .join(people, people.c.id == sessions.c.person)
        .where(sessions.c.secret == secret, sessions.c.expires > now)
    ).first()
    return None if row is None else (row[0], Person(*row[1:]))


def change_secret(connection: Connection, old: str, new: str, expires: int) -> None:
    """A session goes on under another secret (hashes)."""
    connection.execute(update(sessions).where(sessions.c.secret == old).values(secret=new, expires=expires))


def end_sessions(
    connection: Connection, *, secret: str | None = None, person: str | None = None, expired: int | None = None
) -> None:
    """Ends the session of that secret (hash), all of a person, or all that had run out at the time `expired`."""
    which: list[ColumnElement[bool]] = []
    if secret is not None:
        which.append(sessions.c.secret == secret)
    if person is not None:
        which.append(sessions.c.person == person)
    if expired is not None:
        which.append(sessions.c.expires <= expired)
    connection.execute(delete(sessions).where(*which or [sessions.c.id.is_(None)]))


def add_invitation(connection: Connection, secret: str, invitation: Invitation) -> None:
    connection.execute(
        insert(invitations).values(secret=secret, role=invitation.role, by=invitation.by, expires=invitation.expires)
    )


def take_invitation(connection: Connection, secret: str) -> Invitation | None:
    """The invitation of that secret (hash), which nobody can take again; None where there is none."""
    which = invitations.c.secret == secret
    row = connection.execute(select(invitations.c.role, invitations.c.by, invitations.c.expires).where(which)).first()
    connection.execute(delete(invitations).where(which))
    return None if row is None else Invitation(*row)


def drop_first_invitations(connection: Connection) -> None:
    """Takes back what the installation itself gave for the first steward."""
    connection.execute(delete(invitations).where(invitations.c.by.is_(None)))


def count_up(connection: Connection, person: str, what: str, day: int) -> int:
    """How often the person did `what` on the day, this time included."""
    which = (tallies.c.person == person, tallies.c.what == what, tallies.c.day == day)
    before = connection.execute(select(tallies.c.count).where(*which)).scalar()
    if before is None:
        connection.execute(insert(tallies).values(person=person, what=what, day=day, count=1))
        return 1
    connection.execute(update(tallies).where(*which).values(count=before + 1))
    return int(before) + 1
