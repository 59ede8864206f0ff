"""The energy of answers: known only while nothing else that this site does counts with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairground.errors import CapabilityError
from fairground.evaluation.energy import Energy, Meter

TOGETHER = "not known: other answers were being written at the same time"
ELSEWHERE = "not known: the model runs on another machine"


class _Turn:
    alone = True


class Metering:
    """Meters one turn's answers at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._running: set[_Turn] = set()

    def start(self, meters: Sequence[Meter | None]) -> Callable[[], tuple[Energy | None, str]]:
        """Begins to count what the turn's models take, each by its meter; what it returns ends that.

        It gives the energy, or None and why it is not known. Models on one machine have equal meters, which are read
        once, since their counters count that whole machine.
        """
        turn = _Turn()
        for other in (*self._running, *((turn,) if self._running else ())):
            other.alone = False
        self._running.add(turn)
        known = [meter for meter in meters if meter is not None]
        reading = known[0].start() if len(known) == len(meters) and all(meter == known[0] for meter in known) else None

        def end() -> tuple[Energy | None, str]:
            self._running.discard(turn)
            if reading is None:
                return None, ELSEWHERE
            if not turn.alone:
                return None, TOGETHER
            try:
                return reading(), ""
            except CapabilityError as error:
                return None, f"not known: {error}"

        return end
