"""Conversations that are going on: what was asked, what was answered, and by whom, which no page is told too early.

They live in this process alone. A restart ends them: which models a battle is between is written down nowhere else that
a page could read, and a half conversation counts for nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fairground.errors import ArenaRefusal
from fairground.evaluation.energy import Energy
from fairground.types import Completion, FinishReason, Message

Mode = Literal["battle", "side_by_side", "chat"]
State = Literal["open", "voted", "set aside"]

LASTS = 2 * 3600.0  # seconds after the last turn
MOST = 5_000  # conversations that are kept at a time; beyond, the oldest go
GONE = (
    "This conversation is not here any more: it ended with its time or with a restart of the site, and nothing of it "
    "was counted; start a new one."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote. Times are in seconds from when it was asked; None where nothing came."""

    text: str
    finish: FinishReason | Literal["failed"]
    tokens: int = 0
    first_token_s: float | None = None
    seconds: float | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """Of the tokens after the first; None with fewer than two."""
        if self.tokens < 2 or self.first_token_s is None or not self.seconds or self.seconds <= self.first_token_s:
            return None
        return (self.tokens - 1) / (self.seconds - self.first_token_s)

    @classmethod
    def of(cls, done: Completion) -> Answer:
        times = done.timing.tokens
        first, last = (times[0] - done.timing.accepted, times[-1] - done.timing.accepted) if times else (None, None)
        return cls(done.text, done.finish_reason, len(done.tokens), first, last)


@dataclass(slots=True)
class Turn:
    """A prompt and each model's answer. `energy` is of all answers together; None where it is not known, and `why`."""

    prompt: str
    answers: list[Answer]
    energy: Energy | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """How answers are written. `seed` None: another one for every answer."""

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int | None = None


@dataclass(eq=False, slots=True)
class Talk:
    """A conversation of one person with one model or two. `token` is what its vote costs; `session` who may see it."""

    id: str
    token: str
    person: str
    session: str
    mode: Mode
    models: tuple[str, ...]
    choices: Choices
    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    state: State = "open"
    why: str = ""  # set aside
    regenerated: int = 0
    writing: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    touched: float = 0.0

    @property
    def blind(self) -> bool:
        """Whether its models must not be known yet."""
        return self.mode == "battle" and self.state != "voted"

    @property
    def names(self) -> tuple[str, ...]:
        """The models as this conversation's pages may call them now."""
        return tuple(f"Model {letter}" for letter in "AB") if self.blind else self.models

    def messages(self, model: int, prompt: str) -> tuple[Message, ...]:
        """The conversation as one model has it, ending with the prompt."""
        said = [Message("system", self.system)] if self.system else []
        for turn in self.turns:
            said += [Message("user", turn.prompt), Message("assistant", turn.answers[model].text)]
        return (*said, Message("user", prompt))

    @property
    def whole(self) -> bool:
        """Whether every answer came to its own end, so that they can be compared."""
        answers = [answer for turn in self.turns for answer in turn.answers]
        return bool(answers) and all(answer.finish in ("stop", "length") for answer in answers)


class Talks:
    """Those that are kept. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MOST) -> None:
        self._clock, self._most = clock, most
        self._talks: dict[str, Talk] = {}  # the one that was touched last is last
        self._lock = threading.Lock()

    def keep(self, talk: Talk) -> None:
        """Takes one in."""
        with self._lock:
            self._talks.pop(talk.id, None)
            talk.touched = self._clock()
            self._talks[talk.id] = talk
            for old in list(self._talks.values()):
                if old.touched + LASTS >= talk.touched and len(self._talks) <= self._most:
                    break
                if not old.writing:
                    del self._talks[old.id]

    def of(self, id_: str, session: str) -> Talk:
        """The conversation of that id, if it is this session's. Raises ArenaRefusal (404) for any other."""
        talk = self._talks.get(id_)
        if talk is None or talk.session != session or talk.touched + LASTS < self._clock():
            raise ArenaRefusal(GONE, 404)
        self.keep(talk)
        return talk

    def drop(self, person: str) -> None:
        """Forgets every conversation of a person."""
        with self._lock:
            self._talks = {id_: talk for id_, talk in self._talks.items() if talk.person != person}
