"""The steps from votes to a model in the log: linked, written once, and held to the log and to the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arena import Arena, opened
from sqlalchemy import text
from test_audit import forge

from fairground.governance.chain import Entry
from fairground.loop.audit import audit
from fairground.loop.steps import file_hashes, log_pairs, log_training, log_verdict, newest_training, verdict_of_votes
from fairground.loop.verdict import verdict
from fairground.store import default_database


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Arena]:
    with opened(default_database(tmp_path / "state")) as one:
        yield one


def made(arena: Arena, folder: Path, votes: int = 3) -> Entry:
    """A model "new" that was made of "old" by so many votes."""
    session = arena.guest()
    for _ in range(votes):
        arena.vote(session)
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("{}")
    (folder / "weights").write_bytes(b"1")
    head = arena.ledger.head()
    files = file_hashes(folder, ["train.jsonl", "absent"])
    pairs = log_pairs(
        arena.ledger, "new", "old", (head.number, head.hash), {"counts": {"votes": votes}, "files": files}
    )
    return log_training(arena.ledger, pairs, {"files": file_hashes(folder, ["weights"])})


def test_each_step_names_the_one_before(small: Arena, tmp_path: Path) -> None:
    trained = made(small, tmp_path / "new")
    (pairs,) = [entry for entry in small.ledger.entries() if entry.kind == "pairs"]
    assert trained.body["of"] == {"number": pairs.number, "hash": pairs.hash}
    assert newest_training(small.ledger, "new") == trained
    assert newest_training(small.ledger, "old") is None
    said = verdict("new", "old", "held_out_pairs", [(1.0, "a"), (1.0, "b")])
    first = log_verdict(small.ledger, trained, said)
    assert log_verdict(small.ledger, trained, said) == first, "said twice, it stands there once"
    found = audit(small.database, folders={"new": tmp_path / "new"})
    assert (found.broken, found.steps, found.files, found.changed) == (None, 3, 2, ())


def test_people_decide_between_the_two(small: Arena, tmp_path: Path) -> None:
    trained = made(small, tmp_path / "new")
    assert verdict_of_votes(small.ledger, trained) is None
    spammer = small.guest()
    for _ in range(5):
        small.vote(spammer, "model_b", a="new", b="old")
    small.ledger.quarantine(spammer.person.pseudonym, "by hand", "tests")
    for number in range(12):
        voter = small.guest()
        small.vote(voter, "model_b", a="old", b="new")
        small.vote(voter, "tie" if number == 3 else "model_a", a="new", b="old")
        battle = small.open(voter, "new", "old", mode="side_by_side")
        small.ledger.vote(battle.id, battle.token, voter.id, "model_b")
    found = verdict_of_votes(small.ledger, trained)
    assert found is not None
    said, entry = found
    assert (said.wins, said.ties, said.losses) == (23, 1, 0)
    assert said.better
    assert entry.body["until"]["number"] == entry.number - 1
    assert audit(small.database).broken is None


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("pairs", {"counts": {"votes": 4}}, "there were 4 votes, but there were 3"),
        ("trained", {"of": {"number": 1, "hash": "0" * 64}}, "not the step before"),
        ("trained", {"of": None}, "not written as such a step"),
        ("verdict", {"wins": 9}, "9 wins where the log has 2"),
    ],
)
def test_a_step_that_was_forged_is_found(
    small: Arena, tmp_path: Path, kind: str, change: dict[str, Any], said: str
) -> None:
    """Even where the whole chain is written anew, so that every hash fits."""
    trained = made(small, tmp_path / "new")
    voter = small.guest()
    for _ in range(2):
        small.vote(voter, a="new", b="old")
    verdict_of_votes(small.ledger, trained)
    number = next(entry.number for entry in small.ledger.entries() if entry.kind == kind)
    assert audit(small.database).broken is None
    forge(small.database, number, lambda body: {**body, **change})
    broken = audit(small.database).broken
    assert broken is not None
    assert broken.flaw == "step"
    if kind == "verdict" or "counts" in change or change["of"] is None:
        assert broken.number == number
    assert said in broken.said


def test_a_step_before_which_another_was_changed_no_longer_holds(small: Arena, tmp_path: Path) -> None:
    made(small, tmp_path / "new")
    number = next(entry.number for entry in small.ledger.entries() if entry.kind == "pairs")
    forge(small.database, number, lambda body: {**body, "files": {}})
    broken = audit(small.database).broken
    assert broken is not None
    assert (broken.number, broken.flaw) == (number + 1, "step")


def test_files_are_held_to_the_log(small: Arena, tmp_path: Path) -> None:
    made(small, tmp_path / "new")
    folders = {"new": tmp_path / "new"}
    (tmp_path / "new" / "weights").write_bytes(b"2")
    (changed,) = audit(small.database, folders=folders).changed
    assert changed.path == tmp_path / "new" / "weights"
    (tmp_path / "new" / "weights").unlink()
    found = audit(small.database, folders=folders)
    assert (found.files, found.changed) == (1, ())
    assert audit(small.database).files == 0, "where nobody knows where they are, nothing can be said of them"


def test_the_log_holds_no_path_and_no_text(small: Arena, tmp_path: Path) -> None:
    made(small, tmp_path / "new")
    with small.database.connect() as connection:
        bodies = " ".join(row.body for row in connection.execute(text("SELECT body FROM log")))
    assert str(tmp_path) not in bodies
