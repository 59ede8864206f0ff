"""Log-probabilities as OpenAI's API has them: one form for chats, another one for completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairground.errors import CapabilityError
from fairground.types import Generator, TokenEvent, TokenLevel, TokenScore


def token_level(model: Generator) -> TokenLevel:
    """The model as one that tells its tokens. Raises CapabilityError where it does not."""
    if not isinstance(model, TokenLevel):
        raise CapabilityError(
            f"{model.info.name} does not tell its tokens, so it has no log-probabilities, echo or token ids to give; "
            "ask for text alone."
        )
    return model


def scored(event: TokenEvent) -> TokenScore | None:
    """What a written token says of itself; None where it was not asked for, or for text that was only held back."""
    return None if event.logprob is None else TokenScore(event.token, event.logprob, event.alternatives)


def of_chat(model: TokenLevel, scores: Sequence[TokenScore]) -> dict[str, Any]:
    """A chat choice's `logprobs`."""

    def one(token: int, logprob: float | None) -> dict[str, Any]:
        text = model.spell([token])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    content = [
        {**one(score.token, score.logprob), "top_logprobs": [one(*beside) for beside in score.alternatives]}
        for score in scores
    ]
    return {"content": content, "refusal": None}


def of_text(model: TokenLevel, scores: Sequence[TokenScore], offset: int = 0) -> dict[str, Any]:
    """A completion choice's `logprobs`; `offset` is where its text begins.

    `top_logprobs` holds the token itself too, as OpenAI's does. Of tokens that are spelt alike the likelier one stays.
    """
    spelt = [model.spell([score.token]) for score in scores]
    tops: list[dict[str, float] | None] = []
    offsets = []
    for text, score in zip(spelt, scores, strict=True):
        offsets.append(offset)
        offset += len(text)
        if score.logprob is None:
            tops.append(None)
            continue
        top: dict[str, float] = {}
        for token, logprob in (*score.alternatives, (score.token, score.logprob)):
            top.setdefault(model.spell([token]), logprob)
        tops.append(top)
    return {
        "tokens": spelt,
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": tops,
        "text_offset": offsets,
    }
