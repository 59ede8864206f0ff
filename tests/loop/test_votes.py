"""Votes: each counted once, by whom it may, in its time; every other is refused and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arena import Arena, opened
from sqlalchemy import event, text

from fairground.errors import ArenaRefusal, StoreError, VoteRefused
from fairground.governance.chain import first_break
from fairground.loop.ledger import Ledger
from fairground.store import open_database

FACTS = {
    "style": [0.1234567, -1 / 3, 0, -0.0], "tags": ["code", "maths", "code"], "language": "en", "turns": 2,
    "times": {"a": {"first_ms": 12.3456789}}, "tokens": {"a": 9, "b": 12},
}  # fmt: skip


def state(arena: Arena) -> tuple[int, Counter[str]]:
    """The length of the log, and how many battles are in which state."""
    with arena.database.connect() as connection:
        states = Counter(connection.execute(text("SELECT state FROM battles")).scalars())
    return arena.ledger.head().number, states


def refused(arena: Arena, status: int, deed: Callable[[], Any]) -> str:
    """What is said to a deed that is refused with that status and changes nothing."""
    before = state(arena)
    with pytest.raises(ArenaRefusal) as said:
        deed()
    assert said.value.status == status, said.value
    assert str(said.value).endswith(".")
    assert state(arena) == before
    return str(said.value)


def test_a_vote_is_in_the_log_as_it_was_cast(arena: Arena) -> None:
    session = arena.guest()
    battle = arena.open(session, probability=0.123456789, by="information")
    facts = {**FACTS, "prompt": arena.ledger.prompt_hash("Hello  THERE\n")}
    receipt = arena.ledger.vote(battle.id, battle.token, session.id, "both_bad", reasons=["wrong"], facts=facts)
    entry = arena.ledger.head()
    assert (receipt.number, receipt.hash, receipt.model_a, receipt.model_b) == (1, entry.hash, "ada", "bob")
    assert (entry.number, entry.kind, entry.at) == (1, "vote", int(arena.clock.now * 1000))
    assert entry.body == {
        "battle": battle.id, "model_a": "ada", "model_b": "bob", "winner": "both_bad",
        "voter": session.person.pseudonym, "mode": "battle", "probability": 0.123457, "by": "information",
        "style": [0.123457, -0.333333, 0.0, 0.0], "tags": ["code", "maths"], "language": "en", "turns": 2,
        "prompt": arena.ledger.prompt_hash("hello there"), "reasons": ["wrong"],
        "times": {"a": {"first_ms": 12.345679}}, "tokens": {"a": 9, "b": 12},
    }  # fmt: skip
    found = arena.ledger.find_battle(battle.id, session.id)
    assert (found.state, found.entry) == ("voted", 1)
    assert [e.number for e in arena.ledger.entries_of(session.person.pseudonym)] == [1]
    assert first_break(arena.ledger.entries()) is None


def test_the_secrets_that_people_hold_are_not_in_the_database(arena: Arena) -> None:
    signed = arena.people.guest()
    battle = arena.open(signed.session)
    link = arena.people.first_steward_link()
    assert link is not None
    with arena.database.connect() as connection:
        tables = ("people", "sessions", "invitations", "battles", "log", "secrets")
        everything = "".join(str(list(connection.execute(text(f"SELECT * FROM {name}")))) for name in tables)
    assert battle.id in everything
    for secret in (signed.cookie, battle.token, link):
        assert secret not in everything


def test_a_vote_that_may_not_be_is_refused(arena: Arena) -> None:
    session, other = arena.guest(), arena.guest()
    battle, theirs = arena.open(session), arena.open(other)
    vote = arena.ledger.vote

    def deed(id_: str, token: str, of: str = session.id, winner: str = "tie", **said: Any) -> Callable[[], Any]:
        return lambda: vote(id_, token, of, winner, **said)

    for made_up in ("0" * 16, "", "x", "\0", "\ud800", "' OR 1=1 --", battle.id.upper() + "\n"):
        refused(arena, 404, deed(made_up, battle.token))
    for forged in ("", theirs.token, battle.token[:-1], battle.token + "A", "\0", "\ud800", "ü"):
        assert "token" in refused(arena, 403, deed(battle.id, forged))
    refused(arena, 404, deed(theirs.id, theirs.token))  # another's battle, token and all
    refused(arena, 404, deed(battle.id, battle.token, other.id))
    refused(arena, 404, deed(battle.id, battle.token, ""))
    refused(arena, 404, lambda: arena.ledger.find_battle(theirs.id, session.id))
    for winner in ("", "model_c", "a", "\0"):
        refused(arena, 400, deed(battle.id, battle.token, winner=winner))
    refused(arena, 413, deed(battle.id, battle.token, comment="x" * 4_001))
    for facts in (
        {"prompt": "What is love?"}, {"style": [1, 2, 3]}, {"style": [1, 2, 3, float("nan")]}, {"tags": ["Ünlaut"]},
        {"tags": ["x" * 41]}, {"tags": "code"}, {"language": "a sentence, no less"}, {"turns": 0}, {"turns": True},
        {"answer": "42"}, {"times": {"a": "long"}}, {"tokens": {"What is love?": 1}}, {"tokens": [1]},
    ):  # fmt: skip
        refused(arena, 400, deed(battle.id, battle.token, facts=facts))
    refused(arena, 400, deed(battle.id, battle.token, reasons=["I think that A's tone was rude!"]))
    assert vote(battle.id, battle.token, session.id, "tie").number == 1
    assert "before" in refused(arena, 409, deed(battle.id, battle.token))
    refused(arena, 409, deed(battle.id, battle.token, winner="model_a"))


def test_a_battle_has_its_time(arena: Arena) -> None:
    session = arena.guest()
    late, just = arena.open(session), arena.open(session)
    arena.clock.now += 2 * 3600 - 0.001
    arena.ledger.vote(just.id, just.token, session.id, "tie")
    arena.clock.now += 0.001
    assert "time" in refused(arena, 410, lambda: arena.ledger.vote(late.id, late.token, session.id, "tie"))


def test_the_clock_may_go_backwards(arena: Arena) -> None:
    session = arena.guest()
    arena.vote(session)
    arena.clock.now -= 86_400
    arena.vote(session)
    arena.clock.now += 86_401
    arena.vote(session)
    times = [entry.at for entry in arena.ledger.entries()][1:]
    assert times[0] == times[1] == times[2] - 1000
    assert first_break(arena.ledger.entries()) is None


def test_a_battle_that_was_set_aside_takes_no_vote(arena: Arena) -> None:
    session = arena.guest()
    battle = arena.open(session)
    arena.ledger.set_aside(battle.id, "engine_died")
    assert arena.ledger.head().body == {"battle": battle.id, "model_a": "ada", "model_b": "bob", "why": "engine_died"}
    assert "aside" in refused(arena, 409, lambda: arena.ledger.vote(battle.id, battle.token, session.id, "tie"))
    refused(arena, 409, lambda: arena.ledger.set_aside(battle.id, "revealed"))
    refused(arena, 404, lambda: arena.ledger.set_aside("0" * 16, "revealed"))
    voted = arena.vote(session)
    refused(arena, 409, lambda: arena.ledger.set_aside(voted.battle, "revealed"))


def test_what_is_no_battle_is_not_opened(arena: Arena) -> None:
    session = arena.guest()
    for a, b, how in (
        ("ada", "ada", {}), ("ada", None, {}), ("ada", "bob", {"mode": "chat"}), ("ada", "bob", {"mode": "duel"}),
        ("", "bob", {}), ("a" * 201, "bob", {}), ("a\0", "bob", {}), ("ada", "bob", {"probability": float("nan")}),
        ("ada", "bob", {"by": "a whim of mine, and nothing else at all really"}),
    ):  # fmt: skip
        refused(arena, 400, lambda a=a, b=b, how=how: arena.open(session, a, b, **how))
    nobody = lambda: arena.ledger.open_battle("0" * 16, "ada", "bob", session=session.id)  # noqa: E731
    refused(arena, 401, nobody)


def test_a_chat_is_not_voted_on(arena: Arena) -> None:
    session = arena.guest()
    chat = arena.open(session, "ada", None, mode="chat")
    refused(arena, 400, lambda: arena.ledger.vote(chat.id, chat.token, session.id, "model_a"))


def test_a_day_has_so_many_votes_and_battles(arena: Arena) -> None:
    arena.ledger.set_setting("guest_votes_per_day", 3, "tests")
    arena.ledger.set_setting("battles_per_day", 5, "tests")
    session, other = arena.guest(), arena.guest()
    for _ in range(3):
        arena.vote(session)
    battle = arena.open(session)
    assert "3 votes" in refused(arena, 429, lambda: arena.ledger.vote(battle.id, battle.token, session.id, "tie"))
    arena.open(session)
    assert "5 conversations" in refused(arena, 429, lambda: arena.open(session))
    arena.vote(other)
    arena.clock.now += 86_400
    arena.vote(session)


def test_guests_vote_where_they_may(arena: Arena) -> None:
    session = arena.guest()
    battle = arena.open(session)
    arena.ledger.set_setting("guests_may_vote", False, "tests")
    refused(arena, 403, lambda: arena.ledger.vote(battle.id, battle.token, session.id, "tie"))
    refused(arena, 403, lambda: arena.open(session))
    arena.open(session, "ada", None, mode="chat")
    named = arena.people.sign_up("Ann", "correct horse").session
    arena.vote(named)


def test_quarantine_is_logged_and_can_be_ended(arena: Arena) -> None:
    session = arena.guest()
    arena.vote(session)
    voter = session.person.pseudonym
    arena.ledger.quarantine(voter, "excess_wins", "tests")
    refused(arena, 409, lambda: arena.ledger.quarantine(voter, "excess_wins", "tests"))
    assert {name: entry.body["why"] for name, entry in arena.ledger.quarantined().items()} == {voter: "excess_wins"}
    arena.vote(session)  # goes on in the log, and is left out by whoever counts
    arena.ledger.release(voter, "0" * 16)
    assert arena.ledger.quarantined() == {}
    refused(arena, 404, lambda: arena.ledger.release(voter, "tests"))
    for nobody in ("0" * 16, "", "\0"):
        refused(arena, 404, lambda nobody=nobody: arena.ledger.quarantine(nobody, "excess_wins", "tests"))
    kinds = [entry.kind for entry in arena.ledger.entries_of(voter)]
    assert kinds == ["vote", "quarantine", "vote", "release"]


def test_settings_and_models_are_logged_and_checked(arena: Arena) -> None:
    for name, value in (
        ("votes", 3), ("votes_per_day", 0), ("votes_per_day", True), ("votes_per_day", 1.5), ("keep_text", "all"),
        ("guests_may_vote", 1), ("uniform_share", 1.1), ("keep_text", "redact"),
    ):  # fmt: skip
        refused(arena, 400, lambda name=name, value=value: arena.ledger.set_setting(name, value, "tests"))
    arena.ledger.set_setting("uniform_share", 0.5, "tests")
    assert arena.ledger.settings()["uniform_share"] == 0.5
    assert arena.ledger.head().body == {"name": "uniform_share", "value": 0.5, "by": "tests"}
    arena.ledger.offer_model("ada", {"licence": "Apache-2.0"}, "tests")
    number = arena.ledger.head().number
    arena.ledger.offer_model("ada", {"licence": "Apache-2.0"}, "tests")
    assert arena.ledger.head().number == number
    arena.ledger.offer_model("ada", {"licence": "Apache-2.0"}, "tests", offered=False)
    assert [(m.name, m.offered) for m in arena.ledger.models()] == [("ada", False)]


def test_of_many_threads_that_vote_on_one_battle_one_is_counted(arena: Arena) -> None:
    session = arena.guest()
    battles = [arena.open(session) for _ in range(5)]
    arena.ledger.set_setting("guest_votes_per_day", 5, "tests")  # refused ones are not counted against anybody
    receipts, refusals = [], []

    def clicks(winner: str) -> None:
        for battle in battles:
            try:
                receipts.append(arena.ledger.vote(battle.id, battle.token, session.id, winner))
            except VoteRefused as error:
                refusals.append(error.status)

    threads = [threading.Thread(target=clicks, args=(w,)) for w in ("model_a", "model_b", "tie", "both_bad") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(refusals) == {409: 35}
    assert {r.battle for r in receipts} == {b.id for b in battles}
    logged = {
        e.body["battle"]: (e.number, e.hash, e.body["winner"]) for e in arena.ledger.entries() if e.kind == "vote"
    }
    assert logged == {r.battle: (r.number, r.hash, r.winner) for r in receipts}
    assert first_break(arena.ledger.entries()) is None


def test_the_log_can_only_be_added_to(arena: Arena) -> None:
    arena.vote(arena.guest())
    for statement in ("UPDATE log SET body = '{}'", "DELETE FROM log", "DELETE FROM log WHERE number = 1"):
        with pytest.raises(Exception, match="only added to"), arena.database.begin() as connection:
            connection.execute(text(statement))
    assert first_break(arena.ledger.entries()) is None


VOTER = """
import sys
from fairground.loop.ledger import Ledger
from fairground.loop.people import People
from fairground.store import open_database
with open_database(sys.argv[1]) as database:
    ledger = Ledger(database)
    session = People(ledger).guest().session
    for _ in range(20):
        battle = ledger.open_battle(session.person.id, "ada", "bob", session=session.id)
        print(battle.id, ledger.vote(battle.id, battle.token, session.id, "tie").number, flush=True)
"""


def test_several_processes_share_one_log_from_an_empty_database_on(url: str) -> None:
    """They make its tables, its genesis and its votes beside each other."""
    running = [
        subprocess.Popen([sys.executable, "-c", VOTER, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    acknowledged: dict[str, int] = {}
    for process in running:
        told, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        acknowledged |= {battle: int(number) for battle, number in map(str.split, told.splitlines())}
    assert len(acknowledged) == 40
    with open_database(url) as database:
        entries = list(Ledger(database).entries())
    assert {e.body["battle"]: e.number for e in entries if e.kind == "vote"} == acknowledged
    assert [e.kind for e in entries].count("genesis") == 1
    assert first_break(entries) is None


def together(arena: Arena, deeds: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """What deeds of as many threads give or raise, which all wait until they can go in one group, in this order."""
    outcome: dict[str, Any] = {}

    def run(name: str) -> None:
        try:
            outcome[name] = deeds[name]()
        except BaseException as error:
            outcome[name] = error

    writer = arena.ledger._writer
    writer._busy = True  # as if a thread were at work
    threads = [threading.Thread(target=run, args=(name,)) for name in deeds]
    for number, thread in enumerate(threads):
        thread.start()
        while len(writer._waiting) <= number:
            time.sleep(0.001)
    writer._waiting[0].ready.set()
    for thread in threads:
        thread.join()
    return outcome


def test_a_vote_is_not_acknowledged_where_the_process_is_told_to_end_before_it_is_written(arena: Arena) -> None:
    session = arena.guest()
    battles = [arena.open(session), arena.open(session)]

    def wrong(connection: Any, append: Any) -> None:
        connection.execute(text("INSERT INTO settings (name, value) VALUES (NULL, NULL)"))

    def end(connection: Any, append: Any) -> None:
        raise KeyboardInterrupt

    first, last = (lambda b=b: arena.ledger.vote(b.id, b.token, session.id, "tie") for b in battles)
    # Together they fail for `wrong`; then one by one the first counts, and the last is never come to.
    deeds = {"first": first, "end": lambda: arena.ledger.do(end), "last": last, "wrong": lambda: arena.ledger.do(wrong)}
    outcome = together(arena, {"wrong early": deeds["wrong"], **deeds})
    assert outcome["first"].number == 1
    assert isinstance(outcome["last"], VoteRefused)
    assert [entry.body["battle"] for entry in arena.ledger.entries() if entry.kind == "vote"] == [battles[0].id]
    b = battles[1]
    assert arena.ledger.vote(b.id, b.token, session.id, "tie").number == 2


def test_a_deed_that_fails_in_the_database_hinders_no_other(arena: Arena) -> None:
    """In one group: a refusal, a failing statement, a bug and two that are well; the well ones count."""
    session = arena.guest()
    battles = [arena.open(session), arena.open(session)]
    before = arena.ledger.head().number

    def wrong(connection: Any, append: Any) -> None:
        append("settings", {"name": "x"})
        connection.execute(text("INSERT INTO settings (name, value) VALUES (NULL, NULL)"))

    def bug(connection: Any, append: Any) -> None:
        append("settings", {"name": "y"})
        raise ZeroDivisionError

    votes = [lambda b=b: arena.ledger.vote(b.id, b.token, session.id, "tie") for b in battles]
    deeds = {
        "first": votes[0], "wrong": lambda: arena.ledger.do(wrong), "bug": lambda: arena.ledger.do(bug),
        "refusal": lambda: arena.ledger.set_aside("0" * 16, "revealed"), "last": votes[1],
    }  # fmt: skip
    outcome = together(arena, deeds)
    assert isinstance(outcome["wrong"], ArenaRefusal)
    assert isinstance(outcome["wrong"].__cause__, StoreError)
    assert isinstance(outcome["bug"], ZeroDivisionError)
    assert isinstance(outcome["refusal"], ArenaRefusal)
    assert {outcome["first"].number, outcome["last"].number} == {before + 1, before + 2}
    assert first_break(arena.ledger.entries()) is None


def test_a_database_that_another_holds_refuses_the_vote_and_takes_it_later(url: str) -> None:
    with opened(url, patience=0.2) as arena:
        session = arena.guest()
        battle = arena.open(session)
        before = state(arena)
        hold = "BEGIN IMMEDIATE" if url.startswith("sqlite") else f"SELECT pg_advisory_xact_lock({0x6C6F67})"
        with arena.database.connect() as other:
            other.exec_driver_sql(hold)
            with pytest.raises(VoteRefused, match="not counted") as said:
                arena.ledger.vote(battle.id, battle.token, session.id, "tie")
            assert said.value.status == 503
            with pytest.raises(ArenaRefusal, match="cannot be written"):
                arena.open(session)
            other.rollback()
        assert state(arena) == before
        assert arena.ledger.vote(battle.id, battle.token, session.id, "tie").number == before[0] + 1


def test_a_full_disk_refuses_the_vote_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'x.db'}") as arena:
        session = arena.guest()
        receipts = [arena.vote(session)]
        battle = arena.open(session)
        with arena.database.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        arena.database.pool.dispose()
        full = [True]

        @event.listens_for(arena.database, "checkout")
        def _bound(connection: Any, record: Any, proxy: Any) -> None:
            connection.execute(f"PRAGMA max_page_count={pages if full[0] else 1_000_000}")

        def fill() -> None:
            for _ in range(30):
                receipts.append(arena.vote(session, comment="x" * 4_000))

        with pytest.raises(ArenaRefusal) as said:
            fill()
        assert said.value.status == 503
        with pytest.raises(VoteRefused, match="not counted"):
            arena.ledger.vote(battle.id, battle.token, session.id, "tie", comment="x" * 4_000)
        logged = {e.number: e.hash for e in arena.ledger.entries() if e.kind == "vote"}
        assert logged == {r.number: r.hash for r in receipts}
        full[0] = False
        assert (
            arena.ledger.vote(battle.id, battle.token, session.id, "tie", comment="x" * 4_000).number
            == len(receipts) + 1
        )
        assert first_break(arena.ledger.entries()) is None
