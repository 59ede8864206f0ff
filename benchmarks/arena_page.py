"""How fast the leaderboard answers with a million votes stored, while people read and votes arrive.

    .venv/bin/python benchmarks/arena_page.py --votes 1000000 --out benchmarks/results/arena_page.json

Makes a log of so many votes in an SQLite file, chained as the ledger chains them; serves the whole site over it in a
process of its own; and reads it from another process on several connections that stay open, at a given pace, while a
third one votes through the ledger. Every answer must be a whole page with status 200. Reported: how long the site takes
until it has read the log, the times of answers by page, and how old the ratings were that they showed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from circumstances import circumstances
from sqlalchemy import insert

from fairground.governance.chain import canonical, seal
from fairground.loop.ledger import Ledger
from fairground.loop.people import People
from fairground.store import open_database
from fairground.store.log import read_head
from fairground.store.tables import log

PAGES = {
    "leaderboard": "/leaderboard",
    "sorted by votes": "/leaderboard?sort=votes",
    "code, style control": "/leaderboard?category=code&style=1",
    "csv": "/leaderboard.csv",
    "JSON": "/leaderboard.json",
}
CATEGORIES = ("code", "maths", "creative-writing", "instruction-following", "hard", "short", "long", "multi-turn")
LANGUAGES = ("en",) * 7 + ("de", "fr", "zh", "und")
CHUNK = 20_000


def main() -> None:
    arguments = read_arguments()
    if arguments.serve:
        serve(arguments.database, arguments.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.database or f"sqlite:///{Path(folder) / 'arena.db'}"
        fill(url, arguments.votes, arguments.models)
        raw = measure(url, arguments)
    raw["about"] = {
        "votes": arguments.votes,
        "models": arguments.models, "connections": arguments.connections,
        "per_second": arguments.pace, "votes_per_second": arguments.voting, "seconds": arguments.seconds,
        **circumstances(f"python benchmarks/arena_page.py --seconds {arguments.seconds:g}"),
    }  # fmt: skip
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(raw, indent=1))


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--votes", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--pace", type=float, default=40.0, help="requests a second, of all connections together")
    parser.add_argument("--voting", type=float, default=10.0, help="votes a second that arrive meanwhile")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--database", help="a file that was filled before, as sqlite:///FILE, or a new one to keep")
    parser.add_argument("--out")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def fill(url: str, votes: int, models: int) -> None:
    """Adds so many votes to a new log, in chunks of one transaction each."""
    with open_database(url) as database:
        ledger = Ledger(database)
        head = ledger.read(read_head)
        assert head is not None
        if head.number >= votes:
            return
        number, previous, at = head.number, head.hash, head.at
        dice, rows = random.Random(1), []
        for body in bodies(dice, votes, models):
            number, at = number + 1, at + 1
            digest = seal(number, at, "vote", body, previous)
            rows.append(
                {
                    "number": number, "at": at, "kind": "vote", "body": canonical(body), "previous": previous,
                    "hash": digest, "battle": body["battle"], "voter": body["voter"],
                }
            )  # fmt: skip
            previous = digest
            if len(rows) == CHUNK or number == head.number + votes:
                with database.begin() as connection:
                    connection.execute(insert(log), rows)
                rows = []


def bodies(dice: random.Random, votes: int, models: int) -> Iterator[dict[str, Any]]:
    """Votes of a crowd of which a few cast many, on models whose strengths differ by 400 points."""
    names = [f"model-{i:03}" for i in range(models)]
    people = [f"{dice.getrandbits(64):016x}" for _ in range(max(votes // 50, 10))]
    for i in range(votes):
        a, b = dice.sample(range(models), 2)
        lead, said = 2.3 * (b - a) / models, dice.random()
        winner = "both_bad" if said < 0.1 else "tie" if said < 0.25 else None
        yield {
            "battle": f"{i:016x}", "model_a": names[a], "model_b": names[b],
            "winner": winner or ("model_a" if dice.random() < 1 / (1 + 2.718281828**-lead) else "model_b"),
            "voter": people[int(len(people) * dice.random() ** 2)], "mode": "battle", "probability": 0.000816,
            "by": "information", "style": [round(dice.uniform(-0.9, 0.9), 6) for _ in range(4)],
            "tags": sorted(dice.sample(CATEGORIES, 2)), "language": dice.choice(LANGUAGES),
            "prompt": f"{dice.getrandbits(64):016x}", "turns": 1, "reasons": [],
            "times": {side: {"first": 0.2, "whole": round(dice.uniform(1, 9), 3)} for side in "ab"},
            "tokens": {"a": 200, "b": 210},
        }  # fmt: skip


def serve(url: str, port: int) -> None:
    """The whole site over the database, without a model, until it is ended."""
    from fairground.serving.server import serve as run
    from fairground.web.app import create_site
    from fairground.web.board import live_board
    from fairground.web.models import Models

    with open_database(url) as database:
        ledger = Ledger(database)
        live = live_board(ledger)
        site = create_site(ledger, Models([]), live=live)
        run(site, "127.0.0.1", port, shutdown_timeout=2, ready=lambda where: live.start())
        live.stop()


def measure(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    port = 8391
    began = time.perf_counter()
    command = [sys.executable, __file__, "--serve", str(port), "--database", url]
    with subprocess.Popen(command) as server:
        try:
            ready = wait_for(port, "/leaderboard", began)
            for path in PAGES.values():
                wait_for(port, path, began)
            stop = multiprocessing.Event()
            voter = multiprocessing.Process(target=vote, args=(url, arguments.models, arguments.voting, stop))
            voter.start()
            times, ages = read(port, arguments)
            stop.set()
            voter.join()
            peak = peak_memory(server.pid)
        finally:
            server.terminate()
    every = [one for found in times.values() for one in found]
    return {
        "ready_s": ready,
        "peak_memory_mb": peak,
        "answers_ms": {name: summary(found) for name, found in {**times, "all": every}.items()},
        "age_votes": {"median": statistics.median(ages), "max": max(ages)},
    }


def read(port: int, arguments: argparse.Namespace) -> tuple[dict[str, list[float]], list[int]]:
    """Milliseconds of each answer by page, and how many votes behind the log the ratings were.

    Each request has its time to begin, and what it waits for a connection that is still busy counts as its own.
    """
    times: dict[str, list[float]] = {name: [] for name in PAGES}
    ages: list[int] = []
    begin = time.perf_counter() + 0.5
    count = int(arguments.pace * arguments.seconds)
    names = list(PAGES)

    def connection(which: int) -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for i in range(which, count, arguments.connections):
            due = begin + i / arguments.pace
            time.sleep(max(0.0, due - time.perf_counter()))
            name = names[(i // arguments.connections) % len(names)]
            line.request("GET", PAGES[name], headers={"accept": "text/html"})
            answer = line.getresponse()
            body = answer.read()
            took = 1000 * (time.perf_counter() - due)
            assert answer.status == 200, (answer.status, body[:200])
            assert len(body) > 1000
            times[name].append(took)
            if i % 50 == 0:
                line.request("GET", "/leaderboard/now")
                now = json.loads(line.getresponse().read())
                ages.append(now["log"] - now["rated"])
        line.close()

    threads = [threading.Thread(target=connection, args=(k,)) for k in range(arguments.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, times.values())) == count
    return times, ages


def vote(url: str, models: int, pace: float, stop: Any) -> None:
    """Votes through the ledger, as the site does, until it is told to stop."""
    dice = random.Random(2)
    with open_database(url) as database:
        ledger = Ledger(database)
        for name in ("guest_votes_per_day", "battles_per_day"):
            ledger.set_setting(name, 1_000_000, "command")
        session = People(ledger).guest().session
        for i, body in enumerate(bodies(dice, 10**9, models)):
            if stop.wait(1 / pace):
                return
            opened = ledger.open_battle(session.person.id, body["model_a"], body["model_b"], session=session.id)
            facts = {key: body[key] for key in ("style", "tags", "language", "prompt", "turns", "times", "tokens")}
            receipt = ledger.vote(opened.id, opened.token, session.id, body["winner"], facts=facts)
            assert receipt.number > i


def wait_for(port: int, path: str, began: float) -> float:
    """Seconds from `began` until the page is there."""
    while time.perf_counter() - began < 600:
        try:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            line.request("GET", path, headers={"accept": "text/html"})
            if line.getresponse().status == 200:
                return time.perf_counter() - began
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("The site did not read its log within ten minutes.")


def peak_memory(pid: int) -> float | None:
    """Megabytes, where the system tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def summary(found: list[float]) -> dict[str, float]:
    found = sorted(found)
    last = len(found) - 1
    return {
        "n": len(found),
        **{f"p{share}": round(found[round(share / 100 * last)], 2) for share in (50, 95, 99)},
        "max": round(found[-1], 2),
    }


if __name__ == "__main__":
    main()
