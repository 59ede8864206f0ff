"""A process that votes from several threads until it has cast what it was told to, or is killed.

    python voting_process.py URL SEED VOTES < battles that were left open

It tells, a line each and before it goes on: `open BATTLE TOKEN SESSION WINNER MODEL_A MODEL_B` before a vote,
`counted BATTLE NUMBER HASH` once it is acknowledged, `refused BATTLE STATUS` where it is not.
"""

from __future__ import annotations

import os
import random
import sys
import threading

from fairground.errors import VoteRefused
from fairground.loop.ledger import Ledger
from fairground.loop.people import People
from fairground.store import open_database

MODELS = ("ada", "bob", "cat", "dan")
THREADS = 4


def main(url: str, seed: int, votes: int) -> None:
    with open_database(url) as database:
        ledger = Ledger(database)
        session = People(ledger).guest().session
        left = [line.split() for line in sys.stdin.read().splitlines()]

        def tell(*words: object) -> None:
            os.write(1, (" ".join(map(str, words)) + "\n").encode())

        def cast(battle: str, token: str, of: str, winner: str) -> None:
            try:
                receipt = ledger.vote(battle, token, of, winner)
                tell("counted", battle, receipt.number, receipt.hash)
            except VoteRefused as error:
                tell("refused", battle, error.status)

        def work(number: int) -> None:
            chance = random.Random(f"{seed} {number}")
            for words in left[number::THREADS]:
                cast(*words)
            for _ in range(votes // THREADS):
                a, b = chance.sample(MODELS, 2)
                winner = chance.choices(("model_a", "model_b", "tie", "both_bad"), (5 if a < b else 2, 3, 1, 1))[0]
                battle = ledger.open_battle(session.person.id, a, b, session=session.id)
                tell("open", battle.id, battle.token, session.id, winner, a, b)
                cast(battle.id, battle.token, session.id, winner)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
