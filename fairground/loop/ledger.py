"""The arena's deeds: what is checked, what is written in the log, and what is kept beside it, as one transaction each.

    with open_database(url) as database:
        ledger = Ledger(database)
        battle = ledger.open_battle(person.id, "a", "b", session=session.id)
        receipt = ledger.vote(battle.id, battle.token, session.id, "model_a")

The log knows people by pseudonym and holds no text. Every method may be called from many threads and processes; what it
wrote is on the disk when it returns. Refusals are ArenaRefusal, for votes VoteRefused, with an HTTP status; where the
database is locked or full that is a refusal too (503), and nothing was written.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Literal, TypeVar, get_args

from sqlalchemy import Connection

from fairground.errors import ArenaRefusal, StoreError, VoteRefused
from fairground.governance.chain import Entry, seal
from fairground.loop.arena_settings import DEFAULTS, PUBLIC_DEFAULTS, check_setting
from fairground.loop.facts import checked_facts, checked_tags, prompt_hash, rounded
from fairground.store import battles, people
from fairground.store import settings as kept
from fairground.store.battles import StoredBattle, Turn
from fairground.store.database import Database, store_errors
from fairground.store.log import Append, Deed, LogRow, Writer, read_entry, read_head, read_log, voter_known
from fairground.store.people import Person
from fairground.store.settings import OfferedModel
from fairground.types import Winner

T = TypeVar("T")
Mode = Literal["battle", "side_by_side", "chat"]
DAY = 86_400_000  # ms
LONGEST_COMMENT = 4_000  # characters
LONGEST_TEXT = 1_000_000  # characters of a prompt or an answer
ID = re.compile("[0-9a-f]{16}")  # of people, pseudonyms, sessions and battles
FORMAT = 1  # of the log's entries
GUESTS_DO_NOT_VOTE = "Guests do not vote here; sign in, and go on."


@dataclass(frozen=True, slots=True)
class OpenBattle:
    """A battle that can be voted on, once, by whoever holds the token in the session that opened it."""

    id: str
    token: str
    expires: int  # ms since the epoch


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a vote counts: entry and hash prove it to anyone who has the log. The models may be shown from now on."""

    number: int
    hash: str
    battle: str
    model_a: str
    model_b: str
    winner: Winner


class Ledger:
    """The arena's deeds in one database.

    `clock`: seconds since the epoch. `redact`: what takes personal data out of a text; without it the setting
    `keep_text` cannot be "redact". `patience`: seconds to wait where another process writes. `public`: whether other
    machines reach the arena, which has stricter defaults (PUBLIC_DEFAULTS).
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        redact: Callable[[str], str] | None = None,
        patience: float = 5.0,
        public: bool = False,
    ) -> None:
        self.database, self._clock, self._redact, self.public = database, clock, redact, public
        self._writer = Writer(database, seal, self.now, patience=patience)
        self._key = self._writer.do(_begin)

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._clock() * 1000)

    def do(self, deed: Deed[T], *, erases: bool = False) -> T:
        """A deed of one's own, as one transaction; with `erases`, what it deletes is gone from the files too.

        Raises ArenaRefusal (503) where the database cannot be written.
        """
        try:
            done = self._writer.do(deed)
            if erases:
                self._writer.scrub()
            return done
        except StoreError as error:
            raise ArenaRefusal("The database cannot be written just now; try again in a moment.", 503) from error

    def read(self, query: Callable[[Connection], T]) -> T:
        """What a query finds. Raises StoreError."""
        with store_errors("read"), self.database.connect() as connection:
            return query(connection)

    # Battles and votes

    def open_battle(
        self,
        person: str,
        model_a: str,
        model_b: str | None,
        *,
        session: str,
        mode: Mode = "battle",
        probability: float = 1.0,
        by: str = "uniform",
    ) -> OpenBattle:
        """Opens a battle of two models, or a chat with one (`model_b` None), for a person (id) in a session (id).

        `probability`: with which this pair was drawn, `by` what. The token is given this once; its hash is kept.
        Raises ArenaRefusal: 400 for models or a mode that make no battle, 401 for nobody, 403 for guests where they may
        not vote, 429 for more battles than a day may have.
        """
        if mode not in get_args(Mode) or (model_b is None) != (mode == "chat") or model_a == model_b:
            raise ArenaRefusal("A battle needs two different models, and a chat one; choose again.", 400)
        if not all(name is None or (0 < len(name) <= 200 and name.isprintable()) for name in (model_a, model_b)):
            raise ArenaRefusal("A model's name has 200 characters at most, which can be printed; choose another.", 400)
        if not 0 <= probability <= 1:
            raise ArenaRefusal("A pair is drawn with a probability from 0 to 1; give that.", 400)
        checked_tags([by])
        token, id_ = secrets.token_urlsafe(32), secrets.token_hex(8)

        def deed(connection: Connection, append: Append) -> OpenBattle:
            settings = self.settings_in(connection)
            self._person(connection, person, settings, ArenaRefusal, votes=mode != "chat")
            now = self.now()
            if people.count_up(connection, person, "battles", now // DAY) > settings["battles_per_day"]:
                raise ArenaRefusal(
                    f"{settings['battles_per_day']} conversations a day are the most here; come back tomorrow.", 429
                )
            expires = now + settings["battle_minutes"] * 60_000
            battles.add_battle(
                connection,
                StoredBattle(
                    id_, hashed(token), session, person, model_a, model_b, mode, rounded(probability), by, now, expires,
                    "open", None,
                ),
            )  # fmt: skip
            return OpenBattle(id_, token, expires)

        return self.do(deed)

    def find_battle(self, battle: str, session: str) -> StoredBattle:
        """A session's own battle, its models included. Raises ArenaRefusal (404) for any other."""
        return self.read(lambda connection: _own(connection, battle, session, ArenaRefusal))

    def add_turn(
        self, battle: str, number: int, prompt: str, answer_a: str, answer_b: str = "", *, system: str = ""
    ) -> None:
        """Keeps what was said in a turn, from 1, as the setting `keep_text` has it: as it is, redacted, or not at all.

        The same number again takes its place. Raises ArenaRefusal: 404 for no battle, 413 for what is too long.
        """
        if max(map(len, (prompt, answer_a, answer_b, system))) > LONGEST_TEXT:
            raise ArenaRefusal(f"A text has {LONGEST_TEXT:,} characters at most; shorten it.", 413)

        def deed(connection: Connection, append: Append) -> None:
            if find(connection, battle) is None:
                raise ArenaRefusal("There is no such conversation; begin a new one.", 404)
            keep = self._keeper(self.settings_in(connection))
            if keep is None:
                return
            battles.keep_turn(connection, battle, Turn(number, keep(prompt), keep(answer_a), keep(answer_b)))
            if system:
                battles.keep_words(connection, battle, system=keep(system))

        self.do(deed)

    def vote(
        self,
        battle: str,
        token: str,
        session: str,
        winner: str,
        *,
        reasons: Sequence[str] = (),
        comment: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Counts a vote, once: battle and log change together, and are on the disk when this returns.

        `reasons`: tags. `comment`: text, kept beside the log as `keep_text` has it. `facts`: see `checked_facts`.
        Raises VoteRefused: 400 for a vote that says nothing, 401 for somebody erased, 403 for another token or for
        guests where they may not vote, 404 for no battle of this session, 409 where it was decided before, 410 after
        its time, 413 for a long comment, 429 for more votes than a day may have, 503 where it cannot be written.
        """
        if winner not in get_args(Winner):
            raise VoteRefused(f"A vote is {', '.join(get_args(Winner))}, and not {winner[:40]!r}; choose one.", 400)
        if len(comment) > LONGEST_COMMENT:
            raise VoteRefused(f"A comment has {LONGEST_COMMENT:,} characters at most; shorten it.", 413)
        said = {**checked_facts(facts or {}), "reasons": checked_tags(reasons), "winner": winner}

        def deed(connection: Connection, append: Append) -> Receipt:
            found = _own(connection, battle, session, VoteRefused)
            if not compare_digest(found.token, hashed(token)):
                raise VoteRefused("This vote does not carry the battle's token; vote from the battle's own page.", 403)
            if found.state != "open":
                done = "was voted on before" if found.state == "voted" else "was set aside"
                raise VoteRefused(f"This battle {done}, so no vote on it counts; begin a new one.", 409)
            if found.model_b is None:
                raise VoteRefused("A chat with one model has nothing to vote on; begin a battle.", 400)
            now, settings = self.now(), self.settings_in(connection)
            if now >= found.expires:
                raise VoteRefused("This battle's time for a vote is over; begin a new one.", 410)
            voter = self._person(connection, found.person, settings, VoteRefused)
            most = settings["guest_votes_per_day" if voter.guest else "votes_per_day"]
            if people.count_up(connection, voter.id, "votes", now // DAY) > most:
                raise VoteRefused(f"{most} votes a day are the most here; come back tomorrow.", 429)
            body = {
                **said, "battle": found.id, "model_a": found.model_a, "model_b": found.model_b, "mode": found.mode,
                "probability": found.probability, "by": found.by, "voter": voter.pseudonym,
            }  # fmt: skip
            entry = append("vote", body, battle=found.id)
            battles.decide(connection, found.id, "voted", entry.number)
            if (comment or voter.consent) and (keep := self._keeper(settings)) is not None:
                battles.keep_words(connection, found.id, comment=keep(comment), publish=bool(voter.consent))
            return Receipt(
                entry.number,
                entry.hash,
                found.id,
                found.model_a,
                found.model_b,
                winner,  # type: ignore[arg-type]
            )

        try:
            return self._writer.do(deed)
        except StoreError as error:
            raise VoteRefused(
                "The vote was not counted, because the database cannot be written just now; vote again in a moment.",
                503,
            ) from error

    def set_aside(self, battle: str, why: str) -> None:
        """Takes an open battle out for good: an engine died, an answer named its maker. `why`: a tag.

        Raises ArenaRefusal: 404 for no battle, 409 for one that was decided before.
        """
        checked_tags([why])

        def deed(connection: Connection, append: Append) -> None:
            found = find(connection, battle)
            if found is None:
                raise ArenaRefusal("There is no such battle; begin a new one.", 404)
            if found.state != "open":
                raise ArenaRefusal("This battle was decided before and stays as it is; begin a new one.", 409)
            body = {"battle": found.id, "model_a": found.model_a, "model_b": found.model_b, "why": why}
            entry = append("set_aside", body, battle=found.id)
            battles.decide(connection, found.id, "set_aside", entry.number)

        self.do(deed)

    # Voters

    def quarantine(self, pseudonym: str, why: str, by: str) -> None:
        """A voter's votes count no more, and stay in the log. `why`: a tag; `by`: a steward's pseudonym, or "tests".

        Raises ArenaRefusal: 404 for nobody, 409 for somebody who is in quarantine.
        """
        checked_tags([why])
        if not ID.fullmatch(pseudonym):
            raise ArenaRefusal("There is no voter of that pseudonym.", 404)

        def deed(connection: Connection, append: Append) -> None:
            if pseudonym in kept.list_quarantined(connection):
                raise ArenaRefusal("This voter is in quarantine already.", 409)
            if not people.find_person(connection, pseudonym=pseudonym) and not voter_known(connection, pseudonym):
                raise ArenaRefusal("There is no voter of that pseudonym.", 404)
            entry = append("quarantine", {"voter": pseudonym, "why": why, "by": by})
            kept.put_in_quarantine(connection, pseudonym, entry.number)

        self.do(deed)

    def release(self, pseudonym: str, by: str) -> None:
        """A voter's votes count again. Raises ArenaRefusal (404) for one who is not in quarantine."""

        def deed(connection: Connection, append: Append) -> None:
            if pseudonym not in kept.list_quarantined(connection):
                raise ArenaRefusal("There is nobody of that pseudonym in quarantine.", 404)
            append("release", {"voter": pseudonym, "by": by})
            kept.release_from_quarantine(connection, pseudonym)

        self.do(deed)

    def quarantined(self) -> dict[str, Entry]:
        """The pseudonyms in quarantine, each with the entry that put it there."""

        def query(connection: Connection) -> dict[str, Entry]:
            found = {voter: read_entry(connection, n) for voter, n in kept.list_quarantined(connection).items()}
            return {voter: as_entry(row) for voter, row in found.items() if row is not None}

        return self.read(query)

    def set_consent(self, person: str, consent: bool) -> None:
        """Whether what a person (id) writes from now on may be published.

        Taking it back takes back every conversation that was not given away yet. Raises ArenaRefusal (404).
        """

        def deed(connection: Connection, append: Append) -> None:
            someone = self._someone(connection, person)
            people.change_person(connection, person, consent=consent)
            if not consent:
                battles.publish_of(connection, person, False)
            append("consent", {"voter": someone.pseudonym, "consent": consent})

        self.do(deed)

    def erase(self, person: str) -> None:
        """Erases a person (id): name, password, sessions and everything that was written in their battles.

        The pseudonym and its votes stay in the log, and nothing leads from there to the person any more. Raises
        ArenaRefusal: 404 for nobody, 409 for the last steward.
        """

        def deed(connection: Connection, append: Append) -> None:
            someone = self._someone(connection, person)
            if someone.role == "steward" and people.any_of_role(connection, "steward") < 2:
                raise ArenaRefusal("The last steward cannot go; make somebody else a steward first.", 409)
            people.forget_person(connection, person)
            append("erased", {"voter": someone.pseudonym})

        self.do(deed, erases=True)

    # What the arena is set to

    def settings(self) -> dict[str, Any]:
        """Every setting by name; see arena_settings.DEFAULTS."""
        return self.read(self.settings_in)

    def settings_in(self, connection: Connection) -> dict[str, Any]:
        """The same within a deed of one's own."""
        return (PUBLIC_DEFAULTS if self.public else DEFAULTS) | kept.read_settings(connection)

    def set_setting(self, name: str, value: object, by: str) -> None:
        """Sets what `check_setting` allows. `by`: a steward's pseudonym. Raises ArenaRefusal (400)."""
        check_setting(name, value)
        if (name, value) == ("keep_text", "redact") and self._redact is None:
            raise ArenaRefusal("Texts cannot be redacted here; pip install 'fairground[privacy]', or keep none.", 400)

        def deed(connection: Connection, append: Append) -> None:
            kept.keep_setting(connection, name, value)
            append("settings", {"name": name, "value": value, "by": by})

        self.do(deed)

    def offer_model(self, name: str, facts: Mapping[str, Any], by: str, *, offered: bool = True) -> None:
        """People meet a model from now on, or with `offered` false no more; nothing is logged where nothing changes.

        `facts`: organisation, licence, parameters and the like; public. `by`: a pseudonym, or "command".
        """

        def deed(connection: Connection, append: Append) -> None:
            before = {model.name: model for model in kept.list_models(connection)}.get(name)
            plain = json.loads(json.dumps(facts))
            if before is not None and (before.facts, before.offered) == (plain, offered):
                return
            entry = append("model", {"model": name, "facts": plain, "offered": offered, "by": by})
            kept.keep_model(connection, OfferedModel(name, plain, offered, entry.at))

        self.do(deed)

    def models(self) -> list[OfferedModel]:
        """Every model that was ever offered, in order of name."""
        return self.read(kept.list_models)

    def prompt_hash(self, prompt: str) -> str:
        """What the log knows of a prompt: 64 bits of a hash under a key of this installation."""
        return prompt_hash(self._key, prompt)

    # The log

    def entries(self, after: int = -1) -> Iterator[Entry]:
        """The log's entries after number `after`, in order; more may be added meanwhile. Raises StoreError."""
        return map(as_entry, read_log(self.database, after=after))

    def entries_of(self, pseudonym: str) -> Iterator[Entry]:
        """The entries about one voter: votes, consent, quarantine, role. Raises StoreError."""
        return map(as_entry, read_log(self.database, voter=pseudonym))

    def head(self) -> Entry:
        """The last entry. Raises StoreError."""
        row = self.read(read_head)
        assert row is not None  # the log was begun
        return as_entry(row)

    def _person(
        self,
        connection: Connection,
        person: str | None,
        settings: Mapping[str, Any],
        refusal: type[ArenaRefusal],
        *,
        votes: bool = True,
    ) -> Person:
        found = None if person is None else people.find_person(connection, id_=person)
        if found is None:
            raise refusal("Nobody is signed in here any more; sign in, or begin as a guest.", 401)
        if votes and found.guest and not settings["guests_may_vote"]:
            raise refusal(GUESTS_DO_NOT_VOTE, 403)
        return found

    def _someone(self, connection: Connection, person: str) -> Person:
        found = people.find_person(connection, id_=person)
        if found is None:
            raise ArenaRefusal("There is no such person.", 404)
        return found

    def _keeper(self, settings: Mapping[str, Any]) -> Callable[[str], str] | None:
        """What is done to a text before it is kept; None where none is kept."""
        match settings["keep_text"]:
            case "none":
                return None
            case "keep":
                return storable
        redact = self._redact
        if redact is None:
            raise ArenaRefusal("Texts cannot be redacted here; pip install 'fairground[privacy]'.", 503)
        return lambda text: storable(redact(text))


def hashed(secret: str) -> str:
    """As what a secret of 32 random bytes is kept: nobody guesses so much, so that a plain hash is enough."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def storable(text: str) -> str:
    """A text as every database takes it: NUL and halves of surrogate pairs are replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def as_entry(row: LogRow) -> Entry:
    """A stored entry as a link of the chain."""
    return Entry(row.number, row.at, row.kind, json.loads(row.body), row.previous, row.hash)


def _begin(connection: Connection, append: Append) -> str:
    """The key of prompts' hashes; begins a log that has not begun."""
    if read_head(connection) is None:
        append("genesis", {"format": FORMAT, "installation": secrets.token_hex(16)})
    key = kept.read_secret(connection, "prompts")
    if key is None:
        key = secrets.token_hex(32)
        kept.keep_secret(connection, "prompts", key)
    return key


def find(connection: Connection, battle: str) -> StoredBattle | None:
    """The battle of an id that anybody may have made up."""
    return battles.find_battle(connection, battle) if ID.fullmatch(battle) else None


def _own(connection: Connection, battle: str, session: str, refusal: type[ArenaRefusal]) -> StoredBattle:
    """A session's own battle; any other is as if it were not there."""
    found = find(connection, battle)
    if found is None or not session or not compare_digest(found.session.encode(), session.encode()):
        raise refusal("There is no such battle in this session; begin a new one.", 404)
    return found
