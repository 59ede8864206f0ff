"""Votes a second that an arena on SQLite takes, each on the disk before it is acknowledged.

    .venv/bin/python benchmarks/arena_votes.py [--stored 200000] [--seconds 12] [--rounds 5]

The database holds 200,000 votes before, sealed into its log. Two ways of asking take turns, from as many threads as a
busy site has people clicking at once: a vote alone, on battles that were opened before; and a whole battle, opened,
with a turn of text kept, and voted on. Beside them one person alone, and how often this disk can sync at all. After
every round the whole log is audited, and holds every vote that was acknowledged, hash and all.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from circumstances import circumstances

from fairground.governance.chain import canonical, seal
from fairground.loop.audit import audit
from fairground.loop.ledger import Ledger, Receipt
from fairground.loop.people import People, Session
from fairground.store import default_database, open_database

HERE = Path(__file__).parent
MODELS = [f"model-{number:02}" for number in range(20)]
FACTS = {
    "style": [0.25, -0.125, 0.0, 0.5], "tags": ["code", "language:en"], "language": "en", "turns": 1,
    "times": {"a": {"first_ms": 81.5, "all_ms": 2310.0}, "b": {"first_ms": 95.25, "all_ms": 1804.0}},
    "tokens": {"a": 210, "b": 188},
}  # fmt: skip
PROMPT, ANSWER = "Why is the sky blue? " * 8, "Because air scatters short waves of light more than long ones. " * 12


def store(path: Path, votes: int) -> None:
    """Adds votes of a thousand people to an arena's log, by the chain's own rule and in its tables."""
    with sqlite3.connect(path) as connection:
        number, previous, at = connection.execute("SELECT number, hash, at FROM log ORDER BY number DESC").fetchone()
        for begin in range(0, votes, 10_000):
            log, battles = [], []
            for i in range(begin, min(begin + 10_000, votes)):
                number, id_, voter = number + 1, f"{i:016x}", f"{i % 1000:016x}"
                a, b = MODELS[i % 20], MODELS[(i + 1 + i // 20 % 19) % 20]
                body = {
                    **FACTS, "battle": id_, "model_a": a, "model_b": b, "winner": "model_a" if i % 3 else "tie",
                    "mode": "battle", "probability": 0.005263, "by": "uniform", "voter": voter, "reasons": [],
                    "prompt": f"{i % 50_000:016x}",
                }  # fmt: skip
                digest = seal(number, at, "vote", body, previous)
                log.append((number, at, "vote", canonical(body), previous, digest, id_, voter))
                battles.append((id_, "", "", None, a, b, "battle", 0.005263, "uniform", at, at, "voted", number))
                previous = digest
            connection.executemany("INSERT INTO battles VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", battles)
            connection.executemany("INSERT INTO log VALUES (?,?,?,?,?,?,?,?)", log)
    connection.close()


def syncs(folder: Path, seconds: float) -> float:
    """How often a second this disk takes 12 kB and syncs them."""
    with (folder / "sync").open("wb", buffering=0) as file:
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            file.write(b"x" * 12_288)
            os.fsync(file.fileno())
            count += 1
        return count / (time.perf_counter() - begun)


def pressed(
    threads: int, seconds: float, deed: Callable[[int], Receipt | None]
) -> tuple[list[Receipt], list[float], float]:
    """What so many threads got done side by side: receipts, each one's time in s, and how long it all took."""
    receipts: list[Receipt] = []
    took: list[float] = []
    begun = time.perf_counter()

    def work(number: int) -> None:
        while (at := time.perf_counter()) - begun < seconds:
            receipt = deed(number)
            if receipt is None:
                return
            took.append(time.perf_counter() - at)
            receipts.append(receipt)

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return receipts, took, time.perf_counter() - begun


def turn(
    ledger: Ledger, sessions: list[Session], seconds: float, receipts: dict[int, str], *, whole: bool
) -> dict[str, float]:
    """Votes a second, and the 50th and 99th percentile of the time to the acknowledgement, ms; adds the receipts."""
    opened: list[list[Any]] = [[] for _ in sessions]
    if not whole:

        def prepare(number: int) -> None:
            session = sessions[number]
            for _ in range(int(seconds * 600 / len(sessions))):
                opened[number].append(ledger.open_battle(session.person.id, *MODELS[:2], session=session.id))

        preparing = [threading.Thread(target=prepare, args=(number,)) for number in range(len(sessions))]
        for thread in preparing:
            thread.start()
        for thread in preparing:
            thread.join()

    def deed(number: int) -> Receipt | None:
        session = sessions[number]
        if whole:
            battle = ledger.open_battle(session.person.id, *MODELS[:2], session=session.id)
            ledger.add_turn(battle.id, 1, PROMPT, ANSWER, ANSWER)
        elif opened[number]:
            battle = opened[number].pop()
        else:
            return None  # faster than battles were prepared for
        facts = {**FACTS, "prompt": ledger.prompt_hash(PROMPT)}
        return ledger.vote(battle.id, battle.token, session.id, "model_a", facts=facts, comment="Clearer.")

    given, took, seconds = pressed(len(sessions), seconds, deed)
    receipts.update((receipt.number, receipt.hash) for receipt in given)
    p50, p99 = np.percentile(np.array(took) * 1000, [50, 99])
    return {"per_s": len(given) / seconds, "p50_ms": p50, "p99_ms": p99}


def audited(ledger: Ledger, receipts: dict[int, str]) -> float:
    """Entries a second that an audit reads, which holds every receipt to the log."""
    begun = time.perf_counter()
    found = audit(ledger.database, receipts)
    assert found.broken is None, found.broken
    return found.entries / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="On the disk to be measured (default: the system's temporary one).")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "arena_votes.json")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        open_database(default_database(Path(folder))) as database,
    ):
        ledger = Ledger(database)
        for name in ("guest_votes_per_day", "battles_per_day"):
            ledger.set_setting(name, 1_000_000, "benchmark")
        store(Path(folder) / "fairground.db", options.stored)
        people = People(ledger)
        sessions = [people.guest().session for _ in range(options.threads)]
        rounds: dict[str, list[dict[str, float]]] = {"vote": [], "alone": [], "battle": []}
        disk, audits = [], []
        for number in range(options.rounds):
            receipts: dict[int, str] = {}
            disk.append(syncs(Path(folder), 2))
            rounds["vote"].append(turn(ledger, sessions, options.seconds, receipts, whole=False))
            rounds["alone"].append(turn(ledger, sessions[:1], options.seconds / 4, receipts, whole=False))
            rounds["battle"].append(turn(ledger, sessions, options.seconds, receipts, whole=True))
            audits.append(audited(ledger, receipts))
            speeds = {name: round(found[-1]["per_s"]) for name, found in rounds.items()}
            print(f"round {number + 1}", speeds, file=sys.stderr)
        size = (Path(folder) / "fairground.db").stat().st_size
    about = {
        "stored": options.stored,
        "clients": options.threads,
        "seconds": options.seconds,
        **circumstances(f"python benchmarks/arena_votes.py --rounds {options.rounds}", "sqlalchemy"),
    }
    about["versions"]["SQLite"] = sqlite3.sqlite_version
    found = {"about": about, "bytes": size, "disk": disk, "audited_per_s": audits, "rounds": rounds}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
