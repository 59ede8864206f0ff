"""What was written in battles: read by its person, shared by a link, shown as an example, erased."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection

from fairground.errors import ArenaRefusal
from fairground.loop.ledger import Ledger, find, hashed
from fairground.store import battles
from fairground.store.battles import Conversation, StoredBattle
from fairground.store.log import Append


@dataclass(frozen=True, slots=True)
class Shown:
    """A battle with what is kept of its text. Its models may be named only where `revealed`."""

    battle: StoredBattle
    conversation: Conversation | None

    @property
    def revealed(self) -> bool:
        """Whether nobody can be swayed any more: it was decided, or its models were chosen by the person."""
        return self.battle.state != "open" or self.battle.mode != "battle"


class Conversations:
    """The texts of one database. People see their own; all others are as if they were not there (404)."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def mine(self, person: str, *, limit: int = 50, before: int | None = None) -> list[StoredBattle]:
        """A person's (id) battles and chats, the newest first; `before`: opened earlier than that (ms)."""
        return self._ledger.read(lambda c: battles.battles_of(c, person, limit=limit, before=before))

    def read(self, battle: str, person: str) -> Shown:
        """A person's own conversation. Raises ArenaRefusal (404)."""
        return self._ledger.read(lambda connection: self._own(connection, battle, person))

    def share(self, battle: str, person: str) -> str:
        """What a link to a person's own conversation holds; a link made before leads nowhere. Raises ArenaRefusal:
        404 for another's, 409 while it can be voted on or where no text is kept."""
        link = secrets.token_urlsafe(16)

        def deed(connection: Connection, append: Append) -> str:
            shown = self._own(connection, battle, person)
            if not shown.revealed or shown.conversation is None:
                raise ArenaRefusal("There is nothing to share yet: vote first, and let texts be kept.", 409)
            battles.keep_words(connection, battle, share=hashed(link))
            return link

        return self._ledger.do(deed)

    def unshare(self, battle: str, person: str) -> None:
        """No link leads to the conversation any more. Raises ArenaRefusal (404)."""

        def deed(connection: Connection, append: Append) -> None:
            self._own(connection, battle, person)
            battles.unshare(connection, battle)

        self._ledger.do(deed)

    def shared(self, link: str) -> Shown:
        """Where a link leads. Raises ArenaRefusal (404)."""

        def query(connection: Connection) -> Shown:
            conversation = battles.read_conversation(connection, share=hashed(link))
            battle = None if conversation is None else battles.find_battle(connection, conversation.battle)
            if battle is None:
                raise ArenaRefusal("This link leads nowhere (any more).", 404)
            return Shown(battle, conversation)

        return self._ledger.read(query)

    def publish(self, battle: str, person: str, publish: bool) -> None:
        """Allows or forbids that one's own conversation is published, whatever one said before. ArenaRefusal (404)."""

        def deed(connection: Connection, append: Append) -> None:
            if self._own(connection, battle, person).conversation is not None:
                battles.keep_words(connection, battle, publish=publish)

        self._ledger.do(deed)

    def delete(self, battle: str, person: str) -> None:
        """Erases what was written in one's own battle; a vote on it stays. Raises ArenaRefusal (404)."""

        def deed(connection: Connection, append: Append) -> None:
            self._own(connection, battle, person)
            battles.drop_conversation(connection, battle)

        self._ledger.do(deed, erases=True)

    def examples(self, model: str, *, limit: int = 5) -> list[Shown]:
        """The newest conversations with a model that their people allow to be shown, without comments."""

        def query(connection: Connection) -> list[Shown]:
            found = []
            for id_ in battles.published_with(connection, model, limit=limit):
                battle = battles.find_battle(connection, id_)
                if battle is not None:
                    found.append(Shown(battle, battles.read_conversation(connection, battle=id_)))
            return found

        return self._ledger.read(query)

    def _own(self, connection: Connection, battle: str, person: str) -> Shown:
        found = find(connection, battle)
        if found is None or found.person != person:
            raise ArenaRefusal("There is no such conversation.", 404)
        return Shown(found, battles.read_conversation(connection, battle=battle))
