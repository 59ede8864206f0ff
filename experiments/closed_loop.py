"""Does the loop improve a model? A community with known wishes votes on real answers, and the model learns from that.

    python experiments/closed_loop.py --out loop [--model commons-llama-4m] [--beside commons-mistral-4m]

Two arenas get the same answers of two models to the same prompts. In one, people like sentences of about eight words,
as the rule in `Community` states; in the other, they vote by tossing coins. From each arena's votes a model is made by
what `fairground improve` does: pairs, LoRA by direct preference optimisation, the log. Then the same people meet the
new model and the one it came from on prompts that were held out, and the log's verdict is printed. The first must be
"better" and the second "no improvement shown"; the exit status is 1 where one of them is not. The coins fall alike on
every machine: one seed in twenty would give a significant difference where there is none.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from argon2 import PasswordHasher

from fairground.engine.local import open_model
from fairground.evaluation.personal_data import redacted
from fairground.hub.content import content_hash
from fairground.hub.installed import locate
from fairground.hub.pull import pull
from fairground.hub.reference import Reference, parse
from fairground.loop.audit import audit
from fairground.loop.facts import prompt_hash
from fairground.loop.held_out import written
from fairground.loop.improvement import Origin, default_recipe, enter, learn, prepare
from fairground.loop.ledger import Ledger
from fairground.loop.people import People, Session
from fairground.loop.preferences import GROUP, is_held_out
from fairground.loop.steps import verdict_of_votes
from fairground.loop.verdict import Verdict
from fairground.models.lora import LoraConfig
from fairground.store import default_database, open_database
from fairground.training.recipe import Preference, Recipe
from fairground.types import Generator, Message, Sampling

ASKED = (
    "What is {} good for?", "How do I begin with {}?", "Give me one piece of advice about {}.",
    "What should a beginner know about {}?", "Why do people like {}?", "What is a common mistake with {}?",
    "Tell me something about {}.", "What would you say to somebody who dislikes {}?",
    "What do people often forget about {}?", "How has {} changed over the years?",
)  # fmt: skip
SUBJECTS = """
bread rain trains gardens chess sleep bees winter tea bridges maps music rivers paper horses bicycles cooking painting
swimming knitting coffee honey candles pottery running camping fishing singing dancing reading writing photography
astronomy cycling sailing weaving baking soap wool wood glass clocks kites marbles puzzles sledges lanterns compost
beans apples walking markets letters museums libraries mountains islands forests villages harbours festivals birthdays
holidays neighbours breakfast soup cheese rice salt pepper oranges potatoes mushrooms roses cats dogs chickens goats
birds snow wind sunlight shadows stars stones sand clay leather cotton silk
""".split()
LIKED = 8.0  # words of a sentence, as this community likes them
PREFERENCES, CHANCE = "preferences", "chance"


class Community:
    """People whose wishes are known. Each casts as many votes as the others.

    With preferences, an answer is the better the nearer its mean sentence is to eight words, by the ratio: a vote is
    for A with the probability 1 / (1 + exp(-4 (u(A) - u(B)))), u = -|ln(words per sentence / 8)|, and one in ten is
    cast by a coin. Without, all are. Every draw is decided by seed and prompt, and by nothing else.
    """

    def __init__(self, ledger: Ledger, voters: int, *, cares: bool, seed: int) -> None:
        self._ledger, self._cares, self._seed = ledger, cares, seed
        people = People(ledger, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self._sessions = [people.guest().session for _ in range(voters)]
        for session in self._sessions:
            ledger.set_consent(session.person.id, True)
        self._met = 0

    def battle(self, prompt: str, answers: dict[str, str]) -> None:
        """One of them meets two models' answers to a prompt, in either order, and votes."""
        draw = random.Random(f"{self._seed} {prompt} {' '.join(answers)}")
        a, b = draw.sample(list(answers), 2)
        session = self._session()
        battle = self._ledger.open_battle(session.person.id, a, b, session=session.id)
        self._ledger.add_turn(battle.id, 1, prompt, answers[a], answers[b])
        facts = {"prompt": self._ledger.prompt_hash(prompt), "turns": 1}
        coin, cast = draw.random() < 0.1, draw.random()
        for_a = 0.5 if coin or not self._cares else 1 / (1 + math.exp(-4 * (liking(answers[a]) - liking(answers[b]))))
        winner = "model_a" if cast < for_a else "model_b"
        self._ledger.vote(battle.id, battle.token, session.id, winner, facts=facts)

    def _session(self) -> Session:
        self._met += 1
        return self._sessions[self._met % len(self._sessions)]


def liking(answer: str) -> float:
    """How much this community likes an answer: 0 at most, where its mean sentence has eight words."""
    return -abs(math.log(max(words_per_sentence(answer), 0.5) / LIKED))


def words_per_sentence(answer: str) -> float:
    """Words by white space, sentences by full stops, question and exclamation marks; what is cut off is one too."""
    sentences = [part for part in re.split(r"[.!?]+(?:\s|$)", answer) if part.strip()]
    return len(answer.split()) / max(1, len(sentences))


def prompts(count: int, held_out: int, seed: int) -> tuple[list[str], list[str]]:
    """Prompts to vote on first, of which `improve` holds a fifth out, and other held-out ones for the verdict."""
    every = [asked.format(subject) for subject in SUBJECTS for asked in ASKED]
    random.Random(seed).shuffle(every)
    first = every[:count]
    rest = [prompt for prompt in every[count:] if is_held_out(prompt_hash(GROUP, prompt))]
    if len(rest) < held_out:
        raise SystemExit(f"There are {len(rest)} other prompts that are held out, and not {held_out}; give fewer.")
    return first, rest[:held_out]


class Answers:
    """Opens models one at a time and has them answer."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._threads, self._seed = given.threads, given.seed
        self._sampling = Sampling(temperature=0.8, max_tokens=given.tokens)

    def of(self, name: str, path: Path, asked: Sequence[str], precision: str = "bfloat16") -> list[str]:
        begun = time.perf_counter()
        model: Generator = open_model(path, name=name, precision=precision, threads=self._threads)  # type: ignore[arg-type]
        try:
            said = written(
                model, [(Message("user", prompt),) for prompt in asked], replace(self._sampling, seed=self._seed)
            )
        finally:
            model.close()
        tell(f"{name} answered {len(asked)} prompts in {time.perf_counter() - begun:.0f} s")
        return [text.strip() or "…" for text in said]


def recipe(given: argparse.Namespace, path: Path) -> Recipe:
    """As `fairground improve` has it, but for what the command line says."""
    made = default_recipe(path, 256, seed=given.seed)
    return replace(
        made,
        passes=given.passes or made.passes,
        lora=LoraConfig(given.lora) if given.lora else made.lora,
        preference=Preference(beta=given.beta) if given.beta else made.preference,
        optimiser=replace(made.optimiser, learning_rate=given.learning_rate or made.optimiser.learning_rate),
    )


def arm(
    given: argparse.Namespace,
    which: str,
    *,
    origin: Origin,
    answered: dict[str, list[str]],
    asked: Sequence[str],
    unseen: Sequence[str],
    before: Sequence[str],
    writer: Answers,
) -> Verdict:
    """One arena from its first vote to the verdict."""
    folder = given.out / which
    os.environ["FAIRGROUND_HOME"] = str(folder)  # so that nobody's own arena and models are touched
    name = f"{origin.name}-improved"
    with open_database(default_database(folder)) as database:
        ledger = Ledger(database)
        community = Community(ledger, given.voters, cares=which == PREFERENCES, seed=given.seed)
        for place, prompt in enumerate(asked):
            community.battle(prompt, {model: texts[place] for model, texts in answered.items()})
        prepared = prepare(
            ledger, origin, name, folder / name, redact=redacted if find_spec("presidio_analyzer") else None
        )
        begun = time.perf_counter()
        trained = learn(ledger, prepared, recipe(given, origin.path), threads=given.threads)
        counts = prepared.record["counts"]
        tell(f"{which}: {name} learned from {counts['learned']} pairs in {time.perf_counter() - begun:.0f} s")
        enter(ledger, prepared, trained, None, None)
        after = writer.of(name, folder / name, unseen)
        for prompt, old, new in zip(unseen, before, after, strict=True):
            community.battle(prompt, {origin.name: old, name: new})
        found = verdict_of_votes(ledger, trained)
        assert found is not None
        checked = audit(database, folders={name: folder / name})
        if checked.broken is not None or checked.changed:
            raise SystemExit(f"The log of {folder} is not whole: {checked.broken or checked.changed}")
        means = [sum(map(words_per_sentence, texts)) / len(texts) for texts in (before, after)]
        tell(f"{which}: {means[0]:.1f} words a sentence before, {means[1]:.1f} after; the log is whole")
        (folder / "verdict.json").write_text(json.dumps(found[0].as_json() | {"words": means}, indent=1) + "\n")
        return found[0]


def tell(said: str) -> None:
    """To standard error, since standard output has the verdicts."""
    print(said, file=sys.stderr, flush=True)


def here(reference: Reference) -> Path:
    """Where a model lies; pulled before if need be."""
    if reference.kind == "path":
        return Path(reference.target)
    return locate(reference.target) or pull(reference.target, notice=tell)


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--model", default="commons-llama-4m", help="the model that learns")
    parser.add_argument("--beside", default="commons-mistral-4m", help="the model that it meets in the arena")
    parser.add_argument("--prompts", type=int, default=200, help="prompts that are voted on first")
    parser.add_argument("--held-out", type=int, default=120, help="prompts of the verdict")
    parser.add_argument("--tokens", type=int, default=48, help="of an answer, at most")
    parser.add_argument("--voters", type=int, default=40)
    parser.add_argument("--lora", type=int)
    parser.add_argument("--beta", type=float)
    parser.add_argument("--passes", type=float)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    if given.out.exists():
        raise SystemExit(f"{given.out} is there already; give --out another folder, or take that one away.")
    begun = time.perf_counter()
    own, other = parse(given.model), parse(given.beside)
    path, beside = here(own), here(other)
    asked, unseen = prompts(given.prompts, given.held_out, given.seed)
    writer = Answers(given)
    both = writer.of(own.name, path, [*asked, *unseen], own.precision)
    first, before = both[: len(asked)], both[len(asked) :]
    answered = {own.name: first, other.name: writer.of(other.name, beside, asked, other.precision)}
    origin = Origin(own.name, path, content_hash(path))
    same = {"origin": origin, "answered": answered, "asked": asked, "unseen": unseen, "before": before}
    said = {which: arm(given, which, writer=writer, **same) for which in (PREFERENCES, CHANCE)}
    right = {PREFERENCES: said[PREFERENCES].better, CHANCE: not said[CHANCE].better and not said[CHANCE].worse}
    for which, title in ((PREFERENCES, "People who like sentences of eight words"), (CHANCE, "People who toss coins")):
        print(f"{title}: {said[which].sentence()}{'' if right[which] else ' That is wrong.'}")
    minutes = (time.perf_counter() - begun) / 60
    print(f"Both verdicts are right, after {minutes:.1f} minutes." if all(right.values()) else "A verdict is wrong.")
    return 0 if all(right.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
