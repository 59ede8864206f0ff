"""What a client may ask, in the words of OpenAI's API. A field that is not here is refused by its name.

`top_k`, `min_p`, `repetition_penalty` and `ignore_eos` are vLLM's additions. Fields that change nothing here (who the
user is, how it is billed) are taken and not looked at.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, field_validator

from fairground.errors import RequestError
from fairground.types import Message, Request, Sampling, Structure

Role = Literal["system", "developer", "user", "assistant"]
T = TypeVar("T")


class First(FailFast):
    """The first wrong element is told of, and no other looked at, since a body can hold a million; fit for a union."""

    __hash__ = object.__hash__


Few = Annotated[list[T], First()]
Stop = str | Few[str] | None
MOST_CHOICES = 1024  # that are made at all, before a server looks at its own limit
Finite = Annotated[float, Field(allow_inf_nan=False)]
DEFAULT_MAX_TOKENS = 16  # of /v1/completions, as OpenAI has it
CHAT_MAX_TOKENS = 1024  # where a chat does not say


class Strict(BaseModel):
    """Refuses what it does not know."""

    model_config = ConfigDict(extra="forbid")


class StreamOptions(Strict):
    include_usage: bool = False


class TextPart(Strict):
    type: Literal["text"]
    text: str


class ChatMessage(Strict):
    role: Role
    content: str | Few[TextPart]
    name: str | None = None
    # What an answer of ours holds beside its content comes back in the next turn.
    refusal: None = None
    annotations: Any = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text_alone(cls, content: Any) -> Any:
        """Names what is not text, in place of all that it could have been."""
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind != "text":
                raise ValueError(f"only parts of type text are read here, not {kind!r}")
        return content

    def message(self) -> Message:
        """As the house has it: "developer" is what OpenAI now calls the system."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, content)


class JSONSchema(Strict):
    name: str
    # "schema" is a method of every model of pydantic's.
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | None = None

    def structure(self) -> Structure | None:
        """Raises RequestError for a json_schema without a schema, and for a schema with another type."""
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise RequestError("response_format has json_schema where its type is json_schema, and only there.")
        if self.json_schema is not None:
            return Structure("json", json.dumps(self.json_schema.schema_), "response_format")
        return Structure("json", '{"type": "object"}', "response_format") if self.type == "json_object" else None


class StructuredOutputs(Strict):
    """vLLM's addition."""

    json_: Annotated[dict[str, Any] | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Few[str] | None = None

    def structure(self) -> Structure:
        """Raises RequestError unless it is exactly one."""
        kinds: dict[Literal["json", "regex", "choice"], str | None] = {
            "json": json.dumps(self.json_) if self.json_ is not None else None,
            "regex": self.regex,
            "choice": json.dumps(self.choice) if self.choice else None,
        }
        structures = [Structure(kind, text, "structured_outputs") for kind, text in kinds.items() if text is not None]
        if len(structures) != 1:
            raise RequestError("structured_outputs must have one of json, regex and choice; give exactly one.")
        return structures[0]


class Common(Strict):
    """What both endpoints take."""

    model: str
    temperature: Finite | None = None
    top_p: Finite | None = None
    n: int | None = None
    seed: int | None = None
    stop: Stop = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    top_k: int | None = None
    min_p: Finite | None = None
    repetition_penalty: Finite | None = None
    ignore_eos: bool | None = None
    logit_bias: dict[int, Finite] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    user: Any = None
    metadata: Any = None
    store: Literal[False] | None = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None

    def sampling(self, max_tokens: int | None, otherwise: int, logprobs: int | None) -> Sampling:
        """Raises RequestError for a value outside its range. OpenAI's default temperature is 1."""
        given = {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "ignore_eos": self.ignore_eos,
            "max_tokens": otherwise if max_tokens is None else max_tokens,
            "stop": (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            "logprobs": logprobs,
            "logit_bias": tuple((self.logit_bias or {}).items()),
            "structure": self._structure(),
            "seed": secrets.randbits(31) if self.seed is None else self.seed,
        }
        return Sampling(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def _structure(self) -> Structure | None:
        structure = self.response_format.structure() if self.response_format else None
        if self.structured_outputs is None:
            return structure
        if structure is not None:
            raise RequestError("structured_outputs and response_format cannot both be kept to; give one.")
        return self.structured_outputs.structure()

    @property
    def usage_wanted(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(Common):
    messages: Few[ChatMessage]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def requests(self) -> list[Request]:
        """One for every choice. Raises RequestError for no message or a value outside its range."""
        if not self.messages:
            raise RequestError("messages is empty; give at least one message.")
        most = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError("top_logprobs is given without logprobs; set logprobs to true, or leave it out.")
        wanted = (self.top_logprobs or 0) if self.logprobs else None
        sampling = self.sampling(most, CHAT_MAX_TOKENS, wanted)
        return choices([Request(tuple(turn.message() for turn in self.messages), sampling)], self.n)


class CompletionRequest(Common):
    prompt: str | Few[str] | Few[int] | Few[Few[int]]
    echo: bool | None = None
    logprobs: int | None = None
    best_of: Literal[1] | None = None
    suffix: None = None

    def prompts(self) -> list[str | tuple[int, ...]]:
        """Each a text or token ids. Raises RequestError where there is none."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if not given:
            raise RequestError("prompt is empty; give at least one.")
        if isinstance(given[0], int):
            return [tuple(given)]
        return [one if isinstance(one, str) else tuple(one) for one in given]

    def requests(self) -> list[Request]:
        """One for every prompt and choice. With `echo` and no token to write, they only say what is asked for.

        Raises RequestError for no prompt or a value outside its range.
        """
        if self.echo and self.stream:
            raise RequestError("echo is not streamed; leave out stream, or echo.")
        most = 1 if self.max_tokens == 0 and self.echo else self.max_tokens
        sampling = self.sampling(most, DEFAULT_MAX_TOKENS, self.logprobs)
        return choices([Request(prompt, sampling) for prompt in self.prompts()], self.n)


class TokenizeRequest(Strict):
    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class DetokenizeRequest(Strict):
    model: str | None = None
    tokens: Few[int]


def choices(requests: list[Request], n: int | None) -> list[Request]:
    """`n` of each, with seeds of their own."""
    count = 1 if n is None else n
    if count < 1 or count * len(requests) > MOST_CHOICES:
        raise RequestError(
            f"n is {count} for {len(requests):,} prompts, but must be at least 1 and make at most {MOST_CHOICES:,} "
            "answers; ask in several requests."
        )
    return [
        replace(request, sampling=replace(request.sampling, seed=request.sampling.seed + number))
        for request in requests
        for number in range(count)
    ]
