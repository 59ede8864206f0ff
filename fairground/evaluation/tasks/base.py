"""What a task is: items, how each is asked, and how what comes back is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from fairground.evaluation.lines import Line
from fairground.evaluation.settings import Settings
from fairground.types import Completion, Generator, Request, Score, ScoreRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that is asked. Items with the same `cluster` share a text, so their outcomes are not independent.

    `group` is whose solved examples it may be shown with; results can be cut by `domain` and `language`.
    """

    id: str
    domain: str
    cluster: str
    group: str = ""
    language: str = "en"
    note: str = ""


ItemT = TypeVar("ItemT", bound=Item)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one item: its measures, and for the record what was asked, scored and chosen."""

    id: str
    domain: str
    cluster: str
    measures: Mapping[str, float]
    record: Mapping[str, Any]


class Files(Protocol):
    """A suite's own files, as a task that is read may ask for them."""

    def lines(self, settings: Settings, key: str) -> list[Line]:
        """The lines of the file that the key names, each with an id that no other line of the suite has."""
        ...

    def asks(self, line: Line, group: str, text: str) -> None:
        """Says what a line asks, so that no other line of its group may ask the same."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task(ABC, Generic[ItemT]):
    """Items of one kind. `metric`: the leaderboard's column that they count in; None: in none.

    `kind` says what they are. A limit takes items of one that is `in_order` as they come.
    """

    kind: ClassVar[str]
    in_order: ClassVar[bool] = False
    name: str
    items: tuple[ItemT, ...]
    metric: str | None = None

    @property
    def max_shots(self) -> int | None:
        """How many solved examples every item can be shown; None where the task has no use for them."""
        return None

    def can_judge(self) -> None:
        """Raises CapabilityError where what judges the answers is not installed."""


@dataclass(frozen=True, kw_only=True)
class ScoredTask(Task[ItemT]):
    """A task that is answered by log-likelihoods."""

    @abstractmethod
    def ask(self, item: ItemT, shots: int = 0) -> list[ScoreRequest]:
        """What is to be scored, after `shots` solved examples."""

    def ask_of(self, generator: Generator, item: ItemT, shots: int = 0) -> list[ScoreRequest]:
        """As `ask`, in as many requests as this model's context makes of it, where the kind allows that."""
        return self.ask(item, shots)

    @abstractmethod
    def judge(self, item: ItemT, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        """What the scores, in the order of `asked`, say."""


@dataclass(frozen=True, kw_only=True)
class WrittenTask(Task[ItemT]):
    """A task that is answered in writing."""

    @abstractmethod
    def ask(self, item: ItemT, shots: int, chat: bool) -> Request:
        """What is asked of a model, in a conversation where it has a chat template."""

    @abstractmethod
    def judge(self, item: ItemT, asked: Request, answer: Completion) -> Outcome:
        """What the answer is worth."""

    def next_turn(self, item: ItemT, said: Sequence[Completion], chat: bool) -> Request | None:
        """What is asked after these answers, one of each turn so far; None where the conversation is over."""
        return None

    def judge_turns(self, item: ItemT, asked: Sequence[Request], said: Sequence[Completion]) -> Outcome:
        """What the answers of all turns are worth; most tasks have one turn."""
        return self.judge(item, asked[0], said[0])


class SuiteKind(Protocol):
    """A kind of task that a table in suite.toml may ask for, by `kind`.

    `keys` are what the table may hold besides, `counts_in` the columns that the task may count in.
    """

    kind: ClassVar[str]
    keys: ClassVar[frozenset[str]]
    counts_in: ClassVar[tuple[str, ...]]

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Task[Any]:
        """From its table. Raises SuiteError, naming file and line."""
        ...


def opening(line: Line, task: str) -> dict[str, Any]:
    """The fields that every item has."""
    return {
        "id": line.id,
        "domain": line.text("domain", task),
        "cluster": line.id,
        "language": line.text("language", "en"),
        "note": line.text("note", ""),
    }


OPENING = frozenset({"domain", "language", "note"})
"""The keys of `opening` that any line may have, besides its id."""
