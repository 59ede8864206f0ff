"""Log-probabilities as OpenAI's API has them: one form for chats, another one for completions."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from fairground.errors import CapabilityError
from fairground.types import Generator, TokenEvent, TokenLevel, TokenScore


def token_level(model: Generator) -> TokenLevel:
    """The model as one that tells its tokens. Raises CapabilityError where it does not."""
    if not isinstance(model, TokenLevel):
        raise CapabilityError(
            f"{model.info.name} does not tell its tokens, so it has no log-probabilities, biases, echo or token ids; "
            "ask for text alone."
        )
    return model


def scored(event: TokenEvent) -> TokenScore | None:
    """What a written token says of itself; None where it was not asked for, or for text that was only held back."""
    return None if event.logprob is None else TokenScore(event.token, event.logprob, event.alternatives)


def spelt(model: TokenLevel, token: int) -> str:
    """A token's name: its text, or as OpenAI writes a part of a character, its bytes; a special token's own name."""
    raw = model.token_bytes(token)
    if not raw:
        return model.spell([token])
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class Offsets:
    """Where each token begins in the text that they make together, in characters."""

    def __init__(self, model: TokenLevel) -> None:
        self._model = model
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at = 0

    def next(self, token: int) -> int:
        """The offset of the next token."""
        begun = self._at
        self._at += len(self._decoder.decode(self._model.token_bytes(token)))
        return begun


def of_chat(model: TokenLevel, scores: Sequence[TokenScore]) -> dict[str, Any]:
    """A chat choice's `logprobs`."""

    def one(token: int, logprob: float | None) -> dict[str, Any]:
        return {"token": spelt(model, token), "logprob": logprob, "bytes": list(model.token_bytes(token))}

    content = [
        {**one(score.token, score.logprob), "top_logprobs": [one(*beside) for beside in score.alternatives]}
        for score in scores
    ]
    return {"content": content, "refusal": None}


def of_text(model: TokenLevel, scores: Sequence[TokenScore], offsets: Offsets) -> dict[str, Any]:
    """A completion choice's `logprobs`; `offsets` knows what came before.

    `top_logprobs` holds the token itself too, as OpenAI's does. Of tokens that are spelt alike the likelier one stays.
    """
    tops: list[dict[str, float] | None] = []
    for score in scores:
        if score.logprob is None:
            tops.append(None)
            continue
        top: dict[str, float] = {}
        for token, logprob in (*score.alternatives, (score.token, score.logprob)):
            top.setdefault(spelt(model, token), logprob)
        tops.append(top)
    return {
        "tokens": [spelt(model, score.token) for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": tops,
        "text_offset": [offsets.next(score.token) for score in scores],
    }
