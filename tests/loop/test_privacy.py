"""Privacy: text is kept as the setting has it, published as its person has it, and gone when it is erased."""

from __future__ import annotations

from pathlib import Path

import pytest
from arena import Arena, opened
from sqlalchemy import inspect, text

from fairground.arena.ratings import rate
from fairground.errors import ArenaRefusal
from fairground.loop.people import Session
from fairground.types import Battle

WORDS = "the-orchid-sentence"


def talk(arena: Arena, session: Session, winner: str = "model_a") -> str:
    battle = arena.open(session)
    arena.ledger.add_turn(battle.id, 1, f"prompt {WORDS}", f"first {WORDS}", f"second {WORDS}", system=f"be {WORDS}")
    arena.ledger.vote(battle.id, battle.token, session.id, winner, comment=f"comment {WORDS}")
    return battle.id


def everything(arena: Arena) -> str:
    """All that the database holds, as text."""
    with arena.database.connect() as connection:
        names = inspect(connection).get_table_names()
        return "\n".join(f"{name}: {list(connection.execute(text(f'SELECT * FROM {name}')))}" for name in names)


def test_no_text_lies_in_the_log(arena: Arena) -> None:
    session = arena.guest()
    battle = talk(arena, session)
    shown = arena.conversations.read(battle, session.person.id)
    assert shown.conversation is not None
    assert shown.conversation.comment == f"comment {WORDS}"
    assert [(t.number, t.answer_b) for t in shown.conversation.turns] == [(1, f"second {WORDS}")]
    with arena.database.connect() as connection:
        assert WORDS not in str(list(connection.execute(text("SELECT * FROM log"))))


def test_a_turn_that_is_written_again_takes_the_place_of_the_first(arena: Arena) -> None:
    session = arena.guest()
    battle = arena.open(session)
    for answer in ("one", "two"):
        arena.ledger.add_turn(battle.id, 1, "hello", answer, answer)
    arena.ledger.add_turn(battle.id, 2, "odd \ud83d text\0", "\U0001f34e", "")
    shown = arena.conversations.read(battle.id, session.person.id)
    assert shown.conversation is not None
    assert [(t.prompt, t.answer_a) for t in shown.conversation.turns] == [
        ("hello", "two"), ("odd \ufffd text\ufffd", "\U0001f34e"),
    ]  # fmt: skip
    for status, id_, prompt in ((404, "0" * 16, "x"), (404, "\0", "x"), (413, battle.id, "x" * 1_000_001)):
        with pytest.raises(ArenaRefusal) as said:
            arena.ledger.add_turn(id_, 1, prompt, "", "")
        assert said.value.status == status


def test_text_is_kept_as_it_is_or_redacted_or_not_at_all(url: str) -> None:
    with opened(url, redact=lambda text: text.replace(WORDS, "<WORDS>")) as arena:
        session = arena.guest()
        arena.ledger.set_setting("keep_text", "redact", "tests")
        battle = talk(arena, session)
        assert WORDS not in everything(arena)
        shown = arena.conversations.read(battle, session.person.id)
        assert shown.conversation is not None
        assert shown.conversation.comment == "comment <WORDS>"
        arena.ledger.set_setting("keep_text", "none", "tests")
        battle = talk(arena, session)
        assert arena.conversations.read(battle, session.person.id).conversation is None
        assert WORDS not in everything(arena)
    with opened(url) as arena:  # without presidio, a setting that needs it keeps no text rather than all of it
        arena.ledger.set_setting("keep_text", "keep", "tests")
        with arena.database.begin() as connection:
            connection.execute(text("UPDATE settings SET value = '\"redact\"' WHERE name = 'keep_text'"))
        with pytest.raises(ArenaRefusal, match="redacted"):
            talk(arena, arena.guest())
        assert WORDS not in everything(arena)


def test_an_erased_person_is_gone_and_the_ratings_are_the_same(arena: Arena) -> None:
    ann, bob = arena.people.sign_up("Ann Orchid", "correct horse"), arena.guest()
    for winner in ("model_a", "model_a", "tie"):
        talk(arena, ann.session, winner)
    arena.ledger.set_consent(ann.session.person.id, True)
    kept = talk(arena, bob, "model_b")
    entries = list(arena.ledger.entries())

    def ratings() -> str:
        votes = [entry.body for entry in arena.ledger.entries() if entry.kind == "vote"]
        return str(rate([Battle(v["model_a"], v["model_b"], v["winner"], v["voter"]) for v in votes]))

    before, person = ratings(), ann.session.person
    open_one = arena.open(ann.session)
    arena.ledger.erase(person.id)
    assert ratings() == before
    assert list(arena.ledger.entries())[: len(entries)] == entries
    assert arena.ledger.head().body == {"voter": person.pseudonym}
    assert arena.people.who(ann.cookie) is None
    held = everything(arena)
    for trace in (person.id, ann.session.id, "Orchid", "orchid lives"):
        assert trace not in held, trace
    assert held.count(WORDS) == 5  # Bob's
    assert arena.conversations.read(kept, bob.person.id).conversation is not None
    for deed in (
        lambda: arena.ledger.erase(person.id), lambda: arena.ledger.set_consent(person.id, True),
        lambda: arena.ledger.vote(open_one.id, open_one.token, ann.session.id, "tie"),
    ):  # fmt: skip
        with pytest.raises(ArenaRefusal) as said:
            deed()
        assert said.value.status == 404
    arena.people.sign_up("Ann Orchid", "correct horse")  # the name is free again, for somebody else
    assert arena.people.find("Ann Orchid").pseudonym != person.pseudonym  # type: ignore[union-attr]


def test_what_was_erased_is_not_left_in_the_files(tmp_path: Path) -> None:
    def in_files() -> bool:
        return any(WORDS.encode() in path.read_bytes() for path in tmp_path.iterdir())

    with opened(f"sqlite:///{tmp_path / 'x.db'}") as arena:
        session = arena.guest()
        battles = [talk(arena, session) for _ in range(20)]
        assert in_files()
        for battle in battles[:19]:
            arena.conversations.delete(battle, session.person.id)
        assert in_files()
        arena.ledger.erase(session.person.id)
        assert not in_files()


def test_consent_holds_from_when_it_is_given_and_ends_for_all(arena: Arena) -> None:
    session = arena.guest()
    person = session.person.id
    earlier = talk(arena, session)
    arena.ledger.set_consent(person, True)
    later = talk(arena, session)
    assert [shown.battle.id for shown in arena.conversations.examples("ada")] == [later]
    assert [shown.battle.id for shown in arena.conversations.examples("bob")] == [later]
    assert arena.conversations.examples("cat") == []
    arena.conversations.publish(earlier, person, True)
    assert [shown.battle.id for shown in arena.conversations.examples("ada")] == [later, earlier]
    arena.ledger.set_consent(person, False)
    assert arena.conversations.examples("ada") == []
    assert [e.body["consent"] for e in arena.ledger.entries() if e.kind == "consent"] == [True, False]


def test_a_conversation_is_its_persons_alone_unless_they_share_it(arena: Arena) -> None:
    session, other = arena.guest(), arena.guest()
    person, stranger = session.person.id, other.person.id
    open_one = arena.open(session)
    arena.ledger.add_turn(open_one.id, 1, "hello", "a", "b")
    battle = talk(arena, session)

    def status(deed: object, *arguments: object) -> int:
        with pytest.raises(ArenaRefusal) as said:
            deed(*arguments)  # type: ignore[operator]
        return said.value.status

    c = arena.conversations
    for deed in (c.read, c.share, c.unshare, c.delete):
        assert status(deed, battle, stranger) == 404
        assert status(deed, "\0", person) == 404
    assert status(c.publish, battle, stranger, True) == 404
    assert status(c.share, open_one.id, person) == 409  # its models may not be told yet
    assert not c.read(open_one.id, person).revealed
    first, second = c.share(battle, person), c.share(battle, person)
    assert status(c.shared, first) == 404
    assert c.shared(second).battle.id == battle
    assert second not in everything(arena)
    c.unshare(battle, person)
    for link in (second, "", "\0", "\ud800"):
        assert status(c.shared, link) == 404
    arena.clock.now += 1
    newest = arena.open(session)
    assert [b.id for b in c.mine(person, limit=1)] == [newest.id]
    assert {b.id for b in c.mine(person, before=c.mine(person, limit=1)[0].opened)} == {open_one.id, battle}
    assert c.mine(stranger) == []
