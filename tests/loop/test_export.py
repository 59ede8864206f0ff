"""The public data set: read by others' tools and by ours, with the text that its people allow and no other."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from arena import Arena, opened
from command import Ran, in_this_process

from fairground.arena.battles import read_battles
from fairground.arena.ratings import rate
from fairground.errors import DataError, MissingExtra
from fairground.loop.export import export_votes
from fairground.store import default_database
from fairground.types import Battle

# Of the votes that LMSYS published in 2023, https://huggingface.co/datasets/lmsys/chatbot_arena_conversations
LMSYS = {"question_id", "model_a", "model_b", "winner", "judge", "conversation_a", "conversation_b", "turn", "anony",
         "language", "tstamp"}  # fmt: skip
TEXTS = ("mail ann@example.org", "secret B", "secret C")


def redact(text: str) -> str:
    return text.replace("ann@example.org", "<EMAIL_ADDRESS>")


def filled(arena: Arena) -> list[Battle]:
    """Votes on three models of two guests; the third conversation may be published."""
    first, second = arena.guest(), arena.guest()
    votes = []
    cases = [
        (first, "ada", "bob", "model_a"), (second, "bob", "cat", "tie"), (second, "cat", "ada", "both_bad"),
        (first, "bob", "ada", "model_b"), (first, "cat", "bob", "model_a"),
    ]  # fmt: skip
    for number, (session, a, b, winner) in enumerate(cases):
        battle = arena.open(session, a, b)
        said = TEXTS[0] if number == 2 else TEXTS[1]
        arena.ledger.add_turn(battle.id, 1, f"ask {said}", f"left {said}", f"right {said}", system=f"be {said}")
        arena.ledger.vote(battle.id, battle.token, session.id, winner, comment=TEXTS[2], reasons=["clear"])
        arena.conversations.publish(battle.id, session.person.id, number == 2)
        votes.append(Battle(a, b, winner, session.person.pseudonym))  # type: ignore[arg-type]
    arena.ledger.quarantine(first.person.pseudonym, "excess_wins", "tests")
    return votes


def test_the_file_has_the_votes_and_the_text_that_is_allowed(arena: Arena, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    votes = filled(arena)
    out = tmp_path / "public" / "votes.parquet"
    done = export_votes(arena.database, out, licence="CC-BY-4.0", redact=redact)
    assert (done.votes, done.conversations) == (5, 1)
    assert {path.name for path in out.parent.iterdir()} == {"votes.parquet", "README.md"}
    table = pandas.read_parquet(out)
    assert set(table) >= LMSYS
    assert list(table["winner"]) == ["model_a", "tie", "tie (bothbad)", "model_b", "model_a"]
    assert list(table["tstamp"]) == [arena.clock.now] * 5
    assert list(table["anony"]) == [True] * 5
    assert list(table["quarantined"]) == [True, False, False, True, True]
    with_text = table[table["conversation_a"].notna()]
    assert list(with_text["model_a"]) == ["cat"]
    assert [dict(message) for message in with_text["conversation_b"].iloc[0]] == [
        {"role": "system", "content": "be mail <EMAIL_ADDRESS>"},
        {"role": "user", "content": "ask mail <EMAIL_ADDRESS>"},
        {"role": "assistant", "content": "right mail <EMAIL_ADDRESS>"},
    ]
    assert "secret" not in table.to_json()
    assert "@" not in table.to_json()
    card = (out.parent / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert hashlib.sha256(out.read_bytes()).hexdigest() in card
    assert arena.ledger.head().hash in card
    # Our own reader, and the same ratings as from the log.
    assert read_battles(out) == votes
    assert rate(read_battles(out)) == rate(votes)
    # Again, in the same place: the card is ours, and no text is asked for.
    assert export_votes(arena.database, out, licence="CC0-1.0", redact=None).conversations == 0
    assert pandas.read_parquet(out)["conversation_a"].isna().all()
    assert "No text is in it" in (out.parent / "README.md").read_text()


def test_what_cannot_be_written_leaves_nothing_behind(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "state" not in p.parts}

    def refused(out: Path, says: str, licence: str = "CC0-1.0", error: type[Exception] = DataError) -> None:
        before = {
            path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "state" not in path.parts
        }
        with pytest.raises(error, match=says):
            export_votes(arena.database, out, licence=licence, redact=redact)
        after = {
            path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "state" not in path.parts
        }
        assert after == before

    refused(tmp_path / "a" / "x.parquet", "no vote")
    filled(arena)
    refused(tmp_path / "votes.csv", "parquet")
    refused(tmp_path / "x.parquet", "SPDX", licence="whatever I like")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "README.md").write_text("my project")
    refused(tmp_path / "b" / "x.parquet", r"README.md is there already")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "x.parquet", "cannot be written")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(tmp_path / "x.parquet", r"fairground\[parquet\]", error=MissingExtra)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    command: Callable[..., Ran] = in_this_process(tmp_path, monkeypatch, capfd)
    assert "fairground export votes" in command("export", "votes", "--help").out
    command("export", "votes", "x.parquet", "--licence", "CC0-1.0").refused("no database")
    with opened(default_database(tmp_path / "home")) as arena:
        filled(arena)
    done = command("export", "votes", "out/x.parquet", "--licence", "CC0-1.0")
    assert done.status == 0, done.err
    assert done.out == "5 votes, 1 with their conversation: out/x.parquet and out/README.md\n"
    rated = command("rate", "out/x.parquet", "--json")
    assert {row["model"] for row in json.loads(rated.out)} == {"ada", "bob", "cat"}
