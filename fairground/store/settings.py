"""What an installation is set to, its secrets, the models it offers, and who is in quarantine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from fairground.store.tables import models, quarantines, secrets, settings


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model that people meet. `facts`: organisation, licence and the like. `since`: ms since the epoch."""

    name: str
    facts: dict[str, Any]
    offered: bool
    since: int


def read_settings(connection: Connection) -> dict[str, Any]:
    """Every setting that was ever set."""
    return {row.name: json.loads(row.value) for row in connection.execute(select(settings))}


def keep_setting(connection: Connection, name: str, value: object) -> None:
    connection.execute(delete(settings).where(settings.c.name == name))
    connection.execute(insert(settings).values(name=name, value=json.dumps(value)))


def read_secret(connection: Connection, name: str) -> str | None:
    """The secret of that name; None where there is none yet."""
    return connection.execute(select(secrets.c.value).where(secrets.c.name == name)).scalar()


def keep_secret(connection: Connection, name: str, value: str) -> None:
    connection.execute(insert(secrets).values(name=name, value=value))


def list_models(connection: Connection) -> list[OfferedModel]:
    """Every model that was ever offered, in order of name."""
    rows = connection.execute(select(models).order_by(models.c.name))
    return [OfferedModel(row.name, json.loads(row.facts), row.offered, row.since) for row in rows]


def keep_model(connection: Connection, model: OfferedModel) -> None:
    connection.execute(delete(models).where(models.c.name == model.name))
    connection.execute(
        insert(models).values(name=model.name, facts=json.dumps(model.facts), offered=model.offered, since=model.since)
    )


def list_quarantined(connection: Connection) -> dict[str, int]:
    """The pseudonyms in quarantine, each with the number of the entry that put it there."""
    return {row.voter: row.entry for row in connection.execute(select(quarantines).order_by(quarantines.c.entry))}


def put_in_quarantine(connection: Connection, voter: str, entry: int) -> None:
    connection.execute(insert(quarantines).values(voter=voter, entry=entry))


def release_from_quarantine(connection: Connection, voter: str) -> None:
    connection.execute(delete(quarantines).where(quarantines.c.voter == voter))
