"""Texts that say the same twice, that give away a benchmark's items, or that a writer spoilt, are taken out.

Every function says how much it took out, so that a data card can show it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairground.training.text import Document

SHINGLE = 13  # words; also what counts as the same passage when a benchmark is protected (Brown et al., 2020)
SHORTEST = 8  # an item with fewer words is no passage: "the man went to the shop" proves nothing
FEWEST = 4  # words of an item that no sentence of a conversation may be
LONG = 1_000  # words from which on a document loses the paragraphs that overlap, and not all of itself
PIECE = 200  # characters; what is left of a long document between two cuts, and is shorter, goes too

_DROPPED = re.compile(r"['’]")
_WHOLE_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")
_NO_WORD = re.compile(r"[\W_]+")
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Removed:
    """What a rule took out: whole documents, documents that lost a part, and words in all."""

    documents: int
    shortened: int
    words: int


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation; "don't" is one, "well-known" is two."""
    return _NO_WORD.sub(" ", _DROPPED.sub("", text.lower())).split()


def deduplicate(documents: Sequence[Document], *, most: float = 0.5) -> tuple[list[Document], Removed]:
    """Leaves out what an earlier document has already said, and keeps the rest in its order.

    A document goes if its words are those of an earlier one, or if more than `most` of its 13-word shingles (Broder,
    1997) are in earlier documents, those that went included.
    """
    numbers: dict[str, int] = {}
    words = [numbered(words_of(document.text), numbers) for document in documents]
    shingles = [np.unique(_whole_or(each, SHINGLE)) for each in words]
    owner = np.repeat(np.arange(len(documents)), [len(each) for each in shingles])
    found = np.concatenate(shingles) if shingles else np.empty(0, np.uint64)
    _, first, which = np.unique(found, return_index=True, return_inverse=True)
    seen = owner[first][which] < owner
    share = np.bincount(owner, seen, len(documents)) / np.maximum(np.bincount(owner, minlength=len(documents)), 1)
    kept = [document for document, part in zip(documents, share, strict=True) if part <= most]
    gone = sum(len(each) for each, part in zip(words, share, strict=True) if part > most)
    return kept, Removed(len(documents) - len(kept), 0, gone)


class Protected:
    """Benchmark items that no text to learn from may give away; made once, it serves many calls."""

    def __init__(self, items: Iterable[str], n: int = SHINGLE) -> None:
        self.numbers: dict[str, int] = {}
        self.whole: set[tuple[str, ...]] = set()
        found: dict[int, list[NDArray[np.uint64]]] = {}
        for item in set(items):
            words = words_of(item)
            if len(words) >= FEWEST:
                self.whole.add(tuple(words))
            size = min(len(words), n)
            if size >= min(SHORTEST, n):
                found.setdefault(size, []).append(runs(numbered(words, self.numbers), size))
        self.runs = {size: np.unique(np.concatenate(hashes)) for size, hashes in found.items()}


def decontaminate(
    documents: Iterable[Document], protected: Iterable[str] | Protected, n: int = SHINGLE
) -> tuple[list[Document], Removed]:
    """Leaves out what overlaps with benchmark items, as GPT-3's data were cleaned (Brown et al., 2020, appendix C).

    An overlap is a run of `n` words, compared without case and punctuation, or a whole item of 8 to n - 1 words. A
    document goes; from one of more than 1,000 words, only the paragraphs that overlap go, and what is left between
    them becomes documents of their own. A conversation also goes if a sentence in it is, word for word, an item of 4
    words or more.
    """
    if not isinstance(protected, Protected):
        protected = Protected(protected, n)
    kept: list[Document] = []
    whole = shortened = gone = 0
    for document in documents:
        parts = [words_of(part) for part in document.text.split("\n")]
        hit = _overlapping([[protected.numbers.get(word, 0) for word in part] for part in parts], protected.runs)
        said = (part for message in document.messages or () for part in _WHOLE_SENTENCE.split(message.content))
        asked = any(tuple(words_of(part)) in protected.whole for part in said)
        if not hit and not asked:
            kept.append(document)
            continue
        total = sum(map(len, parts))
        left = list(_between(document, hit)) if document.messages is None and total > LONG else []
        kept += left
        gone += total - sum(len(words_of(piece.text)) for piece in left)
        whole, shortened = whole + (not left), shortened + bool(left)
    return kept, Removed(whole, shortened, gone)


def flaw(text: str) -> str | None:
    """Why an answer that a model wrote is not worth learning from, in a word or two; None where nothing is wrong.

    Empty; a refusal, or talk of being a program; letters of other scripts; the same sentence three times; more than
    three tenths of its 4-grams of words said before.
    """
    words = words_of(text)
    if not words:
        return "empty"
    if _REFUSAL.search(text.lstrip()):
        return "refusal"
    if _ORDINARY.sub("", text):
        return "strange characters"
    sentences = Counter(tuple(words_of(part)) for part in re.split(r"[.!?\n]+", text))
    if any(count >= 3 and len(sentence) >= 3 for sentence, count in sentences.items()):
        return "repetition"
    fours = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    if len(set(fours)) < 0.7 * len(fours):
        return "repetition"
    return None


_REFUSAL = re.compile(
    r"^(?:I'm|I am) (?:sorry|unable|not able|afraid I)|^(?:Sorry|Unfortunately|I cannot|I can't|I don't have)\b"
    r"|\b(?:as|I'm|I am) (?:just |only )?an? (?:AI|artificial|(?:large )?language model|chatbot|text-based)\b",
    re.IGNORECASE,
)
_ORDINARY = re.compile(r"[\x20-\x7e\n“”‘’–—…°£€éèêëàâäáçñóôöùúûüïîíœæÉ]")


def numbered(words: Iterable[str], numbers: dict[str, int]) -> list[int]:
    """Each word's number in `numbers`, new words numbered on from 1."""
    return [numbers.setdefault(word, len(numbers) + 1) for word in words]


def runs(numbers: Sequence[int], size: int) -> NDArray[np.uint64]:
    """A hash of 64 bits for every run of `size` words: one polynomial of scrambled numbers, modulo 2^64."""
    words = _scrambled(numbers)
    hashes = np.zeros(max(len(words) - size + 1, 0), np.uint64)
    for place in range(size):
        hashes = hashes * _ODD + words[place : place + len(hashes)]
    return hashes


def _whole_or(numbers: Sequence[int], size: int) -> NDArray[np.uint64]:
    """The runs of `size` words; of a text that has fewer, the whole."""
    return runs(numbers, min(size, max(len(numbers), 1)))


def _scrambled(numbers: Sequence[int]) -> NDArray[np.uint64]:
    """Small numbers spread over 64 bits (the finaliser of splitmix64; Steele et al., 2014)."""
    bits = np.asarray(numbers, np.uint64) * _ODD
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _overlapping(parts: Sequence[Sequence[int]], known: dict[int, NDArray[np.uint64]]) -> set[int]:
    """The parts that a known run touches; a run may reach over several."""
    numbers = [number for part in parts for number in part]
    hit: set[int] = set()
    for size, own in known.items():
        hashes = runs(numbers, size)
        starts = np.flatnonzero(own[np.minimum(np.searchsorted(own, hashes), len(own) - 1)] == hashes)
        if len(starts):
            part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            hit.update(int(part) for start in starts for part in part_of[start : start + size])
    return hit


def _between(document: Document, hit: set[int]) -> Iterator[Document]:
    held: list[str] = []
    for number, part in enumerate([*document.text.split("\n"), ""]):
        if number in hit or number == document.text.count("\n") + 1:
            if len(piece := "\n".join(held).strip()) >= PIECE:
                yield Document(piece, None, document.source)
            held = []
        else:
            held.append(part)
