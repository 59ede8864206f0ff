"""What the log knows of a battle's text once the text is gone: numbers and tags, and never a word of it."""

from __future__ import annotations

import hmac
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from fairground.arena.style import FEATURES
from fairground.errors import VoteRefused

TAG = re.compile(r"[a-z0-9][a-z0-9 _:+-]{0,39}")
MOST_TAGS = 40
STYLE = len(FEATURES)  # how many differences
DECIMALS = 6  # to which numbers are rounded, so that every machine writes them alike
HASH = re.compile(r"[0-9a-f]{16}")
KNOWN = {"style", "tags", "language", "prompt", "turns", "times", "tokens"}


def checked_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as the log takes them: every name there, None where unknown; numbers rounded to 6 decimals.

    `style`: 4 numbers. `tags`: short words. `language`: a short word. `prompt`: what `prompt_hash` gave. `turns`: how
    many. `times`, `tokens`: numbers by short names, nested as one likes. Raises VoteRefused (400) for anything else.
    """
    if unknown := sorted(set(facts) - KNOWN):
        raise VoteRefused(f"The log has no place for {', '.join(unknown)} in a vote; leave it out.", 400)
    style, language, prompt, turns = (facts.get(name) for name in ("style", "language", "prompt", "turns"))
    if style is not None and (isinstance(style, str) or len(style) != STYLE):
        raise VoteRefused(f"The style of a battle is {STYLE} numbers; give these or none.", 400)
    if prompt is not None and not (isinstance(prompt, str) and HASH.fullmatch(prompt)):
        raise VoteRefused("A prompt stands in the log by its keyed hash alone; give that or none.", 400)
    if turns is not None and not (type(turns) is int and 0 < turns < 10_000):
        raise VoteRefused("The turns of a battle are a whole number from 1; give that or none.", 400)
    return {
        "style": None if style is None else [_number(value) for value in style],
        "tags": checked_tags(facts.get("tags") or ()),
        "language": None if language is None else checked_tags([language])[0],
        "prompt": prompt,
        "turns": turns,
        "times": _numbers(facts.get("times") or {}),
        "tokens": _numbers(facts.get("tokens") or {}),
    }


def checked_tags(tags: Sequence[str]) -> list[str]:
    """Short words, sorted, each once. Raises VoteRefused (400) for what may be a text."""
    if isinstance(tags, str) or len(tags) > MOST_TAGS:
        raise VoteRefused(f"Tags are a list of {MOST_TAGS} words at most; give fewer.", 400)
    for tag in tags:
        if not isinstance(tag, str) or not TAG.fullmatch(tag):
            raise VoteRefused(f"{str(tag)[:40]!r} is no tag; tags are short words in small letters.", 400)
    return sorted(set(tags))


def prompt_hash(key: str, prompt: str) -> str:
    """64 bits, in hexadecimal, of HMAC-SHA-256 over a prompt as it is compared with others.

    Unicode's compatibility forms, case and white space make no difference. Equal prompts are known as equal, and
    without the key nobody can try out what was asked.
    """
    plain = " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())
    return hmac.new(key.encode("ascii"), plain.encode("utf-8", "surrogatepass"), sha256).hexdigest()[:16]


def rounded(value: float) -> float:
    """To 6 decimals; there is one zero."""
    return round(float(value), DECIMALS) + 0.0


def _numbers(value: object, depth: int = 3) -> Any:
    if isinstance(value, Mapping) and depth and len(value) <= MOST_TAGS:
        checked_tags([str(name) for name in value])
        return {str(name): _numbers(inner, depth - 1) for name, inner in value.items()}
    return value if value is None or type(value) is int else _number(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise VoteRefused("A fact about a battle is not a number that the log can hold; give finite numbers.", 400)
    return rounded(value)
