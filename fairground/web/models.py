"""The models on offer: opened one after another in the background, and left out of the draw while they are broken."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fairground.errors import FairgroundError
from fairground.evaluation.energy import Meter
from fairground.loop.ledger import Ledger
from fairground.types import Breakable, Generator, ModelInfo

State = Literal["warming up", "ready", "broken"]
REST = 60.0  # seconds that a model which failed an answer stays out of the draw


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that may be opened. `meter` counts the energy of the machine it runs on; None where that is not known.

    `licence` and `parameters` are what is known before it is opened; `maker` who made it.
    """

    name: str
    open: Callable[[], Generator]
    meter: Meter | None = None
    maker: str = ""
    licence: str | None = None
    parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """How a model is, for people: `why` says what is wrong with a broken one."""

    name: str
    state: State
    why: str = ""


def announce(ledger: Ledger, offer: Offer, info: ModelInfo) -> None:
    """Writes in the log that people meet a model, unless it says so already or a steward switched it off.

    What a steward said of it stands.
    """
    before = next((model for model in ledger.models() if model.name == offer.name), None)
    facts = {
        "organisation": offer.maker or None,
        "licence": info.licence or offer.licence,
        "parameters": info.parameters,
        "family": info.family,
        "precision": info.precision,
    }
    if before is not None:
        facts |= {name: value for name, value in before.facts.items() if value is not None}
    ledger.offer_model(offer.name, facts, "command", offered=before is None or before.offered)


class OnOffer(Mapping[str, Generator]):
    """The open models but for those that a steward switched off, as it is at each look: what the API serves."""

    def __init__(self, ledger: Ledger, generators: Mapping[str, Generator]) -> None:
        self._ledger, self._generators = ledger, generators

    def _now(self) -> dict[str, Generator]:
        off = {model.name for model in self._ledger.models() if not model.offered}
        return {name: model for name, model in list(self._generators.items()) if name not in off}

    def __getitem__(self, name: str) -> Generator:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())


class Models:
    """The offered models by name. Thread-safe.

    `generators` holds those that are open and grows while others are opened.
    """

    def __init__(
        self,
        offers: Sequence[Offer],
        opened: Callable[[Offer, ModelInfo], None] = lambda offer, info: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`opened` is told of each as soon as it can answer."""
        self.offers: Mapping[str, Offer] = {offer.name: offer for offer in offers}
        self.generators: dict[str, Generator] = {}
        self._failed: dict[str, str] = {}
        self._resting: dict[str, float] = {}
        self._opened, self._clock = opened, clock
        self._closed, self._opening = threading.Event(), threading.Lock()

    def start(self) -> threading.Thread:
        """Begins to open all of them, in their order, on a thread of its own, and returns at once."""
        thread = threading.Thread(target=self._open_all, name="fairground-open", daemon=True)
        thread.start()
        return thread

    def _open_all(self) -> None:
        for name in self.offers:
            self.reopen(name)

    def reopen(self, name: str) -> None:
        """Opens a model that is not open or is broken; blocks. What goes wrong is in its status afterwards."""
        with self._opening:
            if self._closed.is_set() or self.status(name).state == "ready":
                return
            old = self.generators.pop(name, None)
            self._failed.pop(name, None)
            try:
                if old is not None:
                    old.close()
                generator = self.offers[name].open()
                self._opened(self.offers[name], generator.info)
                self.generators[name] = generator
            except FairgroundError as error:
                self._failed[name] = str(error)
            except Exception as error:
                logging.getLogger("fairground.web").error("%s could not be opened", name, exc_info=error)
                self._failed[name] = "It could not be opened; the log says why."

    def status(self, name: str) -> Status:
        """Raises KeyError for a name that is not offered."""
        self.offers[name]
        if name in self._failed:
            return Status(name, "broken", self._failed[name])
        generator = self.generators.get(name)
        if generator is None:
            return Status(name, "warming up")
        if isinstance(generator, Breakable) and (why := generator.broken):
            return Status(name, "broken", why)
        return Status(name, "ready")

    def ready(self) -> list[str]:
        """Those that can answer now, by name."""
        return [name for name in self.offers if self.status(name).state == "ready"]

    def drawable(self) -> list[str]:
        """Those of the ready ones that have not failed an answer within the last minute."""
        now = self._clock()
        return [name for name in self.ready() if self._resting.get(name, 0) <= now]

    def failed(self, name: str) -> None:
        """Notes that a model failed at an answer."""
        self._resting[name] = self._clock() + REST

    @property
    def warming(self) -> bool:
        """Whether some are still to be opened."""
        return any(self.status(name).state == "warming up" for name in self.offers)

    def close(self) -> None:
        """Ends every engine; one that is being opened ends as soon as it is open."""
        self._closed.set()
        with self._opening:
            for generator in self.generators.values():
                generator.close()
            self.generators.clear()
