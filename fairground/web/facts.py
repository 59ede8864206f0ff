"""What is said of an answer: how long it took, how much it is, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairground.arena.categories import categories, language
from fairground.arena.style import difference, features
from fairground.loop.ledger import Ledger
from fairground.web.board_rows import seconds
from fairground.web.talks import Answer, Talk, Turn

REASONS = {
    "more-correct": "More correct",
    "more-helpful": "More helpful",
    "clearer": "Clearer",
    "better-style": "Better style",
    "follows-instructions": "Follows instructions",
    "more-creative": "More creative",
    "right-length": "Right length",
    "safer": "Safer",
}


def in_words(winner: str, model_a: str, model_b: str) -> str:
    """A vote, as it is said of two models by name."""
    return {"model_a": f"{model_a} is better", "model_b": f"{model_b} is better", "tie": "a tie"}.get(
        winner, "both are bad"
    )


def size(parameters: int | None) -> str:
    """A number of parameters for people."""
    if parameters is None:
        return "not known"
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f} billion parameters"
    if not parameters:
        return "no parameters"
    return f"{parameters / 1e6:.{1 if parameters < 9.95e6 else 0}f} million parameters"


def line(answer: Answer, *, blind: bool) -> str:
    """What stands under an answer. Before a blind vote nothing that would tell the models apart by their speed."""
    cut = {"length": "cut at the limit of tokens", "cancelled": "stopped", "failed": "not whole"}.get(answer.finish, "")
    if blind:
        return cut
    said = [cut]
    if answer.tokens:
        said = [f"first token after {seconds(answer.first_token_s)}", f"{answer.tokens} tokens", cut]
        if answer.tokens_per_s is not None:
            said.insert(2, f"{answer.tokens_per_s:,.0f} tokens/s")
    return " · ".join(part for part in said if part)


def of_model(talk: Talk, side: int) -> Mapping[str, str]:
    """One model's part in a conversation, over all turns."""
    answers = [turn.answers[side] for turn in talk.turns]
    tokens, last = sum(answer.tokens for answer in answers), answers[-1]
    speed = "–" if last.tokens_per_s is None else f"{last.tokens_per_s:,.1f}"
    return {
        "First token": seconds(last.first_token_s),
        "Whole answer": seconds(last.seconds),
        "Tokens": f"{tokens:,}",
        "Tokens per second": speed,
    }


def energy(turns: list[Turn]) -> str:
    """The energy of two models' answers, as far as it is known, in sentences.

    Both are written at the same time, by the same processor, often by the same process: no counter tells their parts
    apart, and a division by time or tokens would put down to one what the other took.
    """
    known = [turn.energy for turn in turns if turn.energy is not None]
    if len(known) < len(turns):
        return f"Energy: {next(turn.why for turn in turns if turn.energy is None)}."
    joules = sum(one.joules for one in known)
    mark = "~" if any(one.estimate for one in known) else ""
    return (
        f"Energy of both models together: {mark}{joules:,.1f} J ({known[0].source}). They wrote at the same time, so "
        "the part of each cannot be told; fairground rank measures each alone."
    )


def for_the_log(ledger: Ledger, talk: Talk) -> dict[str, Any]:
    """What the log may know of a conversation: numbers and tags."""
    prompts = [turn.prompt for turn in talk.turns]
    a, b = (features("\n\n".join(turn.answers[side].text for turn in talk.turns)) for side in (0, 1))
    tags = set(categories(prompts)) | ({"regenerated"} if talk.regenerated else set())
    sides = dict(zip("ab", zip(*(turn.answers for turn in talk.turns), strict=True), strict=True))
    return {
        "style": list(difference(a, b)),
        "tags": sorted(tags),
        "language": language("\n".join(prompts)),
        "prompt": ledger.prompt_hash(prompts[0]),
        "turns": len(prompts),
        "tokens": {side: sum(answer.tokens for answer in answers) for side, answers in sides.items()},
        "times": {
            side: {"first": answers[-1].first_token_s, "whole": answers[-1].seconds} for side, answers in sides.items()
        },
    }
