"""Accounts of this installation alone: guests, names and passwords, sessions, roles and one-time links."""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from functools import cache
from hmac import compare_digest
from hmac import new as hmac
from typing import Any, Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import Connection

from fairground.errors import ArenaRefusal
from fairground.loop.ledger import Ledger, hashed, storable
from fairground.store import people
from fairground.store.log import Append
from fairground.store.people import Invitation, Person

Role = Literal["reader", "contributor", "maintainer", "steward"]  # each may what those before may
ROLES: tuple[str, ...] = get_args(Role)
SESSION = 30 * 86_400_000  # ms; a guest's is never prolonged
LINK = 7 * 86_400_000  # ms
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 1_000  # characters
LONGEST_NAME = 40  # characters
IDLE_DAYS = 30  # after which a guest who did nothing is forgotten, as their session ends
MOST_FORGOTTEN = 1_000  # at a time, so that nobody waits long for it
DAY = 86_400_000  # ms


@dataclass(frozen=True, slots=True)
class Session:
    """Whose request it is: a session's id, which stays while its cookie changes, and the person."""

    id: str
    person: Person


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that has just begun or changed: `cookie` is given this once, and only its hash is kept."""

    cookie: str
    session: Session


class People:
    """The people of an arena. `hasher`: argon2id, as RFC 9106 recommends where memory is scarce."""

    def __init__(self, ledger: Ledger, *, hasher: PasswordHasher | None = None) -> None:
        self._ledger, self._hasher = ledger, hasher or PasswordHasher()
        self._swept = 0  # when guests were last looked through, in ms
        self._nobody = cache(lambda: self._hasher.hash(secrets.token_hex(16)))

    def guest(self) -> SignedIn:
        """Somebody new without a name. Guests vote where the settings allow it, and keep their votes on signing up."""
        if self._ledger.now() >= self._swept + DAY and self.forget_idle_guests() < MOST_FORGOTTEN:
            self._swept = self._ledger.now()
        return self._ledger.do(lambda connection, append: self._begin(connection, self._new(connection, None, None)))

    def forget_idle_guests(self) -> int:
        """Removes guests of IDLE_DAYS ago who never voted, of whom no text is kept and who cannot come back; how many.

        At most MOST_FORGOTTEN at a time. Sessions that ran out go too. Nothing that the log knows of is touched.
        """

        def deed(connection: Connection, append: Append) -> int:
            now = self._ledger.now()
            people.end_sessions(connection, expired=now)
            idle = people.idle_guests(connection, made_before=now - IDLE_DAYS * DAY, now=now, limit=MOST_FORGOTTEN)
            people.drop_people(connection, idle)
            return len(idle)

        return self._ledger.do(deed)

    def sign_up(self, name: str, password: str, *, cookie: str | None = None, link: str | None = None) -> SignedIn:
        """Gives somebody a name: the guest of the session of `cookie`, who keeps their votes, or else somebody new.

        `link`: what an invitation holds, for its role. Whoever has no link is a contributor. Raises ArenaRefusal: 400
        for a name or a password that is none, 403 without a link where sign-up is not open, 409 for a name that is
        taken, 410 for a link that was used or ran out.
        """
        if link is None and not self._ledger.settings()["open_sign_up"]:
            raise ArenaRefusal("Accounts are made by a one-time link here; ask a steward for one.", 403)
        plain, folded = checked_name(name)
        password = self._hasher.hash(_checked_password(password))

        def deed(connection: Connection, append: Append) -> SignedIn:
            if people.find_person(connection, folded=folded) is not None:
                raise ArenaRefusal(f"The name {plain} is taken; choose another.", 409)
            found = None if cookie is None else people.find_session(connection, hashed(cookie), self._ledger.now())
            if cookie is not None and found is not None and found[1].guest:
                people.change_person(connection, found[1].id, name=plain, folded=folded, password=password)
                person, signed = found[1].id, self._renew(connection, cookie)
            else:
                person = self._new(connection, plain, folded, password)
                signed = self._begin(connection, person)
            role, by = "contributor", "sign-up"
            if link is not None:
                invitation = self._take(connection, link)
                role, by = invitation.role, invitation.by or "installation"
            self._give(connection, append, person, role, by)
            return self._session(connection, signed.cookie)

        return self._ledger.do(deed)

    def sign_in(self, name: str, password: str) -> SignedIn:
        """A new session. Raises ArenaRefusal (401), which does not tell whether there is such a name."""
        folded = _folded(name)
        person = self._ledger.read(lambda connection: people.find_person(connection, folded=folded))
        known = self._ledger.read(lambda connection: people.read_password(connection, person.id)) if person else None
        right = self._right(known or self._nobody(), password)
        if person is None or known is None or not right:
            raise ArenaRefusal("Name and password do not go together; try again.", 401)
        anew = self._hasher.hash(password) if self._hasher.check_needs_rehash(known) else None

        def deed(connection: Connection, append: Append) -> SignedIn:
            if anew is not None:
                people.change_person(connection, person.id, password=anew)
            return self._begin(connection, person.id)

        return self._ledger.do(deed)

    def change_password(self, person: str, old: str, new: str) -> None:
        """Ends every session of the person (id), too. Raises ArenaRefusal: 400 for no password, 401 for a wrong one."""
        known = self._ledger.read(lambda connection: people.read_password(connection, person))
        if not self._right(known or self._nobody(), old) or known is None:
            raise ArenaRefusal("The old password is another one; try again.", 401)
        password = self._hasher.hash(_checked_password(new))

        def deed(connection: Connection, append: Append) -> None:
            people.change_person(connection, person, password=password)
            people.end_sessions(connection, person=person)

        self._ledger.do(deed)

    def who(self, cookie: str | None) -> Session | None:
        """Whose cookie it is; None for nobody's, and for one that ran out."""
        if not cookie:
            return None
        found = self._ledger.read(lambda c: people.find_session(c, hashed(cookie), self._ledger.now()))
        return None if found is None else Session(*found)

    def sign_out(self, cookie: str) -> None:
        """Ends the session, and all that have run out."""
        self._ledger.do(lambda c, append: people.end_sessions(c, secret=hashed(cookie)))
        self._ledger.do(lambda c, append: people.end_sessions(c, expired=self._ledger.now()))

    def people(self, *, guests: bool = False) -> list[Person]:
        """Everybody with a name, the oldest first; with `guests`, really everybody."""
        return self._ledger.read(lambda connection: people.list_people(connection, named=not guests))

    def find(self, name: str) -> Person | None:
        """The person of that name."""
        folded = _folded(name)
        return self._ledger.read(lambda connection: people.find_person(connection, folded=folded))

    def first_steward_link(self) -> str | None:
        """What a one-time link to become steward holds, where there is no steward yet; those made before end."""

        def deed(connection: Connection, append: Append) -> str | None:
            if people.any_of_role(connection, "steward"):
                return None
            people.drop_first_invitations(connection)
            return self._invite(connection, "steward", None)

        return self._ledger.do(deed)

    def invite(self, role: Role, by: Person) -> str:
        """What a one-time link to a role holds, for a week. Raises ArenaRefusal: 400, or 403 for who is no steward."""
        _checked_role(role)
        require(by, "steward")
        return self._ledger.do(lambda connection, append: self._invite(connection, role, by.pseudonym))

    def redeem(self, person: str, link: str) -> Person:
        """Gives a person (id) with a name the role of a link.

        Raises ArenaRefusal: 403 for a guest, 409 for who has that role or a higher one, which leaves the link for
        somebody else, 410 for a link that was used or ran out.
        """

        def deed(connection: Connection, append: Append) -> Person:
            someone = people.find_person(connection, id_=person)
            if someone is None or someone.guest:
                raise ArenaRefusal("A role needs a name; sign up with this link.", 403)
            invitation = self._take(connection, link)
            if ROLES.index(someone.role) >= ROLES.index(invitation.role):
                raise ArenaRefusal(f"You are a {someone.role} already, so this link can be given to another.", 409)
            return self._give(connection, append, person, invitation.role, invitation.by or "installation")

        return self._ledger.do(deed)

    def set_role(self, person: str, role: Role, by: Person) -> Person:
        """Raises ArenaRefusal: 400 for no role, 403 for who is no steward, 404 for nobody, 409 for the last steward."""
        _checked_role(role)
        require(by, "steward")
        return self._ledger.do(lambda connection, append: self._give(connection, append, person, role, by.pseudonym))

    def _right(self, known: str, password: str) -> bool:
        try:
            return len(password) <= LONGEST_PASSWORD and self._hasher.verify(known, password)
        except VerificationError:
            return False

    def _new(self, connection: Connection, name: str | None, folded: str | None, password: str | None = None) -> str:
        id_, pseudonym = secrets.token_hex(8), secrets.token_hex(8)
        person = Person(id_, pseudonym, name, "reader", None, self._ledger.now())
        people.add_person(connection, person, folded=folded, password=password)
        return id_

    def _begin(self, connection: Connection, person: str) -> SignedIn:
        cookie, id_, now = secrets.token_urlsafe(32), secrets.token_hex(8), self._ledger.now()
        values: dict[str, Any] = {"id": id_, "secret": hashed(cookie), "person": person, "made": now}
        people.add_session(connection, {**values, "expires": now + SESSION})
        return self._session(connection, cookie)

    def _renew(self, connection: Connection, old: str) -> SignedIn:
        """The session under a new cookie, so that one who knew the old one is left out; its battles go on."""
        cookie = secrets.token_urlsafe(32)
        people.change_secret(connection, hashed(old), hashed(cookie), self._ledger.now() + SESSION)
        return self._session(connection, cookie)

    def _session(self, connection: Connection, cookie: str) -> SignedIn:
        found = people.find_session(connection, hashed(cookie), self._ledger.now())
        assert found is not None  # it has just begun
        return SignedIn(cookie, Session(*found))

    def _invite(self, connection: Connection, role: str, by: str | None) -> str:
        link = secrets.token_urlsafe(32)
        people.add_invitation(connection, hashed(link), Invitation(role, by, self._ledger.now() + LINK))
        return link

    def _take(self, connection: Connection, link: str) -> Invitation:
        found = people.take_invitation(connection, hashed(link))
        if found is None or found.expires <= self._ledger.now():
            raise ArenaRefusal("This link was used before or ran out; ask a steward for another one.", 410)
        return found

    def _give(self, connection: Connection, append: Append, person: str, role: str, by: str) -> Person:
        someone = people.find_person(connection, id_=person)
        if someone is None:
            raise ArenaRefusal("There is no such person.", 404)
        if someone.role == "steward" != role and people.any_of_role(connection, "steward") < 2:
            raise ArenaRefusal("The last steward stays one; make somebody else a steward first.", 409)
        if someone.role != role:
            people.change_person(connection, person, role=role)
            append("role", {"voter": someone.pseudonym, "role": role, "by": by})
        found = people.find_person(connection, id_=person)
        assert found is not None
        return found


def csrf_token(cookie: str) -> str:
    """What a form of this session carries: derived from the cookie, which no other site can read; nothing is kept."""
    return hmac(cookie.encode("utf-8", "surrogatepass"), b"csrf", "sha256").hexdigest()


def check_csrf(cookie: str, token: str | None) -> None:
    """Raises ArenaRefusal (403) for another token than this session's."""
    if not compare_digest(csrf_token(cookie).encode(), (token or "").encode("utf-8", "surrogatepass")):
        raise ArenaRefusal("This form was not written by this site for this session; load the page again.", 403)


def require(person: Person, role: Role) -> None:
    """Raises ArenaRefusal (403) for somebody whose role is below that."""
    if ROLES.index(person.role) < ROLES.index(role):
        raise ArenaRefusal(f"This needs the role of {role}; ask a steward.", 403)


def checked_name(name: str) -> tuple[str, str]:
    """A name as it is shown and as it is compared with others. Raises ArenaRefusal (400)."""
    plain = " ".join(unicodedata.normalize("NFKC", name).split())
    if not 2 <= len(plain) <= LONGEST_NAME or not plain.isprintable():
        raise ArenaRefusal(f"A name has 2 to {LONGEST_NAME} characters that can be printed; choose another.", 400)
    return plain, _folded(name)


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", storable(name)).split()).casefold()


def _checked_password(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ArenaRefusal(
            f"A password has {SHORTEST_PASSWORD} characters at least and {LONGEST_PASSWORD:,} at most; choose another.",
            400,
        )
    return password


def _checked_role(role: str) -> None:
    if role not in ROLES:
        raise ArenaRefusal(f"There is no role {role!r}; there are {', '.join(ROLES)}.", 400)
