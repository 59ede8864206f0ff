"""Whether a model that learned from votes agrees with votes it never saw.

What it came to prefer is the implicit reward of direct preference optimisation (Rafailov et al., 2023, section 4): the
log-probability of an answer less the one that the model it came from gives it. It agrees with a vote where the chosen
answer has the greater one. The model it came from has the same reward for every answer, so it agrees with half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from fairground.errors import RequestError, TemplateError
from fairground.evaluation.journal import NoJournal
from fairground.evaluation.judges import ask, on_pairs
from fairground.evaluation.votes import JudgedPair
from fairground.loop.facts import prompt_hash
from fairground.loop.preferences import GROUP
from fairground.types import Generator, Message, Request, Sampling, TokenScore

AT_A_TIME = 16  # answers that are scored together
POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}

Results = list[tuple[float, str]]


class Reader(Protocol):
    """What is needed of a local model to score an answer as it would have written it."""

    def prompt_tokens(self, request: Request) -> list[int]: ...
    def encode(self, text: str, *, special: bool = True) -> list[int]: ...
    def spell(self, tokens: Sequence[int]) -> str: ...
    def tokenizer_info(self) -> Mapping[str, str | int | None]: ...
    def score_tokens(self, prompts: Sequence[Sequence[int]]) -> list[list[TokenScore]]: ...


def answer_logprobs(
    reader: Reader,
    rows: Sequence[Mapping[str, Any]],
    progress: Callable[[int], None] = lambda answers: None,
) -> list[tuple[float, float]]:
    """For each pair the log-probabilities of the chosen and of the rejected answer, with their ends, in nats.

    `rows`: pairs as `preferences.read_pairs` gives them. Raises RequestError for one that is longer than the context.
    """
    lead, end = answer_lead(reader), str(reader.tokenizer_info().get("eos_token") or "")
    asked: list[tuple[list[int], int]] = []
    for row in rows:
        prompt = reader.prompt_tokens(Request(messages(row["prompt"])))
        for side in ("chosen", "rejected"):
            answer = reader.encode(lead + row[side][-1]["content"] + end, special=False)
            asked.append(([*prompt, *answer], len(prompt)))
    found: list[float] = []
    for start in range(0, len(asked), AT_A_TIME):
        part = asked[start : start + AT_A_TIME]
        scored = reader.score_tokens([tokens for tokens, _ in part])
        for (_, before), scores in zip(part, scored, strict=True):
            found.append(sum(score.logprob or 0.0 for score in scores[before:]))
        progress(len(part))
    return list(zip(found[::2], found[1::2], strict=True))


def answer_lead(reader: Reader) -> str:
    """The white space that the model's chat template puts between its prompt and an answer, which it learned with."""
    asked, answer = Message("user", "a"), "zebra"
    before = reader.prompt_tokens(Request((asked,)))
    try:
        after = reader.prompt_tokens(Request((asked, Message("assistant", answer))))
    except (RequestError, TemplateError):  # a template may want a question at the end
        return ""
    shared = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    lead = reader.spell(after[shared:]).partition(answer)[0]
    return lead[len(lead.rstrip()) :]


def agreement(
    rows: Sequence[Mapping[str, Any]],
    after: Sequence[tuple[float, float]],
    before: Sequence[tuple[float, float]],
) -> Results:
    """For `verdict`: 1 where the model's implicit reward is greater for the chosen answer, 0 where less, by prompt."""
    found: Results = []
    for row, (chosen, rejected), (chosen_0, rejected_0) in zip(rows, after, before, strict=True):
        margin = (chosen - chosen_0) - (rejected - rejected_0)
        found.append((1.0 if margin > 0 else 0.0 if margin < 0 else 0.5, _group(row)))
    return found


def written(
    generator: Generator,
    prompts: Sequence[tuple[Message, ...]],
    sampling: Sampling,
    progress: Callable[[int], None] = lambda answers: None,
) -> list[str]:
    """The model's answer to each prompt; each has its own seed, which is its place."""
    streams = [
        generator.submit(Request(prompt, replace(sampling, seed=sampling.seed + place)))
        for place, prompt in enumerate(prompts)
    ]
    answers = []
    for stream in streams:
        answers.append(stream.completion().text)
        progress(1)
    return answers


def judged(
    judge: Generator,
    prompts: Sequence[tuple[Message, ...]],
    new: Sequence[str],
    old: Sequence[str],
    progress: Callable[[int], None] = lambda verdicts: None,
) -> Results:
    """For `verdict`: what a judge says of the two models' answers, asked in both orders; what it did not say is left
    out. Raises CapabilityError for a judge that can neither score nor write."""
    pairs = [
        JudgedPair(str(place), prompt[-1].content, a, b, ())
        for place, (prompt, a, b) in enumerate(zip(prompts, new, old, strict=True))
    ]
    heard = ask(
        judge, [one for pair in pairs for one in pair.asked()],
        way=None, journal=NoJournal(), identity=judge.info.name, on_done=lambda _: progress,
    )  # fmt: skip
    said = on_pairs(pairs, heard)
    return [(POINTS[winner], id_) for id_, winner in said.items() if winner is not None]


def messages(turns: Sequence[Mapping[str, str]]) -> tuple[Message, ...]:
    """A conversation in JSON as values."""
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)  # type: ignore[arg-type]


def _group(row: Mapping[str, Any]) -> str:
    return prompt_hash(GROUP, row["prompt"][-1]["content"])
