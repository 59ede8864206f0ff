"""The bodies of answers, as OpenAI's API has them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fairground.serving.refusals import refusal
from fairground.serving.running import Event
from fairground.types import Completion


@dataclass(frozen=True, slots=True)
class Form:
    """How one request's answer is written: as a chat or as a text, under one id and time."""

    model: str
    chat: bool
    created: int = field(default_factory=lambda: int(time.time()))
    number: str = field(default_factory=lambda: uuid.uuid4().hex)

    def _body(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        head = {"id": f"{prefix}-{self.number}", "object": kind, "created": self.created, "model": self.model}
        return {**head, "choices": choices, **more}

    def whole(self, completions: Sequence[Completion], prompts: int) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        choices = [self._choice(number, done) for number, done in enumerate(completions)]
        kind = "chat.completion" if self.chat else "text_completion"
        return self._body(kind, choices, usage=usage(completions, prompts))

    def _choice(self, number: int, done: Completion) -> dict[str, Any]:
        end = {"index": number, "finish_reason": done.finish_reason, "logprobs": None}
        if self.chat:
            return {**end, "message": {"role": "assistant", "content": done.text, "refusal": None}}
        return {**end, "text": done.text}

    def chunk(self, number: int, text: str, finish_reason: str | None = None, *, first: bool = False) -> dict[str, Any]:
        """A piece of one choice."""
        choice: dict[str, Any] = {"index": number, "finish_reason": finish_reason, "logprobs": None}
        if self.chat:
            delta = {"role": "assistant", "content": ""} if first else {"content": text} if text else {}
            return self._body("chat.completion.chunk", [{**choice, "delta": delta}])
        return self._body("text_completion", [{**choice, "text": text}])

    async def stream(
        self, events: AsyncIterator[tuple[int, Event]], count: int, prompts: int, *, with_usage: bool
    ) -> AsyncIterator[str]:
        """Server-sent events: the pieces of all choices, the usage if wanted, and [DONE]; or an error in between."""
        completions: list[Completion] = []
        written = [""] * count
        async with aclosing(events):  # type: ignore[type-var]
            try:
                for number in range(count) if self.chat else ():
                    yield event(self.chunk(number, "", first=True))
                async for number, one in events:
                    if isinstance(one, Completion):
                        completions.append(one)
                        yield event(self.chunk(number, one.text[len(written[number]) :], one.finish_reason))
                    elif one.text:
                        written[number] += one.text
                        yield event(self.chunk(number, one.text))
                if with_usage:
                    kind = "chat.completion.chunk" if self.chat else "text_completion"
                    yield event(self._body(kind, [], usage=usage(completions, prompts)))
            except Exception as error:
                yield event(refusal(error).body())
            yield "data: [DONE]\n\n"


def event(body: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def usage(completions: Sequence[Completion], prompts: int) -> dict[str, int]:
    """Tokens: a prompt counts once, however many choices it has."""
    choices = max(1, len(completions) // max(1, prompts))
    asked = sum(done.prompt_tokens for done in completions) // choices
    written = sum(len(done.tokens) for done in completions)
    return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}
