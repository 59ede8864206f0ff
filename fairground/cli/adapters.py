"""Adapters on the command line: the options of `train --lora`, where a base lies, and `merge`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
