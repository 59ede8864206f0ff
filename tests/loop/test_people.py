"""People: names, passwords, sessions, roles and one-time links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from arena import QUICK, Arena
from argon2 import PasswordHasher
from sqlalchemy import text

from fairground.errors import ArenaRefusal
from fairground.loop.audit import audit
from fairground.loop.people import People, check_csrf, csrf_token, require

WORD = "correct horse"


def refused(status: int, deed: Callable[[], Any]) -> str:
    with pytest.raises(ArenaRefusal) as said:
        deed()
    assert said.value.status == status, said.value
    assert str(said.value).endswith(".")
    return str(said.value)


def test_a_guest_who_signs_up_keeps_votes_and_open_battles_and_gets_another_cookie(arena: Arena) -> None:
    before = arena.people.guest()
    arena.vote(before.session)
    battle = arena.open(before.session)
    after = arena.people.sign_up("Ann", WORD, cookie=before.cookie)
    assert (after.session.id, after.session.person.id) == (before.session.id, before.session.person.id)
    assert after.session.person.pseudonym == before.session.person.pseudonym
    assert (after.session.person.name, after.session.person.role) == ("Ann", "contributor")
    assert arena.people.who(before.cookie) is None  # whoever saw the old one is left out
    assert arena.people.who(after.cookie) == after.session
    arena.ledger.vote(battle.id, battle.token, after.session.id, "tie")
    kinds = [entry.kind for entry in arena.ledger.entries_of(after.session.person.pseudonym)]
    assert kinds == ["vote", "role", "vote"]
    # Somebody who has a name makes another person, and keeps their own.
    other = arena.people.sign_up("Bob", WORD, cookie=after.cookie)
    assert other.session.person.id != after.session.person.id
    assert arena.people.who(after.cookie) == after.session


def test_names_are_one_for_all_their_spellings(arena: Arena) -> None:
    arena.people.sign_up("Ann  Lee", WORD)
    for name in ("ann lee", "ANN LEE", " Ann\tLee ", "Ａnn Lee"):  # the last one's A is a full-width one
        assert "taken" in refused(409, lambda name=name: arena.people.sign_up(name, WORD))
        assert arena.people.sign_in(name, WORD).session.person.name == "Ann Lee"
    for name in ("", "x", "x" * 41, "a\0b", "a\u202eb", "\ud800x"):
        refused(400, lambda name=name: arena.people.sign_up(name, WORD))
    for password in ("", "short", "x" * 1_001):
        refused(400, lambda password=password: arena.people.sign_up("Bob", password))
    assert [person.name for person in arena.people.people()] == ["Ann Lee"]


def test_signing_in_needs_the_password_and_tells_nothing_else(arena: Arena) -> None:
    arena.people.sign_up("Ann", WORD)
    said = {
        refused(401, lambda: arena.people.sign_in("Ann", "correct mouse")),
        refused(401, lambda: arena.people.sign_in("Nobody", WORD)),
        refused(401, lambda: arena.people.sign_in("\0\ud800", WORD)),
        refused(401, lambda: arena.people.sign_in("Ann", WORD * 1_000)),
    }
    assert len(said) == 1


def test_passwords_are_argon2id_and_hashed_anew_where_the_parameters_are_old(arena: Arena) -> None:
    arena.people.sign_up("Ann", WORD)

    def kept() -> str:
        with arena.database.connect() as connection:
            return str(connection.execute(text("SELECT password FROM people WHERE name = 'Ann'")).scalar_one())

    old = kept()
    assert old.startswith("$argon2id$")
    assert QUICK.verify(old, WORD)
    assert WORD not in old
    People(arena.ledger, hasher=PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)).sign_in("Ann", WORD)
    assert "m=16,t=2" in kept()


def test_sessions_end(arena: Arena) -> None:
    first, second = arena.people.sign_up("Ann", WORD), arena.people.sign_in("Ann", WORD)
    arena.people.sign_out(first.cookie)
    assert arena.people.who(first.cookie) is None
    assert arena.people.who(second.cookie) == second.session
    refused(401, lambda: arena.people.change_password(second.session.person.id, "wrong horse", "another horse"))
    refused(400, lambda: arena.people.change_password(second.session.person.id, WORD, "short"))
    arena.people.change_password(second.session.person.id, WORD, "another horse")
    assert arena.people.who(second.cookie) is None
    third = arena.people.sign_in("Ann", "another horse")
    arena.clock.now += 30 * 86_400
    assert arena.people.who(third.cookie) is None
    for cookie in (None, "", "x", "\0", "\ud800"):
        assert arena.people.who(cookie) is None


def test_a_csrf_token_belongs_to_one_session() -> None:
    check_csrf("cookie", csrf_token("cookie"))
    for token in (None, "", csrf_token("another"), "ü", "\ud800"):
        refused(403, lambda token=token: check_csrf("cookie", token))


def test_the_first_steward_comes_by_a_link_that_works_once(arena: Arena) -> None:
    stale, link = arena.people.first_steward_link(), arena.people.first_steward_link()
    assert stale is not None
    assert link is not None
    refused(410, lambda: arena.people.sign_up("Ann", WORD, link=stale))
    assert arena.people.find("Ann") is None  # nothing is half done
    ann = arena.people.sign_up("Ann", WORD, link=link).session.person
    assert ann.role == "steward"
    assert arena.ledger.head().body == {"voter": ann.pseudonym, "role": "steward", "by": "installation"}
    refused(410, lambda: arena.people.sign_up("Eve", WORD, link=link))
    assert arena.people.first_steward_link() is None


def test_stewards_give_roles_and_nobody_else_does(arena: Arena) -> None:
    ann = arena.people.sign_up("Ann", WORD, link=arena.people.first_steward_link()).session.person
    bob = arena.people.sign_up("Bob", WORD).session.person
    for deed in (
        lambda: arena.people.set_role(bob.id, "steward", bob), lambda: arena.people.invite("steward", bob),
        lambda: require(bob, "maintainer"),
    ):  # fmt: skip
        refused(403, deed)
    refused(400, lambda: arena.people.set_role(bob.id, "king", ann))  # type: ignore[arg-type]
    refused(404, lambda: arena.people.set_role("0" * 16, "reader", ann))
    link = arena.people.invite("maintainer", ann)
    refused(403, lambda: arena.people.redeem(arena.guest().person.id, link))
    bob = arena.people.redeem(bob.id, link)
    require(bob, "maintainer")
    assert arena.ledger.head().body == {"voter": bob.pseudonym, "role": "maintainer", "by": ann.pseudonym}
    refused(410, lambda: arena.people.redeem(bob.id, link))
    lower = arena.people.invite("contributor", ann)
    refused(409, lambda: arena.people.redeem(ann.id, lower))  # nobody loses a role by a link
    assert arena.people.sign_up("Cem", WORD, link=lower).session.person.role == "contributor"
    late = arena.people.invite("steward", ann)
    arena.clock.now += 7 * 86_400
    refused(410, lambda: arena.people.redeem(bob.id, late))
    refused(409, lambda: arena.people.set_role(ann.id, "reader", ann))
    refused(409, lambda: arena.ledger.erase(ann.id))
    arena.people.set_role(bob.id, "steward", ann)
    assert arena.people.set_role(ann.id, "reader", ann).role == "reader"


def test_guests_who_did_nothing_are_forgotten_after_thirty_days(arena: Arena) -> None:
    idle, voter, writer, chatter, named = (arena.people.guest() for _ in range(5))
    left = arena.open(idle.session)
    aside = arena.open(idle.session)
    arena.ledger.set_aside(aside.id, "engine_died")
    counted = arena.vote(voter.session)
    arena.ledger.set_setting("keep_text", "keep", "tests")
    arena.ledger.add_turn(arena.open(writer.session).id, 1, "a", "b", "c")
    arena.open(chatter.session, "ada", None, mode="chat")
    arena.people.sign_up("Ann", WORD, cookie=named.cookie)

    arena.clock.now += 29 * 86_400
    late = arena.people.guest()
    assert len(arena.people.people(guests=True)) == 6

    arena.clock.now += 2 * 86_400
    arena.people.guest()  # a newcomer is when they are looked for
    ids = {person.id for person in arena.people.people(guests=True)}
    kept = {one.session.person.id for one in (voter, writer, named, late)}
    assert kept <= ids
    assert ids.isdisjoint({one.session.person.id for one in (idle, chatter)})
    assert len(ids) == len(kept) + 1
    refused(404, lambda: arena.ledger.find_battle(left.id, idle.session.id))
    assert [entry.number for entry in arena.ledger.entries_of(voter.session.person.pseudonym)] == [counted.number]
    assert audit(arena.database).broken is None
    assert arena.people.forget_idle_guests() == 0
