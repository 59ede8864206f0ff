"""`serve` and `keys`: models behind an OpenAI-compatible API, and who may ask them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairground.cli.app import AllowPickle, Deterministic, Device, Json, Opening, Threads, app, err, out
from fairground.errors import RequestError

if TYPE_CHECKING:
    from fairground.serving.keys import Gate

PER_MINUTE = 600  # requests of one key, where nothing else was said

Host = Annotated[str, typer.Option(help="127.0.0.1 for this machine alone; 0.0.0.0 for every machine that reaches it.")]
Port = Annotated[int, typer.Option(help="0 takes one that is free.", min=0, max=65535)]


@app.command(epilog="Example: fairground serve smollm2 commons-llama-4m --port 8000")
def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models to serve, under these names.")],
    host: Host = "127.0.0.1",
    port: Port = 8000,
    max_running: Annotated[
        int, typer.Option(help="Answers written or waiting at a time; more are refused with 429.", min=1)
    ] = 512,
    max_per_minute: Annotated[
        int | None,
        typer.Option(help="Requests of one key a minute (default: 600 where keys are asked for, else any).", min=1),
    ] = None,
    require_key: Annotated[
        bool | None,
        typer.Option(help="Ask for a key of `fairground keys` (default: where other machines can reach it)."),
    ] = None,
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

    public = host not in LOOPBACK
    if public and require_key is False:
        raise RequestError(
            f"{host} can be reached from other machines, so it is not served without keys; leave out "
            "--no-require-key, or serve on 127.0.0.1."
        )
    gate = gate_of(public or bool(require_key))
    settings = Opening(threads, device, deterministic, allow_pickle)
    references = list({(reference := parse(name)).name: reference for name in models}.values())
    if any(reference.shots is not None for reference in references):
        raise RequestError("Examples in the prompt (,shots=K) are of `rank`; leave them out here.")
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

        per_minute = max_per_minute or (PER_MINUTE if gate else None)
        web = create_app(opened, limits=Limits(running=max_running, per_minute=per_minute), gate=gate)
        run(web, host, port, shutdown_timeout=shutdown_timeout, ready=ready)
    finally:
        for model in opened.values():
            model.close()


keys = typer.Typer(no_args_is_help=True, help="Say who may ask a server that other machines can reach.")
app.add_typer(keys, name="keys")


def gate_of(wanted: bool) -> Gate | None:
    """Who may ask, where keys are wanted. Raises RequestError where there is none yet."""
    from fairground.serving.keys import Gate, read_keys

    if not wanted:
        return None
    if not (known := read_keys(_keys_file())):
        raise RequestError("There is no key yet, so nobody could ask; make one with `fairground keys add NAME`.")
    return Gate(known)


def _keys_file() -> Path:
    from fairground.hub.home import home

    return home() / "keys.json"


@keys.command("add", epilog="Example: fairground keys add alice")
def add(name: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Make a key and print it, this once: only its hash is kept. A server that runs knows it after a restart."""
    from fairground.serving.keys import add_key

    print(add_key(_keys_file(), name))


@keys.command("list", epilog="Example: fairground keys list")
def list_(as_json: Json = False) -> None:
    """List whose keys there are."""
    from fairground.serving.keys import read_keys

    known = read_keys(_keys_file())
    if as_json:
        print(json.dumps([{"name": key.name, "made": key.made} for key in known], indent=1))
        return
    for key in known:
        made = time.strftime("%Y-%m-%d", time.localtime(key.made))
        out.print(f"{key.name}  made {made}", highlight=False, markup=False)
    if not known:
        out.print("There is no key yet; make one with: fairground keys add NAME", highlight=False)


@keys.command("remove", epilog="Example: fairground keys remove alice")
def remove(name: Annotated[str, typer.Argument(help="Whose key goes.")]) -> None:
    """Take a key back. A server that runs forgets it after a restart."""
    from fairground.serving.keys import remove_key

    remove_key(_keys_file(), name)
    out.print(f"The key of {name} opens nothing any more.", highlight=False, markup=False)
