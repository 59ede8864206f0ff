"""What suites show to models, as plain texts: what data to learn from are checked against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from fairground.errors import SuiteError
from fairground.evaluation.suite import Suite, built_in_suites, load_suite
from fairground.evaluation.tasks.base import Item

# Of an item, but shown to nobody who is asked.
_ABOUT = {field.name for field in fields(Item)} | {"rubric", "source", "difficulty", "kind", "metric"}
_ACROSS = 12  # words on each side of where two texts meet; a run of 13 that reaches over it has no more


def item_texts(item: Any) -> tuple[str, ...]:
    """What the item shows: each of its texts, all of them, and the beginning of each choice after what comes before.

    They are its own words, without those that a task puts around them ("Question:").
    """
    alone: list[str] = []
    lists: list[tuple[str, ...]] = []
    for field in fields(item):
        value = getattr(item, field.name)
        if field.name in _ABOUT:
            continue
        if isinstance(value, str):
            alone.append(value)
        elif isinstance(value, Mapping):
            alone += [part for part in value.values() if isinstance(part, str)]
        elif isinstance(value, tuple) and value and all(isinstance(part, str) for part in value):
            lists.append(value)
    asked = " ".join(alone)
    before = " ".join(asked.split()[-_ACROSS:])
    choices = [choice for each in lists for choice in each]
    texts = [*alone, asked, *(" ".join(each) for each in lists), *choices]
    texts += [f"{before} {' '.join(choice.split()[:_ACROSS])}" for choice in choices]
    return tuple(dict.fromkeys(text for text in texts if text))


def suite_texts(suite: Suite) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Of every item its task and its texts."""
    for task in suite.tasks:
        for item in task.items:
            yield task.name, item_texts(item)


@lru_cache(maxsize=1)
def texts_of_suites() -> tuple[Mapping[str, list[tuple[str, tuple[str, ...]]]], list[str]]:
    """`suite_texts` of every suite of the package, and the names of those whose data are not here."""
    found, missing = {}, []
    for name in built_in_suites():
        try:
            found[name] = list(suite_texts(load_suite(name)))
        except (SuiteError, OSError):  # most suites' data are others' and lie in the folder that FAIRGROUND_DATA names
            missing.append(name)
    return found, missing
