"""The style of an answer: how long it is, and how many headings, list items and bold passages it has.

People prefer long and well-set answers whatever they say (Li, Angelopoulos and Chiang, "Does style matter?", LMSYS,
2024), so ratings can be controlled for it. The features are theirs; so is the design, (a - b) / (a + b + 1) of each.
Length is counted in words and marks, which needs no model's tokenizer: a run of letters or digits, a single mark, or
a single character of a script that writes without spaces. Markdown inside fenced code is code, not style.
"""

from __future__ import annotations

import re

FEATURES = ("length", "headings", "lists", "bold")

# Chinese, Japanese, Thai, Lao, Khmer and Burmese put no spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")
_HEADING = re.compile(r"[ ]{0,3}#{1,6}[ \t]+\S")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+\S")
_BOLD = re.compile(r"\*\*(?=\S)[^*\n]+\*\*|(?<!\w)__(?=\S)[^_\n]+__(?!\w)")
_FENCE = re.compile(r"[ ]{0,3}(`{3,}|~{3,})")

Features = tuple[int, int, int, int]
Counts = tuple[float, float, float, float]


def features(text: str) -> Features:
    """(length in words and marks, headings, list items, bold passages) of an answer in Markdown.

    A conversation's features are those of its answers joined by empty lines.
    """
    prose = outside_code(text)
    return (
        sum(1 for _ in _WORD.finditer(text)),
        sum(1 for line in prose if _HEADING.match(line)),
        sum(1 for line in prose if _ITEM.match(line)),
        sum(len(_BOLD.findall(line)) for line in prose),
    )


def difference(a: Counts, b: Counts) -> Counts:
    """(a - b) / (a + b + 1) of each feature of two answers: above 0 where the first has more of it."""
    length, headings, lists, bold = ((x - y) / (x + y + 1) for x, y in zip(a, b, strict=True))
    return length, headings, lists, bold


def outside_code(text: str) -> list[str]:
    """The lines of a Markdown text that lie in no fenced code; an open fence reaches to the end, as in CommonMark."""
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        found = _FENCE.match(line)
        mark = found[1] if found else ""
        if not fence:
            if mark:
                fence = mark
            else:
                lines.append(line)
        elif mark[:1] == fence[0] and len(mark) >= len(fence) and not line.strip().strip(fence[0]):
            fence = ""
    return lines
