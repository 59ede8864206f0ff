"""`serve`: models behind an OpenAI-compatible API."""

from __future__ import annotations

from typing import Annotated

import typer

from fairground.cli.app import AllowPickle, Deterministic, Device, Opening, Threads, app, err, out
from fairground.errors import RequestError


@app.command(epilog="Example: fairground serve smollm2 commons-llama-4m --port 8000")
def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models to serve, under these names.")],
    host: Annotated[str, typer.Option(help="127.0.0.1, ::1 or localhost: this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes one that is free.", min=0, max=65535)] = 8000,
    max_running: Annotated[
        int, typer.Option(help="Answers written or waiting at a time; more are refused with 429.", min=1)
    ] = 512,
    shutdown_timeout: Annotated[
        int, typer.Option(help="Seconds that running answers get when the server is told to stop.", min=1)
    ] = 30,
    threads: Threads = None,
    device: Device = "cpu",
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Serve models to any OpenAI client: chat, completions, streaming. Ctrl-C lets running answers end."""
    from fairground.hub.reference import parse
    from fairground.serving.app import LOOPBACK, create_app
    from fairground.serving.running import Limits
    from fairground.serving.server import serve as run

    if host not in LOOPBACK:
        raise RequestError(
            f"{host} can be reached from other machines, and there are no keys yet to say who may ask; serve on "
            "127.0.0.1."
        )
    settings = Opening(threads, device, deterministic, allow_pickle)
    references = [parse(name) for name in dict.fromkeys(models)]
    for reference in references:
        settings.fetch(reference)
    opened = {}
    try:
        for reference in references:
            with err.status(f"loading {reference.name}"):
                opened[reference.name] = settings.open(reference)

        def ready(address: str) -> None:
            out.print(
                f"Serving {', '.join(opened)} on {address}/v1; stop with ctrl-C.", highlight=False, soft_wrap=True
            )
            question = f'{{"model": "{next(iter(opened))}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
            ask = f"  curl {address}/v1/chat/completions -H 'content-type: application/json' -d '{question}'"
            out.print(f"Try:\n{ask}", highlight=False, markup=False, soft_wrap=True)

        web = create_app(opened, limits=Limits(running=max_running))
        run(web, host, port, shutdown_timeout=shutdown_timeout, ready=ready)
    finally:
        for model in opened.values():
            model.close()
