"""Books as running text: what a scanner, a typesetter and a lawyer added is taken off, and paragraphs are whole again.

Old books come with lines broken at column 70, chapter heads, italics between underscores and a licence at the end. A
model would learn all of that, at the cost of what the book says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

BREAK = ""  # in a list of paragraphs: here a chapter or an article ends

WRAPPED = 120  # characters; a file with longer lines has a paragraph on each

_SAME = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "`": "'", "\u00a0": " ", "\t": " ", "…": "...", "\u00ad": None}
)
_DASH = re.compile(r"\s*(?:-{2,}|[—–―])\s*")
_ITALIC = re.compile(r"(?<![^\W_])_([^_\n]+)_(?![^\W_])")
_CLITIC = re.compile(r"(n't|'(?:ve|re|ll|m|d|s))  +", re.IGNORECASE)
_SPACED_CLITIC = re.compile(r"(?<=[A-Za-z]) '(s|ll|ve|re|d|m)(?=[ ,.;?!])")
_SENTENCE_SPACE = re.compile(r"([.!?:;,]['\")]*)  +")
_LOST_PAIR = re.compile(r"(?<=[\w,;])  (\w[^\"().?!]{2,240}?[\w'])(?:  (?=[a-z])| (?=[,;.:]))")
_SPACE_BEFORE = re.compile(r" +([,;:.!?)])(?![.\w])")
_SPACES = re.compile(r" {2,}")

_START = re.compile(r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*", re.IGNORECASE)
_END = re.compile(r"\*\*\* ?END OF THE PROJECT GUTENBERG EBOOK|^End of (?:the )?Project Gutenberg", re.MULTILINE)

_NUMERAL = r"(?:[ivxlcdm]+|\d+|one|two|three|four|five|six|seven|eight|nine|ten|first|second|third|fourth|the \w+)"
_DIVISION = r"(?:chapter|book|part|volume|vol|section|canto|phase|stave|letter|epilogue|prologue|preface)"
_HEAD = re.compile(
    rf"{_DIVISION}\.?(?: {_NUMERAL}\b.*)?|{_NUMERAL}\.?|the end\.?|finis\.?.*|contents\.?|\[[^\]]*\]?|[\W\d]*",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[.!?:;,][\"')\]]*$|-$|[\"']$")
_SENTENCE = re.compile(
    r"(?<=[.!?])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\b[A-Z]\.)([\"')]*)\s+(?=[\"'(]?[A-Z0-9])"
)


def without_licence(text: str) -> str:
    """The text between Project Gutenberg's own lines; the whole text where there are none."""
    if start := _START.search(text):
        text = text[start.end() :]
    if end := _END.search(text):
        text = text[: end.start()]
    return text


def tidy(paragraph: str, *, brackets_lost: bool = False) -> str:
    """One way to write quotation marks, dashes and blanks; no marks of italics.

    `brackets_lost`: a book whose round brackets became blanks ("the fire  which was low  went out") gets them back.
    """
    text = _DASH.sub(" - ", paragraph.translate(_SAME))
    text = _ITALIC.sub(r"\1", text)
    text = _SENTENCE_SPACE.sub(r"\1 ", _CLITIC.sub(r"\1 ", _SPACED_CLITIC.sub(r"'\1", text)))
    if brackets_lost:
        text = _LOST_PAIR.sub(lambda lost: f" ({lost[1]})" + (" " if lost[0].endswith("  ") else ""), text)
    text = _SPACE_BEFORE.sub(r"\1", text.replace(" . . .", "...").replace(". . .", "..."))
    return _SPACES.sub(" ", text).strip()


def paragraphs(text: str) -> list[str]:
    """A book's paragraphs, tidied, each on one line; `BREAK` where a chapter ends. Heads and page numbers are left out.

    Lines may be whole paragraphs, or broken at a width with or without empty lines between paragraphs. A line was
    broken on purpose where the next word would still have fitted in; without empty lines, a paragraph whose last line
    is full therefore runs into the next.
    """
    lines = [line.rstrip() for line in without_licence(text).replace("\r\n", "\n").split("\n")]
    full = [len(line) for line in lines if line]
    if not full:
        return []
    width = sorted(full)[int(0.98 * (len(full) - 1))]
    empty = 1 - len(full) / len(lines)
    if empty > (0.4 if width > WRAPPED else 0.08):
        blocks: Iterable[str] = (_joined(block, min(width, 80), spaced=True) for block in _blocks(lines))
    elif width > WRAPPED:
        blocks = (line for line in lines if line)
    else:
        blocks = _joined([line for line in lines if line], width, spaced=False).split("\0")
    hyphens = _Hyphens(text)
    brackets_lost = "(" not in text
    found: list[str] = []
    for block in blocks:
        whole = "\n".join(tidy(line, brackets_lost=brackets_lost) for line in hyphens.closed(block).split("\n"))
        if is_head(whole):
            if found and found[-1] != BREAK:
                found.append(BREAK)
        elif whole[0].islower() and found and found[-1][-1:] not in {"", *".!?\"'"}:
            found[-1] += f" {whole}"  # a page ended inside the paragraph
        else:
            found.append(whole)
    return found


def verses(text: str) -> list[str]:
    """Stanzas or speeches, their lines kept, without indents; `BREAK` at heads and where several lines are empty."""
    text = re.sub(r"\n {4,}(?=[a-z])", " ", without_licence(text).replace("\r\n", "\n"))  # the rest of a long verse
    found: list[str] = []
    empty = 0
    for block in re.split(r"(\n[ \t]*\n\s*)", text):
        if not block.strip():
            empty = block.count("\n")
            continue
        whole = "\n".join(tidy(line) for line in block.strip().split("\n"))
        head = is_head(whole)
        if (head or empty > 3) and found and found[-1] != BREAK:
            found.append(BREAK)
        if not head:
            found.append(whole)
    return found


def is_head(paragraph: str) -> bool:
    """Whether it is a chapter's head, a line of a list of contents, a page number, a remark in brackets, or empty."""
    if _HEAD.fullmatch(paragraph):
        return True
    letters = [letter for letter in paragraph if letter.isalpha()]
    if len(letters) > 3 and sum(letter.isupper() for letter in letters) > 0.8 * len(letters):
        return True
    return len(paragraph.split()) < 15 and "\n" not in paragraph and not _ENDS.search(paragraph)


def passages(paragraphs_: Iterable[str], least: int, most: int) -> Iterator[str]:
    """Consecutive paragraphs put together to `least` up to `most` words, never across a `BREAK`.

    A paragraph longer than `most` is cut between sentences; at a chapter's end a passage may be shorter than `least`.
    """
    held: list[str] = []
    words = 0
    for paragraph in [*paragraphs_, BREAK]:
        for piece in _pieces(paragraph, most) if paragraph else [BREAK]:
            size = len(piece.split())
            if held and (not piece or words >= least or words + size > most):
                yield "\n\n".join(held)
                held, words = [], 0
            if piece:
                held.append(piece)
                words += size


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph, by their punctuation and the capital after it."""
    marked = _SENTENCE.sub("\\1\0", text)
    return [sentence for sentence in marked.split("\0") if sentence.strip()]


def whole_sentences(text: str) -> str:
    """The text up to the end of its last complete sentence, outside quotation marks where it can be; "" without one."""
    ends = [end.end() for end in re.finditer(r"[.!?][\"')*]*(?=\s|$)", text)]
    closed = [end for end in ends if text.count('"', 0, end) % 2 == 0]
    return text[: (closed or ends or [0])[-1]]


def articles(wikitext: str) -> Iterator[list[str]]:
    """The articles of a WikiText file (Merity et al., 2016), each as its paragraphs, written as people write.

    Headings are left out. Of a paragraph with words that the corpus replaced by <unk>, the longest run of sentences
    without one is kept, if it has at least two.
    """
    found: list[str] = []
    for line in wikitext.split("\n"):
        line = line.strip()
        if re.fullmatch(r"= [^=].*[^=] =", line):
            if found:
                yield found
            found = []
        elif line and not line.startswith("="):
            kept = max(_whole_runs(sentences(spoken(line))), key=len)
            if len(kept) > 1:
                found.append(tidy(" ".join(kept)))
    if found:
        yield found


def spoken(line: str) -> str:
    """A line of WikiText with its words, numbers and punctuation put together again."""
    line = re.sub(r" @([-,.])@ ", r"\1", line)
    line = re.sub(r"(?<=\d) ([:/–]) (?=\d)| (‑|-) (?=\d)| (?=°)", r"\1\2", line)
    line = re.sub(r" ([,.;:!?)\]%]|'(?:s|t|re|ve|ll|d|m)\b)", r"\1", line)
    line = re.sub(r"([(\[$£€]) ", r"\1", line)
    line = re.sub(r'" ([^"]*?) "', r'"\1"', line)
    line = re.sub(r"(?<!\w)' ([^']*?) '(?!\w)", r"'\1'", line)
    line = re.sub(r"(\w)' (?=\w)", r"\1' ", line)
    return re.sub(r"(\w) '(?=\s)", r"\1'", line)


def _whole_runs(sentences_: Iterable[str]) -> list[list[str]]:
    runs: list[list[str]] = [[]]
    for sentence in sentences_:
        if "<unk>" in sentence:
            runs.append([])
        else:
            runs[-1].append(sentence)
    return runs


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def _joined(lines: list[str], width: int, *, spaced: bool) -> str:
    """Lines broken at `width` as one; "\\n" stays between verses. If not `spaced`, "\\0" goes between paragraphs."""
    # One blank at a line's start is a lost bracket or nothing; more are an indent.
    lines = [line.lstrip() if line.startswith("  ") else line for line in lines]
    early = [len(line) + 1 + len(following.split()[0]) < width - 1 for line, following in pairwise(lines)]
    if spaced:
        verse = all(early) and not any(line[0].islower() or len(line) > 0.75 * width for line in lines)
        return ("\n" if verse else " ").join(lines)
    short = [
        was_early and len(line) < 0.75 * width and following.lstrip()[0].isupper()
        for (line, following), was_early in zip(pairwise(lines), early, strict=True)
    ]
    pieces = [lines[0]]
    first = True  # whether the line begins a paragraph
    for at, (line, following) in enumerate(pairwise(lines)):
        begins = following.lstrip()[0]
        speakers = line[-1] in "\"'" and begins in "\"'"
        head = first and is_head(line.strip()) and len(line) < 0.8 * width and not begins.islower()
        stops = early[at] and _stops(line) and not begins.islower()
        if first := bool(speakers or head or stops or _HEAD.fullmatch(following.strip())):
            pieces.append("\0")
        elif short[at] and any(short[max(at - 1, 0) : at] + short[at + 1 : at + 2]):  # verses do not come alone
            pieces.append("\n")
        else:
            pieces.append(" ")
        pieces.append(following)
    return "".join(pieces)


def _stops(line: str) -> bool:
    return bool(_ENDS.search(line)) and not line.endswith(("Mr.", "Mrs.", "Dr.", "St."))


def _pieces(paragraph: str, most: int) -> Iterator[str]:
    if len(paragraph.split()) <= most:
        yield paragraph
        return
    verse = "\n" in paragraph
    held: list[str] = []
    words = 0
    for part in paragraph.split("\n") if verse else sentences(paragraph):
        size = len(part.split())
        if held and words + size > most:
            yield ("\n" if verse else " ").join(held)
            held, words = [], 0
        held.append(part)
        words += size
    yield ("\n" if verse else " ").join(held)


class _Hyphens:
    """Whether a word cut at a line's end keeps its hyphen: as the same book writes it elsewhere."""

    _CUT = re.compile(r"\b([A-Za-z]+)- (?=([a-z]+))")

    def __init__(self, text: str) -> None:
        self._words = Counter(re.findall(r"[a-z]+(?:-[a-z]+)?", text.lower()))

    def closed(self, block: str) -> str:
        def close(cut: re.Match[str]) -> str:
            left, right = cut[1].lower(), cut[2]
            return cut[1] + ("" if self._words[left + right] > self._words[f"{left}-{right}"] else "-")

        return self._CUT.sub(close, block)
