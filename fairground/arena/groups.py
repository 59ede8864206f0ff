"""Which models the battles join: one scale holds those that met, perhaps by way of others, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairground.arena.columns import Battles, Ints
from fairground.arena.likelihood import Choices, parts_that_met
from fairground.errors import DataError

_NAMED_GROUPS, _NAMED_MODELS = 5, 4


def largest_group(battles: Battles) -> Battles:
    """The battles of the group of models with the most battles; of equal ones, that of the first name."""
    part = battle_groups(battles)[battles.first]
    return battles.only(part == np.argmax(np.bincount(part))) if len(part) else battles


def battle_groups(battles: Battles) -> Ints:
    """For each model [m] the number of its group, counted from 0 in order of their first names."""
    n = len(battles.models)
    pairs = np.unique(battles.first.astype(np.int64) * n + battles.second)
    drawn = np.ones((2, len(pairs)))
    part = parts_that_met(Choices(n, pairs // n, pairs % n, np.arange(len(pairs)), drawn / 2, drawn[0], drawn[:0]))
    _, begins, label = np.unique(part, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(begins))[label]


def refuse_separate_groups(choices: Choices, names: Sequence[str]) -> None:
    """Raises DataError, naming them, where the models fall into groups that never met."""
    part = parts_that_met(choices)
    labels, begins, sizes = np.unique(part, return_index=True, return_counts=True)
    if len(labels) == 1:
        return
    battles = np.bincount(part[choices.first], choices.by_pair(choices.battles), int(part.max()) + 1)[labels]
    order = np.lexsort((begins, -battles))
    said = []
    for k in order[:_NAMED_GROUPS]:
        members = [names[i] for i in np.flatnonzero(part == labels[k])[:_NAMED_MODELS]]
        more = f" and {sizes[k] - len(members)} more" if sizes[k] > len(members) else ""
        said.append(", ".join(repr(name) for name in members) + more)
    more = f" | and {len(labels) - len(said)} groups more" if len(labels) > len(said) else ""
    raise DataError(
        f"The battles fall into {len(labels)} groups of models that never met, so no scale joins them "
        f"({' | '.join(said)}{more}); rate each group alone (--largest-group takes the one with the most battles), or "
        "add battles between them."
    )
