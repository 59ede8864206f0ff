"""Adapters on the command line: the options of `train --lora`, where a base lies, and `merge`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairground.cli.app import AllowPickle, Opening, app, err, needs_local, out
from fairground.errors import RequestError, UnknownModel

if TYPE_CHECKING:
    from fairground.training.recipe import Recipe


def with_lora(
    recipe: Recipe, rank: int | None, alpha: float | None, targets: list[str] | None, dropout: float | None
) -> Recipe:
    """The recipe with what the command line says of LoRA. Raises RequestError for settings of it without a rank."""
    from fairground.models.lora import LoraConfig

    given: dict[str, Any] = {
        "rank": rank,
        "alpha": alpha,
        "targets": tuple(part for target in targets for part in target.split(",")) if targets else None,
        "dropout": dropout,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return recipe
    if recipe.lora is not None:
        return replace(recipe, lora=replace(recipe.lora, **given))
    if rank is None:
        raise RequestError(f"--lora-{next(iter(given))} says how an adapter is, but there is none; add --lora 16.")
    return replace(recipe, lora=LoraConfig(**given))


def with_changes(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with those changes that are not None."""
    return replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def base_name(named: str) -> str | None:
    """What an adapter calls its base where that has a name anywhere: a catalogue's or a hub's; None for a path."""
    from fairground.hub.catalogue import resolve

    if named.endswith(".toml") or Path(named).exists():
        return None
    try:
        resolve(named)
    except UnknownModel:
        return None
    return named


@app.command(epilog="Example: fairground merge ./my-adapter --out my-model")
def merge(
    adapter: Annotated[Path, typer.Argument(help="An adapter's folder, by fairground train --lora or by peft.")],
    folder: Annotated[Path, typer.Option("--out", help="The merged model's folder, which is not there yet.")],
    base: Annotated[str | None, typer.Option(help="The model it belongs to, if not what its config says.")] = None,
    precision: Annotated[str, typer.Option(help="bfloat16 or float32, of the merged weights.")] = "bfloat16",
    allow_pickle: AllowPickle = False,
) -> None:
    """Merge an adapter into its base: an ordinary model's folder, which Transformers loads too."""
    from fairground.hub.reference import Reference

    with needs_local("Merging"):
        from fairground.models.merging import write_merged
    if precision not in ("bfloat16", "float32"):
        raise RequestError(f"Weights are merged in bfloat16 or float32, not in {precision!r}; choose one of the two.")
    opening = Opening(None, "cpu", deterministic=False, allow_pickle=allow_pickle)
    if base is None:
        opening.fetch(Reference(str(adapter), "path", str(adapter)))
    lies = opening.base(adapter) if base is None else opening.path(base)
    with err.status(f"merging {adapter}"):
        write_merged(adapter, folder, base=lies, precision=precision, allow_pickle=allow_pickle)  # type: ignore[arg-type]
    path = folder if folder.is_absolute() else f"./{folder}"
    out.print(f"The merged model is {folder}. Try next:\n  fairground chat {path}", highlight=False, soft_wrap=True)
