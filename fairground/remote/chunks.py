"""What a server streams: server-sent events, and the chunks of an answer in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fairground.errors import BrokenAnswer
from fairground.remote.transport import MOST_BYTES, Server

DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one server-sent event says."""

    text: str = ""
    reasoning: bool = False  # the model wrote something that is not part of the answer
    logprobs: tuple[tuple[float, tuple[float, ...]], ...] = ()  # of each token: its own, and those of alternatives
    finish: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    hidden_tokens: int = 0  # of output_tokens, those that reasoned unseen


def server_sent(received: Iterable[bytes], server: Server) -> Iterator[bytes]:
    """The data of each event. OpenAI's servers send each in one line, so every `data:` line is one."""
    held = bytearray()
    for part in received:
        held += part
        *lines, rest = held.split(b"\n")
        held = bytearray(rest)
        if len(held) > MOST_BYTES:
            raise server.nonsense()
        yield from (line[5:].strip() for line in map(bytes, lines) if line.startswith(b"data:"))
    if held.startswith(b"data:"):
        yield bytes(held[5:].strip())


def parse(data: bytes, server: Server) -> Chunk:
    """Reads a chunk of either endpoint. Raises BrokenAnswer for what is none, and for an error put into the stream."""
    try:
        said = json.loads(data)
        if not isinstance(said, dict):
            raise TypeError
        if (error := said.get("error")) is not None:
            message = error.get("message") if isinstance(error, dict) else error
            raise BrokenAnswer(
                f"{server.address.host} broke off its answer with an error ({server.quote(str(message))}); try again."
            )
        return _chunk(said)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise BrokenAnswer(
            f"{server.address.host} streamed something that is not a chunk of an answer; check that the address is "
            "that of an OpenAI-compatible server."
        ) from None


def _chunk(said: dict[str, Any]) -> Chunk:
    usage = said.get("usage") or {}
    hidden = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    counts = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(hidden) or 0
    if not said["choices"]:
        return Chunk("", False, (), None, *counts)
    choice = said["choices"][0]
    finish = choice.get("finish_reason")
    delta = choice.get("delta")
    if delta is None:
        text, reasoning = choice.get("text") or "", False
    else:
        text = delta.get("content") or ""
        reasoning = bool(delta.get("reasoning_content") or delta.get("reasoning"))
    if not isinstance(text, str) or not isinstance(finish, str | None):
        raise TypeError
    return Chunk(text, reasoning, tuple(_logprobs(choice.get("logprobs") or {})), finish, *counts)


def _logprobs(found: dict[str, Any]) -> Iterator[tuple[float, tuple[float, ...]]]:
    """Of each token in a chunk, its log-probability and its alternatives', as chat and as completions give them."""
    for token in found.get("content") or ():
        yield _number(token["logprob"]), tuple(_number(other["logprob"]) for other in token.get("top_logprobs") or ())
    tops = found.get("top_logprobs") or ()
    for place, value in enumerate(found.get("token_logprobs") or ()):
        top = tops[place] if place < len(tops) else None
        yield _number(value), tuple(sorted(map(_number, (top or {}).values()), reverse=True))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise TypeError
    return float(value)


def _count(value: Any) -> int | None:
    """A number of tokens; one that is absurd is as good as none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 24 else None
