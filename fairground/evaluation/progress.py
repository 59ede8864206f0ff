"""How far a run is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` and `total` count items, answers and probe requests over all models of the run."""

    model: str
    task: str
    done: int
    total: int


class Meter:
    """Counts work and reports it. `works` is what each part (a model, or the scorer at the end) has to do.

    A part that fails or cannot do everything leaves work undone; the next one starts counting where it should.
    """

    def __init__(self, report: Callable[[Progress], None] | None, works: Sequence[int]) -> None:
        self._report = report
        self._works = works
        self._part = -1
        self._done = 0
        self._model = ""

    def begin(self, model: str, task: str = "loading") -> None:
        self._part += 1
        self._model = model
        self._done = sum(self._works[: self._part])
        self._say(task)

    def of(self, task: str) -> Callable[[int], None]:
        """What a task calls with the number of items that it has just done."""
        self._say(task)

        def on_done(items: int) -> None:
            self._done = min(self._done + items, sum(self._works[: self._part + 1]))
            self._say(task)

        return on_done

    def finish(self) -> None:
        self._done = sum(self._works)
        self._say("done")

    def _say(self, task: str) -> None:
        if self._report is not None:
            self._report(Progress(self._model, task, self._done, sum(self._works)))
