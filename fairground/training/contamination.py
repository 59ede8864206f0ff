"""Whether data to learn from give away what models are measured on: runs of 13 words that both have.

After GPT-3 (Brown et al., 2020, appendix C): words without case and punctuation; an item of 8 to 12 words counts whole,
a shorter one proves nothing. Unlike there, nothing is taken out here (cleaning.py does that): it is counted and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairground.training.cleaning import SHINGLE, SHORTEST, numbered, runs, words_of

Items = Sequence[tuple[str, tuple[str, ...]]]
"""Of every item its task and its texts."""

SuiteTexts = Callable[[], tuple[Mapping[str, Items], Sequence[str]]]
"""Gives the items of every suite by its name, and the names of suites whose items are not at hand."""

COMMON = 0.5  # a run that more of a task's items have is the task's own wording, such as an instruction
FEW = 4  # a task with fewer items has no wording of its own


@dataclass(frozen=True, slots=True)
class Overlap:
    """Of one suite: its items, how many of them the data touch, and how many documents of the data touch an item."""

    suite: str
    items: int
    found: int
    documents: int


@dataclass(frozen=True, slots=True)
class Contamination:
    """What was found in `documents` documents; `unchecked` are suites whose items were not at hand.

    `sources`: up to ten documents that touch an item, as Document.source says them.
    """

    documents: int
    overlaps: tuple[Overlap, ...]
    unchecked: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What was found, for a person."""
        hit = [overlap for overlap in self.overlaps if overlap.found]
        names = ", ".join(overlap.suite for overlap in self.overlaps) or "no suite"
        if not hit:
            said = (
                f"None of {self.documents:,} {_documents(self.documents)} shares a run of {SHINGLE} words with {names}"
            )
        else:
            parts = [
                f"{o.found:,} of {o.items:,} items of {o.suite} (in {o.documents:,} {_documents(o.documents)})"
                for o in hit
            ]
            said = f"The data hold {' and '.join(parts)}, so measures on them will be too good: see {self.sources[0]}"
        return said + (
            f"; not checked, as their data are not here: {', '.join(self.unchecked)}." if self.unchecked else "."
        )

    def as_dict(self) -> dict[str, Any]:
        """For training.json."""
        suites = {o.suite: {"items": o.items, "found": o.found, "documents": o.documents} for o in self.overlaps}
        return {
            "words": SHINGLE,
            "documents": self.documents,
            "suites": suites,
            "unchecked": list(self.unchecked),
            "sources": list(self.sources),
            "summary": self.sentence,
        }


def _documents(count: int) -> str:
    return "document" if count == 1 else "documents"


class Suites:
    """The suites' runs of words with the items that have them."""

    def __init__(self, suites: Mapping[str, Items]) -> None:
        self.names = list(suites)
        self.sizes = [len(items) for items in suites.values()]
        self.suite_of = np.repeat(np.arange(len(suites)), self.sizes).tolist()
        self._numbers: dict[str, int] = {}
        texts: dict[int, list[list[int]]] = {}
        owners: dict[int, list[int]] = {}
        tasks: list[tuple[int, str]] = []
        for suite, items in enumerate(suites.values()):
            for task, own in items:
                for text in own:
                    words = numbered(words_of(text), self._numbers)
                    if len(words) >= SHORTEST:
                        size = min(len(words), SHINGLE)
                        texts.setdefault(size, []).append(words)
                        owners.setdefault(size, []).append(len(tasks))
                tasks.append((suite, task))
        numbers = {task: number for number, task in enumerate(dict.fromkeys(tasks))}
        task_of = np.asarray([numbers[task] for task in tasks], np.int64)
        self._known = {size: _of_items(rows, owners[size], size, task_of) for size, rows in texts.items()}

    def items_in(self, text: str) -> set[int]:
        """The numbers of the items, over all suites, of which the text has a run."""
        words = [self._numbers.get(word, 0) for word in words_of(text)]
        touched: set[int] = set()
        for size, (known, owners) in self._known.items():
            hashes = np.unique(runs(words, size))
            low, high = np.searchsorted(known, hashes, "left"), np.searchsorted(known, hashes, "right")
            for first, last in zip(low[high > low].tolist(), high[high > low].tolist(), strict=True):
                touched.update(owners[first:last].tolist())
        return touched


def contamination(
    documents: Iterable[tuple[str, str]], suites: Mapping[str, Items], unchecked: Sequence[str] = ()
) -> Contamination:
    """Compares documents, (text, source) each, with every suite's items."""
    known = Suites(suites)
    found: set[int] = set()
    touched: Counter[int] = Counter()
    sources: list[str] = []
    count = 0
    for text, source in documents:
        count += 1
        items = known.items_in(text)
        if not items:
            continue
        found |= items
        touched.update({known.suite_of[item] for item in items})
        if len(sources) < 10:
            sources.append(source)
    items_found = Counter(known.suite_of[item] for item in found)
    overlaps = tuple(
        Overlap(name, size, items_found[number], touched[number])
        for number, (name, size) in enumerate(zip(known.names, known.sizes, strict=True))
    )
    return Contamination(count, overlaps, tuple(unchecked), tuple(sources))


def _of_items(
    texts: Sequence[Sequence[int]], owners: Sequence[int], size: int, task_of: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """All runs of `size` in order, and the item that has each, without those that are a task's own wording."""
    lengths = np.asarray([len(text) for text in texts])
    starts = np.cumsum(lengths) - lengths
    counts = lengths - size + 1
    # All texts as one, of which those runs are taken that lie within a text.
    hashes = runs([word for text in texts for word in text], size)
    hashes = hashes[np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())]
    items = np.repeat(np.asarray(owners, np.int64), counts)
    order = np.lexsort((items, hashes))
    hashes, items = hashes[order], items[order]
    first = np.append(True, (hashes[1:] != hashes[:-1]) | (items[1:] != items[:-1]))
    hashes, items = hashes[first], items[first]
    tasks = task_of[items]
    order = np.lexsort((tasks, hashes))
    begins = np.append(True, (np.diff(hashes[order]) != 0) | (np.diff(tasks[order]) != 0))
    which = np.cumsum(begins) - 1
    shared = np.empty(len(hashes), np.int64)
    shared[order] = np.bincount(which)[which]
    members = np.bincount(task_of)[tasks]
    own = (shared <= COMMON * members) | (members < FEW)
    return hashes[own], items[own]
