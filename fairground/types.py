"""The values that rooms hand each other, and the protocol of whatever writes and scores text.

Nothing here knows torch, HTTP or SQL, so a remote proprietary model and a local open one are the same thing to whoever
ranks them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from fairground.errors import RequestError

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Structure:
    """The form an answer must have: a JSON schema ("json"), a regular expression, or a JSON list of texts ("choice").

    `field` is what the one who asked calls it, for the sentence that refuses it.
    """

    kind: Literal["json", "regex", "choice"]
    text: str
    field: str = "structure"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    Temperature 0 is greedy. `top_k` 0, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 do nothing. `logprobs` is how
    many alternatives are returned beside each chosen token (None: no log-probabilities at all). The same `seed` gives
    the same text, whatever else runs at the same time. `logit_bias` is added to the logits of these token ids. With
    `structure`, only tokens that it allows are chosen.

    Raises RequestError for a value outside its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False  # write on to max_tokens, as response-time probes want
    structure: Structure | None = None

    def __post_init__(self) -> None:
        def require(name: str, good: bool, range_: str) -> None:
            if not good:
                raise RequestError(f"{name} is {getattr(self, name)}, but must be {range_}; choose another value.")

        require("temperature", math.isfinite(self.temperature) and 0 <= self.temperature <= 100, "from 0 to 100")
        require("top_k", self.top_k >= 0, "0 (off) or more")
        require("top_p", 0 < self.top_p <= 1, "above 0 and at most 1")
        require("min_p", 0 <= self.min_p <= 1, "from 0 to 1")
        require(
            "repetition_penalty",
            0.001 <= self.repetition_penalty <= 1000,
            "from 0.001 to 1000",
        )
        require("max_tokens", self.max_tokens >= 1, "1 or more")
        require("logprobs", self.logprobs is None or 0 <= self.logprobs <= 20, "from 0 to 20")
        require("stop", all(self.stop), "made of strings that are not empty")
        require(
            "ignore_eos",
            not (self.ignore_eos and self.structure),
            "false where an answer has a structure, which ends it",
        )
        require(
            "logit_bias", all(-100 <= bias <= 100 for _, bias in self.logit_bias), "from -100 to 100 for each token"
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What a generator is asked to write on: plain text, a conversation (put into its chat template), or tokens.

    `client` says whose it is. Where requests have to wait, clients take turns. `exact` asks for the same bits in any
    company: what is written then depends neither on what else runs nor on what is cached, at up to half the speed. A
    server elsewhere cannot promise it.
    """

    prompt: str | tuple[Message, ...] | tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    client: str = ""
    exact: bool = False


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Asks for log p(continuation | context). An empty context means: from the start of a text."""

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class Score:
    """A continuation's log-likelihood.

    `logprob`: natural logarithm, summed over the continuation's tokens. `greedy`: whether every one of its tokens was
    the most likely one. `tokens`: how many there are. `truncated`: tokens of the context that the model could not see.
    """

    logprob: float
    greedy: bool
    tokens: int
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token of a text, its log-probability after those before it, and the likeliest tokens there, best first.

    A text's first token follows nothing: its `logprob` is None.
    """

    token: int
    logprob: float | None
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One token as it is written. `text` may be empty (a character not yet complete, a stop string not yet decided)."""

    token: int
    text: str
    at: float  # seconds on time.perf_counter()'s clock
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """When a request was accepted and when each of its tokens came, in seconds on one monotonic clock."""

    accepted: float
    tokens: tuple[float, ...]

    @property
    def time_to_first_token(self) -> float:
        """Seconds from acceptance to the first token; NaN where none came."""
        return self.tokens[0] - self.accepted if self.tokens else math.nan

    @property
    def time_per_output_token(self) -> float:
        """(end - first) / (n - 1) seconds, as vLLM's benchmark defines TPOT; NaN with fewer than two tokens."""
        n = len(self.tokens)
        return (self.tokens[-1] - self.tokens[0]) / (n - 1) if n > 1 else math.nan


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer. `cached_tokens` of the prompt's did not have to be computed."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    timing: Timing
    logprobs: tuple[float, ...] = ()
    cached_tokens: int = 0


class Stream(Protocol):
    """A running request: iterate over its token events; `completion()` waits for the end; `cancel()` ends it early."""

    def __iter__(self) -> Iterator[TokenEvent]: ...
    def completion(self) -> Completion: ...
    def cancel(self) -> None: ...


StreamEvent = TokenEvent | Completion | BaseException
"""What comes of a running request: tokens, and at the end the whole answer or what went wrong."""


@runtime_checkable
class Listened(Protocol):
    """What a Stream may have besides, so that nobody has to wait for it in a thread of their own."""

    def listen(self, listener: Callable[[StreamEvent], None]) -> None:
        """Hands over every event, those that have come and those to come, on whatever thread it comes.

        The listener must return at once and may not raise. Nobody may iterate over the stream besides.
        """
        ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a generator can do. `context_length` is in tokens, prompt and answer together; None: not known."""

    generate: bool = True
    score: bool = True
    logprobs: bool = True
    chat: bool = True
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a leaderboard says of a model. `precision` says where it came from: "int4 from bf16"."""

    name: str
    family: str
    parameters: int | None
    precision: str
    memory_bytes: int | None
    licence: str | None = None
    can: Capabilities = field(default_factory=Capabilities)


class Generator(Protocol):
    """Whatever writes and scores text: a local model, a remote server, a uniform guesser.

    Methods may be called from several threads at once. A method outside `info.can` raises CapabilityError.
    """

    @property
    def info(self) -> ModelInfo: ...

    def submit(self, request: Request) -> Stream:
        """Starts a request and returns at once; raises RequestError for one that cannot be served."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Log-likelihoods in the requests' order; none depends on which other requests are in the list."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens the text is, without any that the model adds by itself."""
        ...

    def close(self) -> None:
        """Ends running requests and frees what the model holds."""
        ...


@runtime_checkable
class TokenLevel(Protocol):
    """What a Generator may have besides: its tokens, and a log-probability for each of a text's."""

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The token ids that the text is read as; with `special`, what the model adds to a text too."""
        ...

    def spell(self, tokens: Sequence[int]) -> str:
        """The text of these tokens, special ones included. Raises RequestError for an id below 0."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """What one token spells inside a text, in UTF-8; nothing for a special token."""
        ...

    def tokenizer_info(self) -> Mapping[str, str | int | None]:
        """Its special tokens by their names (bos_token, eos_token, …), its chat_template, and how many ids it has."""
        ...

    def score_tokens(
        self, prompts: Sequence[Sequence[int]], alternatives: int = 0, stop: threading.Event | None = None
    ) -> list[list[TokenScore]]:
        """Every token's log-probability. `stop`, once set, ends it soon, and nothing it then gives means anything.

        Raises RequestError for a prompt that is empty or too long.
        """
        ...


@runtime_checkable
class Breakable(Protocol):
    """What a Generator may tell besides: that it broke down."""

    @property
    def broken(self) -> str | None:
        """Why it writes nothing more; None while it does."""
        ...


Winner = Literal["model_a", "model_b", "tie", "both_bad"]


@dataclass(frozen=True, slots=True)
class Battle:
    """One comparison of two models by one voter."""

    model_a: str
    model_b: str
    winner: Winner
    voter: str | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """What a person said of a battle, and when (seconds since the epoch)."""

    battle_id: str
    voter: str
    winner: Winner
    at: float
