"""How often one may ask, by the library limits: over these, whoever asks is told when to come again."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from fairground.errors import ArenaRefusal

PER_PERSON = {"talk": "20/minute", "turn": "30/minute", "vote": "20/minute", "share": "20/minute"}
PER_ADDRESS = {"guest": "30/minute", "sign in": "20/minute", "sign up": "10/hour"}
PER_NAME = {"name": "10/10 minute"}


class Rates:
    """Moving windows in this process's memory. Thread-safe."""

    def __init__(self, factor: int = 1) -> None:
        """`factor`: so many times as often, as a load test needs."""
        self._limits: dict[str, RateLimitItem] = {}
        for what, rate in {**PER_PERSON, **PER_ADDRESS, **PER_NAME}.items():
            item = parse(rate)
            self._limits[what] = type(item)(item.amount * factor, item.multiples, namespace=what)
        self._asked = MovingWindowRateLimiter(MemoryStorage())

    def hit(self, what: str, who: str) -> None:
        """Counts one more. Raises ArenaRefusal (429) where that is too often."""
        limit = self._limits[what]
        if not self._asked.hit(limit, who):
            again = math.ceil(self._asked.get_window_stats(limit, who).reset_time - time.time())
            raise ArenaRefusal(f"That was too often in a short time; try again in {max(1, again)} seconds.", 429)
