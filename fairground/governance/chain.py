"""A chain of entries in which none can be changed, taken out, put in or moved without that showing.

Each entry carries the hash of the one before it and a hash over everything in itself, the other hash included (Haber
and Stornetta, 1991, section 5.1). Whoever remembers the number and hash of any one entry holds the whole history up to
it: an end that was cut off, or a chain that was written anew from some entry on, is seen by what they remember.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

NOTHING = "0" * 64  # what the first entry, number 0, has before it

Flaw = Literal["body", "link", "order", "time", "history", "end"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `at`: milliseconds since the epoch, never less than the entry before. `body`: what JSON can hold."""

    number: int
    at: int
    kind: str
    body: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain first breaks.

    `flaw`: "body" where an entry is not what its hash was taken of; "link" where it does not carry the hash of the
    entry before; "order" where its number does not follow; "time" where it is earlier than the one before; "history"
    where its hash is not the remembered one; "end" where a remembered entry is missing at the end.
    """

    number: int
    flaw: Flaw
    said: str


def canonical(value: object) -> str:
    """The one spelling of a value: JSON in ASCII, keys sorted, no spaces. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def seal(number: int, at: int, kind: str, body: Mapping[str, Any], previous: str) -> str:
    """SHA-256, in hexadecimal, of an entry's canonical JSON. Raises ValueError for what JSON cannot hold."""
    whole = {"number": number, "at": at, "kind": kind, "body": body, "previous": previous}
    return sha256(canonical(whole).encode("ascii")).hexdigest()


class Verifier:
    """Checks a chain entry by entry, in constant memory. `remembered`: hashes by number that it must still hold."""

    def __init__(self, remembered: Mapping[int, str] | None = None) -> None:
        self._remembered = dict(remembered or {})
        self.last: Entry | None = None

    def check(self, entry: Entry) -> Break | None:
        """What is wrong with the next entry; None where it continues the chain."""
        last, number = self.last, entry.number
        expected = 0 if last is None else last.number + 1
        if number != expected:
            return Break(expected, "order", f"entry {expected} should follow, but there stands number {number}")
        if entry.previous != (NOTHING if last is None else last.hash):
            before = "it is the first and names one before it" if last is None else f"entry {last.number} has another"
            return Break(
                number, "link", f"the hash that entry {number} carries of the one before does not fit: {before}"
            )
        if seal(number, entry.at, entry.kind, entry.body, entry.previous) != entry.hash:
            return Break(number, "body", f"entry {number} was changed: it is not what its hash was taken of")
        if last is not None and entry.at < last.at:
            return Break(number, "time", f"entry {number} says that it is earlier than entry {last.number}")
        if self._remembered.pop(number, entry.hash) != entry.hash:
            return Break(
                number, "history", f"entry {number} has another hash than is remembered: history was rewritten"
            )
        self.last = entry
        return None

    def end(self) -> Break | None:
        """What is wrong with the end, once all entries were checked: a remembered entry that never came."""
        if not self._remembered:
            return None
        missing = max(self._remembered)
        first = 0 if self.last is None else self.last.number + 1
        return Break(
            first, "end", f"entry {missing} is remembered, but the chain ends before entry {first}: it was cut off"
        )


def first_break(entries: Iterable[Entry], remembered: Mapping[int, str] | None = None) -> Break | None:
    """The first place where a chain breaks, from its entry 0 on; None where it is whole."""
    verifier = Verifier(remembered)
    for entry in entries:
        if found := verifier.check(entry):
            return found
    return verifier.end()
