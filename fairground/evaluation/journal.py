"""What has been measured already, so that a run that was interrupted goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fairground.evaluation.tasks import Outcome

Entry = Mapping[str, Any]
"""One outcome as JSON."""


class Journal(Protocol):
    """Keeps outcomes as they come. `fairground.store` has one that outlives the process."""

    def known(self, model: str, task: str, shots: int) -> Mapping[str, Entry]:
        """What was kept of this model on this task with so many solved examples, by item."""
        ...

    def keep(self, model: str, task: str, shots: int, entries: Sequence[Entry]) -> None:
        """Keeps entries for good before it returns; one of an item that is there already replaces it."""
        ...


class NoJournal:
    """Keeps nothing."""

    def known(self, model: str, task: str, shots: int) -> Mapping[str, Entry]:
        return {}

    def keep(self, model: str, task: str, shots: int, entries: Sequence[Entry]) -> None:
        pass


def entry(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON."""
    return {
        "id": outcome.id,
        "domain": outcome.domain,
        "cluster": outcome.cluster,
        "measures": dict(outcome.measures),
        "record": dict(outcome.record),
    }


def outcome(entry: Entry) -> Outcome:
    """What `entry` was made of."""
    return Outcome(entry["id"], entry["domain"], entry["cluster"], entry["measures"], entry["record"])
