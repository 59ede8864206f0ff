"""The chain: its hashes as anyone can work them out, and every change to it seen where it was made."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.governance.chain import NOTHING, Entry, canonical, first_break, seal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.lists(st.dictionaries(st.text(min_size=1), JSON, max_size=3), min_size=3, max_size=8)


def chain(bodies: list[dict[str, object]]) -> list[Entry]:
    entries: list[Entry] = []
    previous = NOTHING
    for number, body in enumerate(bodies):
        digest = seal(number, 1_000 + number, "vote", body, previous)
        entries.append(Entry(number, 1_000 + number, "vote", body, previous, digest))
        previous = digest
    return entries


def test_the_hash_is_that_of_the_json_anyone_can_write() -> None:
    text = (
        '{"at":17,"body":{"a":"\\u00e9","b":[0.25,null,true]},"kind":"vote","number":3,"previous":"' + "0" * 64 + '"}'
    )
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert seal(3, 17, "vote", {"b": [0.25, None, True], "a": "é"}, NOTHING) == expected


def test_what_json_cannot_hold_is_refused() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            canonical({"x": value})


@settings(max_examples=40, deadline=None)
@given(BODIES, st.data())
def test_a_whole_chain_is_whole_and_any_change_is_seen_where_it_was_made(
    bodies: list[dict[str, object]], data: st.DataObject
) -> None:
    entries = chain(bodies)
    assert first_break(entries) is None
    assert first_break(entries, {entry.number: entry.hash for entry in entries}) is None
    at = data.draw(st.integers(0, len(entries) - 1))
    entry = entries[at]

    def broken(changed: list[Entry]) -> tuple[int, str]:
        found = first_break(changed)
        assert found is not None
        assert str(found.number) in found.said
        return found.number, found.flaw

    def put(other: Entry) -> list[Entry]:
        return [*entries[:at], other, *entries[at + 1 :]]

    for other in (
        replace(entry, body={**entry.body, "winner ": "model_a"}), replace(entry, at=entry.at + 1),
        replace(entry, kind="set_aside"), replace(entry, hash="f" * 64),
    ):  # fmt: skip
        assert broken(put(other)) == (at, "body")
    assert broken(put(replace(entry, previous="f" * 64))) == (at, "link")
    assert broken(put(replace(entry, number=entry.number + 1))) == (at, "order")
    if at < len(entries) - 1:
        resealed = replace(entry, body={"x": 1}, hash=seal(entry.number, entry.at, "vote", {"x": 1}, entry.previous))
        if resealed.hash != entry.hash:
            assert broken(put(resealed)) == (at + 1, "link")
        assert broken([*entries[:at], *entries[at + 1 :]]) == (at, "order")
        assert broken([*entries[: at + 1], *entries[at:]]) == (at + 1, "order")
        assert broken([*entries[:at], entries[at + 1], entry, *entries[at + 2 :]]) == (at, "order")


def test_time_does_not_go_backwards() -> None:
    first = Entry(0, 9, "genesis", {}, NOTHING, seal(0, 9, "genesis", {}, NOTHING))
    second = Entry(1, 8, "vote", {}, first.hash, seal(1, 8, "vote", {}, first.hash))
    found = first_break([first, second])
    assert found is not None
    assert (found.number, found.flaw) == (1, "time")


def test_what_is_remembered_shows_an_end_cut_off_and_a_history_written_anew() -> None:
    entries = chain([{"n": n} for n in range(6)])
    head = {5: entries[5].hash}
    cut = first_break(entries[:4], head)
    assert cut is not None
    assert (cut.number, cut.flaw) == (4, "end")
    assert first_break(entries[:4]) is None  # which is why a head is to be remembered
    anew = first_break(chain([{"n": n + 1} for n in range(6)]), head)
    assert anew is not None
    assert (anew.number, anew.flaw) == (5, "history")
    nothing = first_break([], head)
    assert nothing is not None
    assert (nothing.number, nothing.flaw) == (0, "end")
