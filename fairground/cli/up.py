"""`up`: the whole site, with the models that are here."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from fairground.cli.app import AllowPickle, Device, Opening, Threads, app, entry_of, err, out
from fairground.cli.arena import redaction
from fairground.cli.serve import Host, Port, gate_of
from fairground.errors import CapabilityError, RequestError

if TYPE_CHECKING:
    from fairground.evaluation.energy import Meter
    from fairground.hub.reference import Reference
    from fairground.web.models import Offer


@app.command(epilog="Example: fairground up smollm2 commons-llama-4m --port 8000")
def up(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL...]", help="Models that people meet (default: all that are on this machine)."),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    database: Annotated[
        str | None, typer.Option("--database", help="Where all is kept; the default is in the state folder.")
    ] = None,
    shutdown_timeout: Annotated[
        int, typer.Option(help="Seconds that running answers get when the site is told to stop.", min=1)
    ] = 5,
    threads: Threads = None,
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
) -> None:
    """Open the arena: battles, chat and leaderboard as a site, and the OpenAI-compatible API under /v1.

    The site is there at once; models are opened in the background. Where other machines can reach it, the API asks for
    a key of `fairground keys`, and until a steward says otherwise guests do not vote and accounts are made by one-time
    links alone.
    """
    from fairground.hub.home import home
    from fairground.hub.reference import parse
    from fairground.loop.arena_settings import admission
    from fairground.loop.ledger import Ledger
    from fairground.serving.app import LOOPBACK
    from fairground.serving.server import serve
    from fairground.store import default_database, open_database
    from fairground.web.app import create_site
    from fairground.web.board import live_board
    from fairground.web.models import Models, announce

    public = host not in LOOPBACK
    settings = Opening(threads, device, False, allow_pickle)
    references = list({(found := parse(name)).name: found for name in models or _here()}.values())
    if any(reference.shots is not None for reference in references):
        raise RequestError("Examples in the prompt (,shots=K) are of `rank`; leave them out here.")
    for reference in references:
        settings.fetch(reference)
    address = database or default_database(home())
    with open_database(address) as opened:
        ledger = Ledger(opened, redact=redaction(), public=public)
        offered = Models([_offer(settings, reference) for reference in references], partial(announce, ledger))
        live = live_board(ledger)
        site = create_site(ledger, offered, live=live, hosts=None if public else LOOPBACK, gate=gate_of(public))

        def ready(where: str) -> None:
            link = site.state.site.people.first_steward_link()
            say = partial(out.print, highlight=False, markup=False, soft_wrap=True)
            say(f"Fairground is on {where}; stop with ctrl-C.")
            if link:
                say(f"Become its steward by this link, which works once:\n  {where}/join/{link}")
            say(f"{admission(ledger.settings(), public=public)} A steward sets this under Limits.")
            say(f"Models: {', '.join(offered.offers)}; they warm up while you read this.")
            say(f"The API for OpenAI's clients is on {where}/v1. Data: {address}")
            live.start()
            site.state.site.watch.start()
            offered.start()

        try:
            serve(site, host, port, shutdown_timeout=shutdown_timeout, ready=ready)
        finally:
            site.state.site.watch.stop()
            live.stop()
            with err.status("closing the models"):
                offered.close()


def _here() -> list[str]:
    """The catalogue's models that were pulled, or that come with the package, and those that were made here."""
    from fairground.hub.catalogue import catalogue
    from fairground.hub.installed import locate
    from fairground.hub.made import made_models

    found = [entry.name for entry in catalogue() if locate(entry.name) or (entry.bundled and entry.bundled.files)]
    found += [name for name, folder in made_models().items() if folder.is_dir()]
    if not found:
        raise RequestError("There is no model on this machine; get one with `fairground pull smollm2`.")
    return found


def _offer(settings: Opening, reference: Reference) -> Offer:
    from fairground.web.models import Offer

    entry = entry_of(reference)
    return Offer(
        reference.name,
        partial(settings.open, reference),
        _meter(None if reference.kind == "remote" else settings.device),
        entry.organisation if entry else "",
        entry.licence if entry else None,
        entry.parameters if entry else None,
    )


def _meter(device: str | None) -> Meter | None:
    from fairground.evaluation.energy import meter

    try:
        return meter(device)
    except CapabilityError:  # the pages then say that the energy is not known
        return None
