"""Log-likelihoods from a prompt that /completions echoes with its tokens' log-probabilities.

As lm-evaluation-harness's `local-completions` does it (lm_eval/models/openai_completions.py: echo, one token written
and left out), but without a tokenizer here, so the place where the continuation begins is found in the echo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fairground.errors import RequestError
from fairground.types import Score


class UnreadableError(Exception):
    """The echo does not have what a score needs."""


@dataclass(frozen=True, slots=True)
class Echo:
    """The prompt's tokens. A first token that the server put before the text has the logprob None."""

    tokens: tuple[str, ...]
    logprobs: tuple[float | None, ...]
    best: tuple[float | None, ...]  # the likeliest token's, at each place
    offsets: tuple[int, ...]  # in characters; one more than tokens where the server wrote on


def request(model: str, prompt: str) -> dict[str, Any]:
    """The body that asks for an echo. One token is written because some servers refuse to write none."""
    return {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}


def read(answer: Any) -> Echo:
    """Reads the answer. Raises UnreadableError."""
    try:
        found = answer["choices"][0]["logprobs"]
        tokens, logprobs, tops = found["tokens"], found["token_logprobs"], found["top_logprobs"]
        offsets = found.get("text_offset") or []
        usage = answer.get("usage") or {}
        count = usage.get("prompt_tokens", len(tokens) - 1)
        if not (len(tokens) == len(logprobs) == len(tops) and isinstance(count, int) and 0 < count <= len(tokens)):
            raise UnreadableError("it has not one log-probability for each token of the prompt")
        best = [max(map(float, top.values())) if top else None for top in tops]
        values = [None if value is None else float(value) for value in logprobs]
    except (TypeError, KeyError, IndexError, AttributeError, ValueError):
        raise UnreadableError("it has no log-probabilities of the prompt") from None
    if not all(isinstance(token, str) for token in tokens) or not all(isinstance(offset, int) for offset in offsets):
        raise UnreadableError("its tokens are not text")
    return Echo(tuple(tokens[:count]), tuple(values[:count]), tuple(best[:count]), tuple(offsets[: count + 1]))


def begins_with_its_own(echo: Echo, prompt: str) -> bool:
    """Whether the server put a token of its own before the prompt."""
    return echo.logprobs[0] is None and "".join(echo.tokens[1:]) == prompt


def score(echo: Echo, context: str, continuation: str) -> Score:
    """The continuation's score. Raises UnreadableError, and RequestError where no token is the continuation's own."""
    first = _first(echo, context, continuation)
    logprobs, best = echo.logprobs[first:], echo.best[first:]
    if not logprobs:
        raise RequestError(
            "The continuation has no token of its own, since its characters are part of the context's last token; give "
            "it at least one more character."
        )
    total, greedy = 0.0, True
    for value, top in zip(logprobs, best, strict=True):
        if value is None or top is None or math.isnan(value):
            raise UnreadableError("a token of the continuation has no log-probability")
        total += value
        greedy = greedy and value >= top
    return Score(total, greedy, len(logprobs))


def _first(echo: Echo, context: str, continuation: str) -> int:
    """The index of the continuation's first token.

    Found by the tokens' own text where the last of them make up the continuation exactly, because offsets are shifted
    on some servers by a token that begins the text. Else by offset: the first token that begins at or after the
    context's end. One that straddles it counts as context, as it does where context and whole are tokenized apart.
    """
    first, length = len(echo.tokens), 0
    while first > 0 and length < len(continuation):
        first -= 1
        length += len(echo.tokens[first])
    if "".join(echo.tokens[first:]) == continuation:
        # Tokens that are a part of a character only can have no text; those here begin the continuation's first one.
        while first > 1 and echo.tokens[first - 1] == "":
            first -= 1
        return first
    count, offsets = len(echo.tokens), echo.offsets
    if len(offsets) < count:
        raise UnreadableError("its tokens do not make up the text, and it says not where each begins")
    end = offsets[count] if len(offsets) > count else offsets[-1] + len(echo.tokens[-1])
    shift = end - len(context) - len(continuation)
    # A token of the server's own, whether it has a width in its offsets or none: the text begins with the next.
    own = echo.logprobs[0] is None and count > 1 and shift == offsets[1]
    if shift != 0 and not own:
        raise UnreadableError("its tokens do not make up the text")
    return next((i for i in range(int(own), count) if offsets[i] - shift >= len(context)), count)
