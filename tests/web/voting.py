"""Votes that look like real ones, cast through the ledger: nothing is asked of any model."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fairground.loop.ledger import Ledger
from fairground.loop.people import People

# Name: (strength in logits, seconds to the whole answer, what the log knows of it).
MODELS: dict[str, tuple[float, float, dict[str, Any]]] = {
    "smollm2": (1.6, 3.1, {"organisation": "Hugging Face", "licence": "Apache-2.0", "parameters": 134_515_008}),
    "smollm2#int4": (1.5, 2.0, {"organisation": "Hugging Face", "licence": "Apache-2.0", "parameters": 134_515_008}),
    "commons-llama-4m": (0.1, 0.42, {"organisation": "Fairground", "licence": "Apache-2.0", "parameters": 3_440_000}),
    "commons-mistral-4m": (0.0, 0.44, {"organisation": "Fairground", "licence": "Apache-2.0", "parameters": 3_450_000}),
    "commons-gpt2-4m": (-0.2, 0.4, {"organisation": "Fairground", "licence": "Apache-2.0", "parameters": 3_550_000}),
    "commons-gpt-neo-4m": (
        -0.3,
        0.39,
        {"organisation": "Fairground", "licence": "Apache-2.0", "parameters": 3_550_000},
    ),
    "commons-gpt-j-4m": (-0.4, 0.41, {"organisation": "Fairground", "licence": "Apache-2.0", "parameters": 3_450_000}),
    "commons-5gram": (-1.4, 0.05, {"organisation": "Fairground", "licence": "Apache-2.0", "parameters": 2_860_000}),
}
LANGUAGES = ("en",) * 8 + ("de", "fr", "und")
TAGS = ("code", "maths", "creative-writing", "instruction-following", "hard", "short", "long", "multi-turn")


def offer(ledger: Ledger) -> None:
    for name, (_, _, facts) in MODELS.items():
        ledger.offer_model(name, facts, "command")


def facts_of(dice: random.Random, a: str, b: str) -> dict[str, Any]:
    """Facts of a battle as the site writes them."""
    times = {}
    for side, name in (("a", a), ("b", b)):
        whole = MODELS[name][1] * dice.lognormvariate(0, 0.3)
        times[side] = {"first": round(0.03 + 0.05 * whole, 3), "whole": round(whole, 3)}
    return {
        "style": [round(dice.uniform(-0.8, 0.8), 6) for _ in range(4)],
        "tags": sorted(dice.sample(TAGS, dice.choice((1, 2)))),
        "language": dice.choice(LANGUAGES),
        "prompt": f"{dice.getrandbits(64):016x}",
        "turns": 1,
        "times": times,
        "tokens": {"a": 60, "b": 60},
    }


def winner_of(dice: random.Random, a: str, b: str, style: float = 0.0) -> str:
    lead = MODELS[a][0] - MODELS[b][0] + 0.6 * style
    if dice.random() < 0.1 * (1 if max(MODELS[a][0], MODELS[b][0]) > 1 else 3):
        return "both_bad"
    if dice.random() < 0.15:
        return "tie"
    return "model_a" if dice.random() < 1 / (1 + 2.718281828 ** (-lead)) else "model_b"


def cast(ledger: Ledger, votes: int, *, people: int = 12, seed: int = 0, mode: str = "battle") -> list[str]:
    """So many votes by so many guests, a thread each; the pseudonyms of the guests."""
    everybody = People(ledger)
    guests = [everybody.guest().session for _ in range(people)]
    if votes > 40 * people:
        ledger.set_setting("guest_votes_per_day", 1_000_000, "command")
        ledger.set_setting("battles_per_day", 1_000_000, "command")

    def some(k: int) -> None:
        dice = random.Random(f"{seed} {k}")
        for _ in range(votes // people + (k < votes % people)):
            a, b = dice.sample(sorted(MODELS), 2)
            facts = facts_of(dice, a, b)
            session = guests[k]
            by = dice.choice(("uniform", "information", "information"))
            battle = ledger.open_battle(session.person.id, a, b, session=session.id, mode=mode, probability=0.1, by=by)  # type: ignore[arg-type]
            ledger.vote(battle.id, battle.token, session.id, winner_of(dice, a, b, facts["style"][0]), facts=facts)

    with ThreadPoolExecutor(people) as pool:
        list(pool.map(some, range(people)))
    return [session.person.pseudonym for session in guests]
