"""Votes as preference pairs: what people chose, beside what they passed over for it.

    gathered = gather(database, redact=redacted)
    files = write_pairs(gathered, folder)

The pairs are what learning from preferences takes (TRL's format: a prompt, what was chosen, what was rejected). Every
vote that makes none is counted under the reason, so that the numbers add up to the votes of the log.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from fairground.errors import DataError
from fairground.governance.chain import Entry
from fairground.hub.home import write_whole
from fairground.loop.export import Redact
from fairground.loop.facts import prompt_hash
from fairground.loop.ledger import as_entry
from fairground.store import settings as kept
from fairground.store.battles import Conversation, read_published
from fairground.store.database import Database, store_errors
from fairground.store.log import read_log

CHUNK = 1_000  # votes whose texts are read at a time
PER_PROMPT = 4  # pairs of one prompt, so that no suggested prompt outweighs all others
HELD_OUT = 0.2  # share of the prompts
LEARNED, MEASURED = "train.jsonl", "held_out.jsonl"
GROUP = "preference pairs"  # the key of the hash by which a prompt is held out or not
WHY = {
    "not_blind": "of models that the person had chosen",
    "quarantined": "of voters in quarantine",
    "no_consent": "without a text that its person allows to be used",
    "ties": "that called it a tie, or both bad",
    "several_turns": "of several turns, after the first of which the two had been told different things",
    "no_difference": "with an empty answer, or with two equal ones",
    "duplicates": "that say again what another vote said of the same prompt and answers",
    "contradictions": "on the same prompt and answers that cancel each other out",
    "capped": f"on prompts that had {PER_PROMPT} pairs already",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """What one vote prefers. `group`: equal prompts have equal ones. `chosen_by`, `rejected_by`: the models."""

    group: str
    system: str
    prompt: str
    chosen: str
    rejected: str
    chosen_by: str
    rejected_by: str

    def as_json(self) -> dict[str, list[dict[str, str]]]:
        """As TRL's trainers read it."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return {
            "prompt": [*system, {"role": "user", "content": self.prompt}],
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
        }


@dataclass(frozen=True, slots=True)
class Gathered:
    """Pairs to learn from, pairs of other prompts to measure on, and the votes that made none, by `WHY`.

    `votes`: of the log. `number`, `hash`: of its last entry that was read. `redacted`: whether personal data were
    looked for.
    """

    learned: Sequence[Pair]
    measured: Sequence[Pair]
    votes: int
    left_out: Mapping[str, int]
    number: int
    hash: str
    redacted: bool

    def counts(self) -> dict[str, int]:
        """Every count by name, for the log and the card; those left out and the pairs add up to the votes."""
        return {"votes": self.votes, **self.left_out, "learned": len(self.learned), "held_out": len(self.measured)}


def gather(
    database: Database, *, redact: Redact | None, progress: Callable[[int], None] = lambda votes: None
) -> Gathered:
    """Reads all votes of the log and makes pairs of those that can be learned from.

    A conversation is used only where its person allows that it is published. `redact` takes personal data out of every
    text; with None nothing does, and `Gathered.redacted` says so. Whoever's answers they are, a vote says what people
    want. Prompts are held out by a hash of themselves, so that one that was held out once is held out whenever votes
    are gathered again, and no later model learns what an earlier one was measured on. Raises StoreError.
    """
    with store_errors("read"), database.connect() as connection:
        quarantined = set(kept.list_quarantined(connection))
    left_out: Counter[str] = Counter()
    same: defaultdict[tuple[str, ...], list[Pair]] = defaultdict(list)  # by system, prompt and the two answers
    votes, last = 0, None
    entries = map(as_entry, read_log(database))
    while chunk := list(islice(entries, CHUNK)):
        last = chunk[-1]
        cast = [entry for entry in chunk if entry.kind == "vote"]
        with store_errors("read"), database.connect() as connection:
            said = read_published(connection, [entry.body["battle"] for entry in cast])
        for entry in cast:
            made = _pair(entry, said.get(entry.body["battle"]), quarantined, redact)
            if isinstance(made, str):
                left_out[made] += 1
            else:
                same[(made.system, made.group, *sorted((made.chosen, made.rejected)))].append(made)
        votes += len(cast)
        progress(votes)
    pairs = list(_settled(same.values(), left_out))
    return Gathered(
        [pair for pair in pairs if not is_held_out(pair.group)],
        [pair for pair in pairs if is_held_out(pair.group)],
        votes,
        {why: left_out[why] for why in WHY},
        -1 if last is None else last.number,
        "" if last is None else last.hash,
        redact is not None,
    )


def is_held_out(group: str) -> bool:
    """Whether prompts of this group are measured and never learned."""
    return int(group, 16) < HELD_OUT * 2**64


def _pair(entry: Entry, said: Conversation | None, quarantined: set[str], redact: Redact | None) -> Pair | str:
    """The pair that a vote is, or under which of `WHY` it is left out."""
    body = entry.body
    if body["mode"] != "battle":
        return "not_blind"
    if body["voter"] in quarantined:
        return "quarantined"
    if said is None or not said.turns:
        return "no_consent"
    if body["winner"] not in ("model_a", "model_b"):
        return "ties"
    if len(said.turns) > 1:
        return "several_turns"
    (turn,) = said.turns
    clean = redact or str
    system, prompt, a, b = (clean(text) for text in (said.system, turn.prompt, turn.answer_a, turn.answer_b))
    if not a.strip() or not b.strip() or not prompt.strip() or a == b:
        return "no_difference"
    group, models = prompt_hash(GROUP, prompt), (body["model_a"], body["model_b"])
    if body["winner"] == "model_a":
        return Pair(group, system, prompt, a, b, *models)
    return Pair(group, system, prompt, b, a, *reversed(models))


def _settled(same: Iterable[Sequence[Pair]], left_out: Counter[str]) -> Iterator[Pair]:
    """One pair for all votes on the same texts, as most of them say, and of each prompt so many at most."""
    by_prompt: Counter[str] = Counter()
    for votes in same:
        for_first = sum(vote.chosen == votes[0].chosen for vote in votes)
        against = len(votes) - for_first
        if for_first == against:
            left_out["contradictions"] += len(votes)
            continue
        wanted = votes[0].chosen if for_first > against else votes[0].rejected
        pair = next(vote for vote in votes if vote.chosen == wanted)
        left_out["contradictions"] += 2 * min(for_first, against)
        left_out["duplicates"] += abs(for_first - against) - 1
        by_prompt[pair.group] += 1
        if by_prompt[pair.group] > PER_PROMPT:
            left_out["capped"] += 1
        else:
            yield pair


def write_pairs(pairs: Gathered, folder: Path) -> dict[str, str]:
    """Writes train.jsonl and held_out.jsonl, whole or not at all; the SHA-256 of each by its name.

    Raises DataError where they cannot be written.
    """
    return {
        name: _write(folder / name, [pair.as_json() for pair in some])
        for name, some in ((LEARNED, pairs.learned), (MEASURED, pairs.measured))
    }


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """What `write_pairs` wrote. Raises DataError for anything else."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if all(row["prompt"] and row["chosen"][0]["content"] and row["rejected"][0]["content"] for row in rows):
            return rows
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        pass
    raise DataError(f"{path} is not the file of pairs that was written there; give --out a new folder.")


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    write_file(path, text)
    return sha256(text).hexdigest()


def write_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, and its folder where there is none. Raises DataError where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); name another place.") from error
