"""`rank --on`: the workers of a cluster, and how each opens the models that this machine would open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairground.cli.app import Opening, err
from fairground.errors import RequestError

if TYPE_CHECKING:
    from fairground.evaluation.on_ray import OnRay
    from fairground.hub.reference import Reference

On = Annotated[
    str | None,
    typer.Option(
        metavar="CLUSTER",
        help="Spread the work over a Ray cluster: ray (that of RAY_ADDRESS, else one on this machine for the run), "
        "or ray://HOST:PORT.",
    ),
]


def cluster(on: str, settings: Opening, references: Sequence[Reference]) -> OnRay:
    """The workers that `--on` names. Models behind an API are left to this machine: their server is elsewhere anyway.

    Raises RequestError for a name that is no cluster's, MissingExtra where Ray is not installed.
    """
    from fairground.evaluation.environment import cores
    from fairground.evaluation.on_ray import OnRay, WorkerModel

    address = _address(on)
    if settings.device != "cpu":
        raise RequestError(f"A run that is spread computes on CPUs, not on {settings.device}; leave out --device.")
    threads = settings.threads or cores() or 1
    there = Opening(threads, settings.device, settings.deterministic, settings.allow_pickle)
    models: dict[str, WorkerModel] = {}
    for reference in references:
        if reference.kind == "path":
            # A worker has a working folder of its own.
            reference = replace(reference, target=str(Path(reference.target).resolve()))
        if reference.kind != "remote":
            models[reference.name] = WorkerModel(
                settings.identity(reference), partial(there.identity, reference), partial(there.open, reference)
            )
    return OnRay(
        models, address=address, threads=threads,
        notice=lambda said: err.print(said, highlight=False, soft_wrap=True),
    )  # fmt: skip


def _address(on: str) -> str | None:
    """Where the cluster is; None: here, for the run."""
    if on == "ray":
        named = os.environ.get("RAY_ADDRESS", "")
        return None if named in ("", "local") else named
    if on.startswith("ray://"):
        return on
    raise RequestError(f"--on {on} names no cluster; give ray, or ray://HOST:PORT.")
