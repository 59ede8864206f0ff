"""English text cut into sentences by its punctuation."""

from __future__ import annotations

import re

_CLOSING = r"[\"'”’)\]]*"
_END = re.compile(rf"[.!?]+{_CLOSING}(?=\s+[\"'“‘(\[]*[A-Z0-9])|\n[ \t]*\n")
_STOP = re.compile(rf"[.!?]{_CLOSING}$")
# A single capital is an initial, but for "I", which often ends a sentence.
_SHORTENED = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|Mt|Prof|Rev|Hon|Capt|Col|Gen|Sgt|Lt|Jr|Sr|Messrs|Mme|Mlle|vs|e\.g|i\.e|[A-HJ-Z])\.$"
)


def sentences(text: str, start: int = 0) -> list[str]:
    """The text's sentences in their order, each on one line; those that begin before character `start` are left out.

    A sentence ends at . ! or ? (with the quotation marks and brackets after it) before a capital or a digit, though not
    after a shortened title or an initial; and at an empty line. The last may be cut short: see `is_complete`.
    """
    found: list[str] = []
    begin = 0
    ends = [end.end() for end in _END.finditer(text) if not _SHORTENED.search(text, begin, end.end())]
    for end in [*ends, len(text)]:
        piece = text[begin:end]
        words = " ".join(piece.split())
        if words and begin + len(piece) - len(piece.lstrip()) >= start:
            found.append(words)
        begin = end
    return found


def is_complete(sentence: str) -> bool:
    """Whether it ends as a sentence does: at . ! or ?, and not at a shortened title, which more text would follow."""
    return bool(_STOP.search(sentence)) and not _SHORTENED.search(sentence)
