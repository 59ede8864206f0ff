"""Votes as pairs: every filter, the numbers that add up, and a split that no later vote moves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arena import Arena, opened

from fairground.errors import DataError
from fairground.evaluation.personal_data import redacted
from fairground.loop.people import Session
from fairground.loop.preferences import Gathered, gather, is_held_out, read_pairs, write_pairs
from fairground.store import default_database


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Arena]:
    with opened(default_database(tmp_path / "state")) as one:
        yield one


def agreeing(arena: Arena) -> Session:
    session = arena.guest()
    arena.ledger.set_consent(session.person.id, True)
    return session


def said(
    arena: Arena, session: Session, prompt: str, left: str, right: str, winner: str = "model_a", **how: Any
) -> None:
    """A battle of one turn, and a vote on it."""
    battle = arena.open(session, **how)
    arena.ledger.add_turn(battle.id, 1, prompt, left, right)
    arena.ledger.vote(battle.id, battle.token, session.id, winner)


def texts(gathered: Gathered) -> set[tuple[str, str, str]]:
    return {(pair.prompt, pair.chosen, pair.rejected) for pair in [*gathered.learned, *gathered.measured]}


def test_a_vote_prefers_what_it_chose(small: Arena) -> None:
    ann = agreeing(small)
    said(small, ann, "Why?", "good", "bad")
    said(small, ann, "How?", "bad", "good", "model_b", a="bob", b="ada")
    made = gather(small.database, redact=None)
    assert texts(made) == {("Why?", "good", "bad"), ("How?", "good", "bad")}
    assert {(pair.chosen_by, pair.rejected_by) for pair in [*made.learned, *made.measured]} == {("ada", "bob")}
    head = small.ledger.head()
    assert (made.votes, made.number, made.hash, made.redacted) == (2, head.number, head.hash, False)


def test_what_cannot_be_learned_from_is_counted(small: Arena) -> None:
    ann, bob, spammer = agreeing(small), small.guest(), agreeing(small)
    said(small, ann, "Why?", "good", "bad")
    said(small, bob, "Secret?", "good", "bad")  # never asked whether it may be used
    said(small, spammer, "Spam?", "bad", "good")
    small.ledger.quarantine(spammer.person.pseudonym, "by hand", "tests")
    said(small, ann, "Tie?", "x", "y", "tie")
    said(small, ann, "Bad?", "x", "y", "both_bad")
    said(small, ann, "Chosen?", "x", "y", mode="side_by_side")
    said(small, ann, "Empty?", "x", " ")
    said(small, ann, "Equal?", "x", "x")
    battle = small.open(ann)
    for number in (1, 2):
        small.ledger.add_turn(battle.id, number, "Go on.", "x", "y")
    small.ledger.vote(battle.id, battle.token, ann.id, "model_a")
    made = gather(small.database, redact=None)
    assert texts(made) == {("Why?", "good", "bad")}
    counts = made.counts()
    assert counts["votes"] == 9 == sum(counts.values()) - counts["votes"]
    assert {why for why, count in made.left_out.items() if count} == {
        "quarantined", "no_consent", "ties", "not_blind", "no_difference", "several_turns",
    }  # fmt: skip
    assert (made.left_out["ties"], made.left_out["no_difference"]) == (2, 2)
    small.ledger.release(spammer.person.pseudonym, "tests")
    assert gather(small.database, redact=None).left_out["quarantined"] == 0


def test_consent_that_is_taken_back_takes_the_text_back(small: Arena) -> None:
    ann = agreeing(small)
    said(small, ann, "Why?", "good", "bad")
    small.ledger.set_consent(ann.person.id, False)
    assert gather(small.database, redact=None).left_out["no_consent"] == 1
    cat = agreeing(small)
    said(small, cat, "Why?", "good", "bad")
    small.ledger.erase(cat.person.id)
    assert gather(small.database, redact=None).left_out["no_consent"] == 2


def test_votes_on_the_same_answers_are_one_pair_as_most_say(small: Arena) -> None:
    ann = agreeing(small)
    for winner in ("model_a", "model_a", "model_b", "model_a"):
        said(small, ann, "Why?", "good", "bad", winner)
    said(small, ann, "  WHY? ", "bad", "good", "model_b")
    for winner in ("model_a", "model_b"):
        said(small, ann, "Split?", "x", "y", winner)
    made = gather(small.database, redact=None)
    assert texts(made) == {("Why?", "good", "bad")}
    assert (made.left_out["duplicates"], made.left_out["contradictions"]) == (2, 4)
    assert sum(made.left_out.values()) + 1 == made.votes


def test_no_prompt_outweighs_all_others(small: Arena) -> None:
    ann = agreeing(small)
    for number in range(7):
        said(small, ann, "A suggested prompt", f"good {number}", f"bad {number}")
    made = gather(small.database, redact=None)
    assert len(texts(made)) == 4
    assert made.left_out["capped"] == 3


def test_personal_data_are_taken_out_before_texts_are_compared(small: Arena) -> None:
    ann = agreeing(small)
    said(small, ann, "Write to ann@example.org.", "Dear ann@example.org,", "Call 212-555-0187 instead.")
    said(small, ann, "Write to bob@example.org.", "Dear bob@example.org,", "Call 212-555-0187 instead.")
    made = gather(small.database, redact=redacted)
    ((prompt, chosen, rejected),) = texts(made)
    assert "example.org" not in prompt + chosen
    assert "555" not in rejected
    assert (made.redacted, made.left_out["duplicates"]) == (True, 1)


def test_a_prompt_that_was_held_out_once_is_held_out_always(small: Arena) -> None:
    ann = agreeing(small)
    small.ledger.set_setting("votes_per_day", 1000, "tests")
    small.ledger.set_setting("guest_votes_per_day", 1000, "tests")
    for number in range(60):
        said(small, ann, f"Question {number}?", "good", "bad")
    before = gather(small.database, redact=None)
    for number in range(60, 120):
        said(small, ann, f"Question {number}?", "good", "bad")
    after = gather(small.database, redact=None)
    assert {pair.prompt for pair in before.measured} <= {pair.prompt for pair in after.measured}
    assert not {pair.group for pair in after.measured} & {pair.group for pair in after.learned}
    assert 10 <= len(after.measured) <= 40
    assert all(is_held_out(pair.group) for pair in after.measured)


def test_the_files_are_what_trl_reads(small: Arena, tmp_path: Path) -> None:
    from datasets import Dataset  # seconds, which the other tests need not wait for
    from trl.data_utils import is_conversational

    ann = agreeing(small)
    small.ledger.add_turn((battle := small.open(ann)).id, 1, "Why?", "göod", "bad", system="Be brief.")
    small.ledger.vote(battle.id, battle.token, ann.id, "model_a")
    made = gather(small.database, redact=None)
    hashes = write_pairs(made, tmp_path / "pairs")
    assert set(hashes) == {"train.jsonl", "held_out.jsonl"}
    (name,) = [name for name in hashes if (tmp_path / "pairs" / name).stat().st_size]
    (row,) = read_pairs(tmp_path / "pairs" / name)
    assert is_conversational(row)
    read = Dataset.from_json(str(tmp_path / "pairs" / name), cache_dir=str(tmp_path / "cache"))
    assert read.column_names == ["prompt", "chosen", "rejected"]
    assert [message["role"] for message in read[0]["prompt"]] == ["system", "user"]
    assert read[0]["chosen"][0] == {"role": "assistant", "content": "göod"}
    (tmp_path / "pairs" / name).write_text(json.dumps({"prompt": "x"}))
    with pytest.raises(DataError):
        read_pairs(tmp_path / "pairs" / name)
