"""Response time: one request at a time, of a stated length, in the terms of vLLM's serving benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fairground.errors import RequestError
from fairground.evaluation.suite import ProbeSettings
from fairground.types import Generator, Request, Sampling

TEXT = (
    "The town lies where two rivers meet.",
    "A stone bridge from an earlier century joins its two halves, and a market is held beside it on Saturdays.",
    "Farmers bring apples, cheese and honey, and a baker sells dark bread from the back of a cart.",
    "In spring the water rises to the lowest step of the quay, and children measure it with a painted stick.",
    "The library stands on the hill behind the school.",
    "It keeps old maps of the valley, letters from sailors and a clock that nobody has wound for years.",
    "Visitors usually arrive by the morning train and walk along the canal to the mill.",
    "The miller shows them how the wheel turns, how the grain is cleaned and where the flour is weighed.",
    "In the evening the lamps on the square are lit one after another.",
    "Most shops close at six, but the pharmacy and the post office stay open a little longer.",
    "Snow seldom falls before December, and when it does, the road over the pass is closed to heavy carts.",
    "People then take the ferry, which leaves from the north bank every hour until nine.",
)
"""Neutral text, written for this probe."""


@dataclass(frozen=True, slots=True)
class ResponseTimes:
    """One value a repeat. `prompt_tokens` and `output_tokens` are what the model really read and wrote."""

    ttft_ms: tuple[float, ...]
    tokens_per_s: tuple[float, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]


def prompt(count_tokens: Callable[[str], int], tokens: int, start: int = 0) -> str:
    """The shortest run of the text's words, from its sentence `start` on, that is at least `tokens` tokens long.

    Raises RequestError where no length reaches it, as with a tokenizer that counts nothing.
    """
    words = [word for i in range(len(TEXT)) for word in TEXT[(start + i) % len(TEXT)].split()]

    def text(length: int) -> str:
        return " ".join(words[i % len(words)] for i in range(length))

    low, high = 0, tokens
    while count_tokens(text(high)) < tokens:
        low, high = high, 2 * high
        if high > 64 * tokens:
            raise RequestError(f"The probe cannot reach {tokens} tokens, since the model counts too few in any text.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_tokens(text(middle)) < tokens else (low, middle)
    return text(high)


def measure(generator: Generator, settings: ProbeSettings, on_done: Callable[[int], None]) -> ResponseTimes:
    """Times `repeats` requests after `warmup` unmeasured ones, at concurrency 1; calls `on_done(1)` after each.

    Every request begins at another sentence, so that a cache of prompt prefixes cannot answer for the model.
    Raises RequestError where the model's context is too short, or where an answer has fewer than two timed tokens.
    """
    needed = settings.prompt_tokens + settings.output_tokens
    limit = generator.info.can.context_length
    if limit is not None and limit < needed:
        raise RequestError(f"The probe needs a context of {needed} tokens, but the model has {limit}; it is left out.")
    sampling = Sampling(temperature=0.0, max_tokens=settings.output_tokens, ignore_eos=True)
    prompts = [
        prompt(generator.count_tokens, settings.prompt_tokens, start)
        for start in range(settings.warmup + settings.repeats)
    ]
    ttft_ms: list[float] = []
    tokens_per_s: list[float] = []
    lengths: list[tuple[int, int]] = []
    for number, text in enumerate(prompts):
        completion = generator.submit(Request(text, sampling)).completion()
        on_done(1)
        if number < settings.warmup:
            continue
        first, each = completion.timing.time_to_first_token, completion.timing.time_per_output_token
        if not (math.isfinite(first) and math.isfinite(each) and each > 0):
            raise RequestError(
                f"The probe asked for {settings.output_tokens} tokens, but {len(completion.timing.tokens)} came with "
                "times that tell them apart, so there is no speed to report."
            )
        ttft_ms.append(1000 * first)
        tokens_per_s.append(1 / each)
        lengths.append((completion.prompt_tokens, len(completion.timing.tokens)))
    prompt_tokens, output_tokens = zip(*lengths, strict=True)
    return ResponseTimes(tuple(ttft_ms), tuple(tokens_per_s), prompt_tokens, output_tokens)
