"""What the pages work with: one value that holds all of it, found in an application's state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fastapi import Request

from fairground.loop.conversations import Conversations
from fairground.loop.ledger import Ledger
from fairground.loop.people import People
from fairground.loop.watch import Watch
from fairground.serving.running import Running
from fairground.web.draw import Draw
from fairground.web.metering import Metering
from fairground.web.models import Models
from fairground.web.rates import Rates
from fairground.web.talks import Talks


@dataclass(frozen=True, eq=False)
class Site:
    """One site. `running` follows the answers of its own pages; the API under /v1 has another."""

    ledger: Ledger
    people: People
    conversations: Conversations
    models: Models
    draw: Draw
    watch: Watch
    running: Running
    talks: Talks = field(default_factory=Talks)
    rates: Rates = field(default_factory=Rates)
    metering: Metering = field(default_factory=Metering)

    def switched_off(self, names: Iterable[str]) -> bool:
        """Whether a steward switched one of these models off."""
        off = {model.name for model in self.ledger.models() if not model.offered}
        return not off.isdisjoint(names)

    def offered(self) -> list[str]:
        """The models that people may choose now: those that a steward left on and that can answer."""
        on = {model.name for model in self.ledger.models() if model.offered}
        return [name for name in self.models.ready() if name in on]


def site_of(request: Request) -> Site:
    """The site that a request came to."""
    site = request.app.state.site
    assert isinstance(site, Site)
    return site
