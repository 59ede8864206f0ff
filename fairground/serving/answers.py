"""The bodies of answers, as OpenAI's API has them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fairground.serving.logprobs import Offsets, of_chat, of_text, scored, token_level
from fairground.serving.refusals import log_unexpected, refusal
from fairground.serving.running import Event, Written
from fairground.types import Completion, Generator, TokenScore


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt that is given back before what was written: its text, its tokens, and their scores where wanted."""

    text: str
    tokens: Sequence[int]
    scores: Sequence[TokenScore]


@dataclass(frozen=True, slots=True)
class Form:
    """How one request's answer is written: as a chat or as a text, under one id and time."""

    name: str
    model: Generator
    chat: bool
    logprobs: bool
    created: int = field(default_factory=lambda: int(time.time()))
    number: str = field(default_factory=lambda: uuid.uuid4().hex)

    def _body(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        head = {"id": f"{prefix}-{self.number}", "object": kind, "created": self.created}
        return {**head, "model": self.name, "choices": choices, **more}

    def _logprobs(self, scores: Sequence[TokenScore], offsets: Offsets | None = None) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        model = token_level(self.model)
        return of_chat(model, scores) if self.chat else of_text(model, scores, offsets or Offsets(model))

    def whole(self, answers: Sequence[Written], prompts: int) -> dict[str, Any]:
        """The body of an answer that is not streamed; `prompts` is how many were asked."""
        choices = []
        for number, (done, scores) in enumerate((answer.completion, answer.scores) for answer in answers):
            end = {"index": number, "finish_reason": done.finish_reason, "logprobs": self._logprobs(scores)}
            message = {"role": "assistant", "content": done.text, "refusal": None}
            choices.append({**end, "message": message} if self.chat else {**end, "text": done.text})
        kind = "chat.completion" if self.chat else "text_completion"
        return self._body(kind, choices, usage=usage([answer.completion for answer in answers], prompts))

    def echoed(self, echoes: Sequence[Echo], answers: Sequence[Written], each: int) -> dict[str, Any]:
        """The same with every prompt before its `each` choices; without `answers`, the prompts alone."""
        choices = []
        for number in range(len(echoes) * each):
            echo = echoes[number // each]
            done = answers[number] if answers else None
            choice: dict[str, Any] = {
                "index": number,
                "text": echo.text + (done.completion.text if done else ""),
                "finish_reason": done.completion.finish_reason if done else "length",
                "logprobs": self._logprobs([*echo.scores, *(done.scores if done else ())]),
            }
            choices.append(choice)
        asked = sum(len(echo.tokens) for echo in echoes)
        written = sum(len(answer.completion.tokens) for answer in answers)
        return self._body("text_completion", choices, usage=_usage(asked, written))

    def chunk(
        self,
        number: int,
        text: str,
        finish_reason: str | None = None,
        *,
        score: TokenScore | None = None,
        offsets: Offsets | None = None,
        first: bool = False,
    ) -> dict[str, Any]:
        """A piece of one choice."""
        logprobs = None if score is None else self._logprobs([score], offsets)
        choice: dict[str, Any] = {"index": number, "finish_reason": finish_reason, "logprobs": logprobs}
        if self.chat:
            delta = {"role": "assistant", "content": ""} if first else {"content": text} if text or score else {}
            return self._body("chat.completion.chunk", [{**choice, "delta": delta}])
        return self._body("text_completion", [{**choice, "text": text}])

    async def stream(
        self, events: AsyncIterator[tuple[int, Event]], count: int, prompts: int, *, with_usage: bool
    ) -> AsyncIterator[str]:
        """Server-sent events: the pieces of all choices, the usage if wanted, and [DONE]; or an error in between."""
        completions: list[Completion] = []
        written = [0] * count
        offsets = [Offsets(token_level(self.model)) if self.logprobs else None for _ in range(count)]
        async with aclosing(events):  # type: ignore[type-var]
            try:
                for number in range(count) if self.chat else ():
                    yield event(self.chunk(number, "", first=True))
                async for number, one in events:
                    if isinstance(one, Completion):
                        completions.append(one)
                        yield event(self.chunk(number, one.text[written[number] :], one.finish_reason))
                        continue
                    score = scored(one) if self.logprobs else None
                    if one.text or score:
                        yield event(self.chunk(number, one.text, score=score, offsets=offsets[number]))
                        written[number] += len(one.text)
                if with_usage:
                    kind = "chat.completion.chunk" if self.chat else "text_completion"
                    yield event(self._body(kind, [], usage=usage(completions, prompts)))
            except Exception as error:
                log_unexpected(error)
                yield event(refusal(error).body())
            yield "data: [DONE]\n\n"


def event(body: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def usage(completions: Sequence[Completion], prompts: int) -> dict[str, Any]:
    """Tokens: a prompt counts once, however many choices it has."""
    choices = max(1, len(completions) // max(1, prompts))
    asked = sum(done.prompt_tokens for done in completions) // choices
    cached = sum(done.cached_tokens for done in completions) // choices
    return _usage(asked, sum(len(done.tokens) for done in completions), cached)


def _usage(asked: int, written: int, cached: int = 0) -> dict[str, Any]:
    whole = {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}
    return {**whole, "prompt_tokens_details": {"cached_tokens": cached}}
