"""The public data set of an arena's votes: a parquet file in LMSYS's columns, and its card beside it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from fairground.errors import DataError, MissingExtra
from fairground.governance.chain import Entry
from fairground.loop.ledger import as_entry
from fairground.store import settings as kept
from fairground.store.battles import Conversation, Turn, read_published
from fairground.store.database import Database, store_errors
from fairground.store.log import read_log

if TYPE_CHECKING:
    import pyarrow

CARD = "README.md"
MARK = "<!-- written by fairground export votes -->"
CHUNK = 1_000  # votes that are written at a time
LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{1,60}")  # as SPDX spells them
AS_LOGGED = ("model_a", "model_b", "language", "tags", "reasons", "style", "prompt", "probability")
WINNERS = {"both_bad": "tie (bothbad)"}  # where LMSYS has another word

Redact = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `conversations`: of the votes, those with text. `number`, `hash`: of the log's last entry."""

    parquet: Path
    card: Path
    votes: int
    conversations: int
    number: int
    hash: str


def export_votes(
    database: Database,
    out: str | Path,
    *,
    licence: str,
    redact: Redact | None,
    progress: Callable[[int], None] = lambda votes: None,
) -> Exported:
    """Writes every vote of the log to `out` (a name that ends in .parquet), and the card README.md beside it.

    Text goes with it only of conversations whose person allows it, through `redact`; without one, no text does. Both
    files appear whole or not at all, and never in the place of a README.md that this did not write.

    Raises DataError where there is no vote, or a file cannot be written; MissingExtra without pyarrow; StoreError.
    """
    out = Path(out)
    card = out.parent / CARD
    _check(out, card, licence)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise MissingExtra(
            "Parquet is written by pyarrow; install it with: pip install 'fairground[parquet]'"
        ) from None
    partial, partial_card = (path.with_name(f"{path.name}.{os.getpid()}.partial") for path in (out, card))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        votes, texts, last = _write_votes(database, partial, redact, progress)
        with partial.open("rb") as file:
            digest = sha256()
            while part := file.read(2**20):
                digest.update(part)
            os.fsync(file.fileno())
        done = Exported(out, card, votes, texts, last.number, last.hash)
        with partial_card.open("w", encoding="utf-8") as written:
            written.write(_card(done, licence, digest.hexdigest(), redacted=redact is not None))
            written.flush()
            os.fsync(written.fileno())
        os.replace(partial, out)
        os.replace(partial_card, card)
        folder = os.open(out.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror or error}); name another place.") from error
    finally:
        for path in (partial, partial_card):
            with suppress(OSError):
                path.unlink()
    return done


def _check(out: Path, card: Path, licence: str) -> None:
    if out.suffix != ".parquet":
        raise DataError(f"{out.name} does not end in .parquet, which is what votes are written as; name it so.")
    if not LICENCE.fullmatch(licence):
        raise DataError(f"{licence[:60]!r} is no licence as SPDX names them; give one such as CC-BY-4.0 or CC0-1.0.")
    if card.exists() and MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise DataError(f"{card} is there already, and its card would take its place; name a folder of its own.")


def _write_votes(
    database: Database, path: Path, redact: Redact | None, progress: Callable[[int], None]
) -> tuple[int, int, Entry]:
    """How many votes and how many with text were written, and the last entry that was read."""
    import pyarrow as pa
    from pyarrow import parquet

    with store_errors("read"), database.connect() as connection:
        quarantined = set(kept.list_quarantined(connection))
    votes, texts, last = 0, 0, None
    entries = map(as_entry, read_log(database))
    schema = _schema()
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while chunk := list(islice(entries, CHUNK)):
            last = chunk[-1]
            cast = [entry for entry in chunk if entry.kind == "vote"]
            with store_errors("read"), database.connect() as connection:
                public = read_published(connection, [entry.body["battle"] for entry in cast]) if redact else {}
            said = {battle: _redacted(text, redact) for battle, text in public.items()} if redact else {}
            rows = [_row(entry, said.get(entry.body["battle"]), quarantined) for entry in cast]
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            votes, texts = votes + len(rows), texts + sum(row["conversation_a"] is not None for row in rows)
            progress(votes)
    if last is None or not votes:
        raise DataError("There is no vote in this database yet, so there is nothing to export; vote first.")
    return votes, texts, last


def _row(entry: Entry, said: Conversation | None, quarantined: set[str]) -> dict[str, Any]:
    body = entry.body
    return {
        "question_id": body["battle"],
        "winner": WINNERS.get(body["winner"], body["winner"]),
        "judge": body["voter"],
        "conversation_a": _dialogue(said, "answer_a"),
        "conversation_b": _dialogue(said, "answer_b"),
        "turn": body["turns"],
        "anony": body["mode"] == "battle",
        "tstamp": entry.at / 1000,
        "quarantined": body["voter"] in quarantined,
        "entry": entry.number,
        **{name: body[name] for name in AS_LOGGED},
    }


def _redacted(said: Conversation, redact: Redact) -> Conversation:
    """The same with every text redacted, and without the comment."""
    turns = tuple(Turn(t.number, redact(t.prompt), redact(t.answer_a), redact(t.answer_b)) for t in said.turns)
    return replace(said, system=redact(said.system), comment="", turns=turns)


def _dialogue(said: Conversation | None, side: str) -> list[dict[str, str]] | None:
    """The messages of one side; None where no text of it is given away."""
    if said is None or not said.turns:
        return None
    messages = [{"role": "system", "content": said.system}] if said.system else []
    for turn in said.turns:
        messages.append({"role": "user", "content": turn.prompt})
        messages.append({"role": "assistant", "content": getattr(turn, side)})
    return messages


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    dialogue = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    types = {"turn": pa.int32(), "entry": pa.int64(), "tstamp": pa.float64(), "probability": pa.float64()}
    types |= {"anony": pa.bool_(), "quarantined": pa.bool_(), "style": pa.list_(pa.float64())}
    types |= dict.fromkeys(("tags", "reasons"), pa.list_(pa.string()))
    types |= dict.fromkeys(("conversation_a", "conversation_b"), dialogue)
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])


COLUMNS = {
    "question_id": "the battle",
    "model_a": "the model on the left",
    "model_b": "the model on the right",
    "winner": "`model_a`, `model_b`, `tie` or `tie (bothbad)`",
    "judge": "a random pseudonym of the voter, the same in all of their votes",
    "conversation_a": "what was asked and what the left one answered; null where it may not be published",
    "conversation_b": "the same of the right one",
    "turn": "how many turns; null where unknown",
    "anony": "whether the models were unnamed until the vote; only such votes make the leaderboard",
    "language": "of the prompt, as a code; null where unknown",
    "tstamp": "when the vote was counted, in seconds since the epoch",
    "tags": "what kind of prompt it was, by rules",
    "reasons": "what the voter ticked",
    "style": "(a - b) / (a + b + 1) of length, headings, lists and bold; null where unknown",
    "prompt": "64 bits of a keyed hash: equal prompts have equal ones; null where unknown",
    "probability": "with which this pair was drawn",
    "quarantined": "whether this voter's votes were left out of the leaderboard when this was written",
    "entry": "the number of the vote in the log",
}


def _card(done: Exported, licence: str, digest: str, *, redacted: bool) -> str:
    texts = (
        f"{done.conversations:,} votes carry their conversation, because the person allowed it. E-mail addresses, "
        "phone numbers, payment cards, IBANs, IP addresses, US social security numbers and bitcoin addresses were "
        "looked for by their form and taken out; names and postal addresses are not detected, so some may be left."
        if redacted
        else "No text is in it: neither prompts nor answers."
    )
    people = (
        "Comments are not in it. People are known by random pseudonyms alone; one pseudonym's votes belong together, "
        "which intervals that are clustered by voter need. Votes of people in quarantine are marked, not taken out."
    )
    columns = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in COLUMNS.items())
    return f"""---
license: {licence.lower()}
pretty_name: Votes of a Fairground arena
task_categories: [text-generation]
configs:
- config_name: default
  data_files: {json.dumps(done.parquet.name)}
---
{MARK}
# Votes of a Fairground arena

{done.votes:,} votes of people who saw two answers and said which is better. Licence: {licence}.

{fill(texts, 110)}

{fill(people, 110)}

| column | what it holds |
|---|---|
{columns}

`fairground rate {done.parquet.name}` computes ratings from it. It was written from a log up to entry {done.number} with
the hash `{done.hash}`; the file's SHA-256 is `{digest}`.
"""
