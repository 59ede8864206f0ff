"""What a row of battles says beside the battle: how the answers are set, what was asked, and what it was about.

Columns, all optional: LMSYS's `conv_metadata`, `conversation_a` and `conversation_b`, `language`, `is_code`,
`category_tag` and `turn`; this arena's own `style` (four differences), `tags` and `prompt`. Where nested columns stand
in a csv they are JSON. A fact that cannot be read is not known.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Literal

from fairground.arena.categories import categories
from fairground.arena.categories import language as language_of
from fairground.arena.style import Counts, Features, difference, features

Fact = Literal["style", "prompt", "category", "language"]
Cells = Mapping[str, Any]

# For each of style's four: what LMSYS calls it, and what a plain table may.
_COUNTED = (
    ("sum_assistant_{}_tokens", "length_{}"),
    ("header_count_{}", "headings_{}"),
    ("list_count_{}", "lists_{}"),
    ("bold_count_{}", "bold_{}"),
)
_STYLE = ("style", "conv_metadata", *(name.format(side) for names in _COUNTED for name in names for side in "ab"))
_TAGS = ("tags", "is_code", "category_tag", "turn")
_TALK = ("conversation_a", "conversation_b")
COLUMNS: Mapping[Fact, tuple[str, ...]] = {
    "style": (*_STYLE, *_TALK),
    "prompt": ("prompt", *_TALK),
    "category": (*_TAGS, *_TALK),
    "language": ("language", *_TALK),
}
HARD = 6  # of LMSYS's seven criteria, from which on they call a prompt hard

# As LMSYS's classifier writes them.
_LANGUAGES = dict(
    pair.split(":")
    for pair in (
        "afrikaans:af arabic:ar bengali:bn bulgarian:bg catalan:ca chinese:zh croatian:hr czech:cs danish:da dutch:nl "
        "english:en estonian:et finnish:fi french:fr german:de greek:el hebrew:he hindi:hi hungarian:hu indonesian:id "
        "italian:it japanese:ja korean:ko latvian:lv lithuanian:lt malay:ms norwegian:no persian:fa polish:pl "
        "portuguese:pt romanian:ro russian:ru serbian:sr slovak:sk slovenian:sl spanish:es swedish:sv tamil:ta "
        "telugu:te thai:th turkish:tr ukrainian:uk urdu:ur vietnamese:vi unknown:und"
    ).split()
)


def language_code(name: str) -> str:
    """ISO 639-1's code of a language that is given by code or English name; another name as it is, in lower case."""
    name = name.strip().lower()
    return _LANGUAGES.get(name, name)


def style_of(cells: Cells) -> tuple[float, ...] | None:
    """(a - b) / (a + b + 1) of length, headings, lists and bold; None where it is not known."""
    given = _nested(cells.get("style"))
    if isinstance(given, list) and len(given) == len(_COUNTED) and all(_is_number(value) for value in given):
        return tuple(float(value) for value in given)
    counts = _nested(cells.get("conv_metadata"))
    sources = (counts if isinstance(counts, dict) else {}, cells)
    a, b = (_counts(sources, side) for side in "ab")
    if a is None or b is None:
        a, b = (_answers(cells.get(name)) for name in _TALK)
    return None if a is None or b is None else difference(a, b)


def prompt_of(cells: Cells) -> int:
    """A number from 0 that is the same for the same prompt but for case and spaces; -1 where it is not known."""
    given = cells.get("prompt")
    asked = str(given) if isinstance(given, str | int) else next(_said(cells.get("conversation_a"), "user"), "")
    text = " ".join(asked.split()).casefold()
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()) >> 1 if text else -1


def tags_of(cells: Cells, wanted: Collection[Fact]) -> tuple[str, ...]:
    """Its categories, and its language as "language:en". Rules say what the columns leave open."""
    tags: list[str] = []
    if "category" in wanted:
        tags += _given_categories(cells)
        if not any(name in cells for name in ("tags", "is_code", "category_tag")):
            tags += categories(list(_said(cells.get("conversation_a"), "user")))
    if "language" in wanted:
        name = cells.get("language")
        if isinstance(name, str) and name.strip():
            tags.append(f"language:{language_code(name)}")
        elif asked := next(_said(cells.get("conversation_a"), "user"), ""):
            tags.append(f"language:{language_of(asked)}")
    return tuple(dict.fromkeys(tags))


def _given_categories(cells: Cells) -> Iterator[str]:
    tags = _nested(cells.get("tags"))
    for tag in tags.split(",") if isinstance(tags, str) else tags if isinstance(tags, list) else ():
        if isinstance(tag, str) and tag.strip():
            yield tag.strip().lower()
    if _true(cells.get("is_code")):
        yield "code"
    turns = cells.get("turn")
    if str(turns).isdecimal() and int(str(turns)) > 1:
        yield "multi-turn"
    judged = _nested(cells.get("category_tag"))
    for name, said in judged.items() if isinstance(judged, dict) else ():
        if not isinstance(said, dict):
            continue
        if name.startswith("criteria") and sum(map(_true, said.values())) >= HARD:
            yield "hard"
        for key, tag in (("math", "maths"), ("if", "instruction-following"), ("creative_writing", "creative-writing")):
            if _true(said.get(key)):
                yield tag


def _counts(sources: tuple[Cells, ...], side: str) -> Counts | None:
    length, headings, lists, bold = (_count(sources, names, side) for names in _COUNTED)
    if length is None or headings is None or lists is None or bold is None:
        return None
    return length, headings, lists, bold


def _count(sources: tuple[Cells, ...], names: tuple[str, ...], side: str) -> float | None:
    """How many there are in an answer: a number, or a table of numbers to add up."""
    for source in sources:
        for name in names:
            value = _nested(source.get(name.format(side)))
            values = list(value.values()) if isinstance(value, dict) else [value]
            numbers = [float(one) for one in values if one is not None and (_is_number(one) or _is_numeral(one))]
            if len(numbers) == sum(one is not None for one in values) > 0:
                return sum(numbers)
    return None


def _answers(conversation: object) -> Features | None:
    said = list(_said(conversation, "assistant"))
    return features("\n\n".join(said)) if said else None


def _said(conversation: object, role: str) -> Iterator[str]:
    turns = _nested(conversation)
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("role") == role and isinstance(turn.get("content"), str):
            yield turn["content"]


def _nested(value: object) -> Any:
    """A cell's value, parsed where it is the text of a JSON list or object."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def _true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "1"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_numeral(value: object) -> bool:
    return isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal()
