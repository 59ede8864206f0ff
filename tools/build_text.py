"""The text that our five small models learn from: `python tools/build_text.py CORPORA WRITTEN OUT [--share KIND=PART]`.

CORPORA holds novels/, gutenberg/, tinyshakespeare.txt and the WikiText-2 files; WRITTEN what teachers wrote
(questions.jsonl, stories.jsonl, explanations.jsonl, openings.jsonl, or .jsonl.gz; a missing one is left out). OUT gets
train/KIND.jsonl.gz and held_out/KIND.jsonl.gz, and counts.json with what every rule took out.

What is held out is decided by source: whole novels, WikiText's own test articles, and for what teachers wrote, the
prompt. It is deduplicated first, so nothing in train/ repeats it. The order is by the hash of each text, so a share of
a kind is a random sample and the same one every time.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fairground.training.cleaning import Protected, Removed, decontaminate, deduplicate, flaw, words_of
from fairground.training.prose import articles, paragraphs, passages, tidy, verses, whole_sentences
from fairground.training.text import Document
from fairground.types import Message

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "fairground" / "evaluation" / "suites" / "house"

HELD_OUT_NOVELS = ("Conrad_Almayer_1895", "Doyle_Lost_1912", "Kipling_Captains_1896", "Wcollins_Basil_1852")
HELD_OUT_PART = 0.04  # of prompts and of passages of verse
LEFT_OUT = {
    "Galsworthy_River_1933": "its apostrophes and quotation marks are lost",
    "Lee_Brown_1884": "its apostrophes are lost",
    "Hardy_Madding_1874": "lines are missing",
    "Haggard_She_1887": "holds pages of Greek",
    "shakespeare-caesar": "the spelling of 1623",
    "shakespeare-hamlet": "the spelling of 1623",
    "shakespeare-macbeth": "the spelling of 1623",
}
# Two novels in five lost their dashes and brackets in conversion ("simplicity itself rusticity, even"), and nobody can
# say where they stood. The others have 10 dashes in 10,000 words or more, 69 in the median.
FEWEST_DASHES = 3 / 10_000
VERSE = ("bible-kjv", "blake-poems", "milton-paradise", "tinyshakespeare", "whitman-leaves")
SHORTEST = 50  # words of a passage; poems may have half of it
LEAST, MOST = 300, 400  # words of a passage, so that a context of 512 tokens holds most of them whole
# Letters of other encodings stand where a file was converted wrongly, and nobody can say which was meant.
DAMAGED_LETTER = re.compile(r"[^\x00-\x7f£½°à-ìîïñ-öø-üÀÂÇ-ÉæœÆŒ]")
AS_TEXT = 0.5  # of the stories and explanations; the others stay conversations
SHORTEST_OF = {"questions": 1, "stories": 30, "explanations": 10, "openings": 30}  # words
# Words of the prompts that say how to answer, not what about.
ASKING = frozenset(
    """answer one sentence sentences can you write with the words give three that for tell short story simple about
    paragraph explain briefly matter does what why how who where when should everybody know and which happens called
    children called some few people used made different from find did has have are was were this who but""".split()
)
KINDS = ("novels", "reference", "verse", *SHORTEST_OF)
ASKED = ("passage", "context", "query", "question", "prompt")

Rows = Iterable[tuple[Document, bool]]  # a document, and whether it is held out


class Counts:
    """Documents and words before and after every rule, by kind."""

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, dict[str, int]]] = {}

    def add(self, kind: str, rule: str, removed: Removed) -> None:
        """Adds to what a rule took out of a kind."""
        row = self.rules.setdefault(kind, {}).setdefault(rule, {"documents": 0, "shortened": 0, "words": 0})
        row["documents"] += removed.documents
        row["shortened"] += removed.shortened
        row["words"] += removed.words

    def drop(self, kind: str, rule: str, text: str) -> None:
        """Adds one document."""
        self.add(kind, rule, Removed(1, 0, len(text.split())))

    def shorten(self, kind: str, rule: str, before: str, after: str) -> None:
        """Adds a document that lost its end."""
        self.add(kind, rule, Removed(0, 1, len(before.split()) - len(after.split())))


def decoded(file: Path) -> str:
    """Old files are UTF-8, or else Windows-1252."""
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def chance(text: str, purpose: str) -> float:
    """A number from 0 to 1 that depends on nothing but the text and what it is for."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{text}".encode()).digest()[:7]) / 256**7


def novels(corpora: Path, counts: Counts) -> Rows:
    """Passages of novels and other books in prose."""
    files = [*(corpora / "novels").glob("*.txt"), *(corpora / "gutenberg").glob("*.txt")]
    for file in sorted(file for file in files if file.stem not in VERSE):
        text = decoded(file)
        if file.stem in LEFT_OUT:
            counts.drop("novels", "damaged file", text)
            continue
        book = paragraphs(text)
        if sum(paragraph.count(" - ") for paragraph in book) < FEWEST_DASHES * len(text.split()):
            counts.drop("novels", "lost dashes", text)
            continue
        for passage in passages(book, LEAST, MOST):
            if len(passage.split()) < SHORTEST:
                counts.drop("novels", "short", passage)
            elif DAMAGED_LETTER.search(passage):
                counts.drop("novels", "damaged letters", passage)
            else:
                yield Document(passage, None, file.stem), file.stem in HELD_OUT_NOVELS


def reference(corpora: Path, counts: Counts) -> Rows:
    """Passages of Wikipedia's articles, as WikiText has them."""
    for file in sorted(corpora.glob("wikitext2_*.txt")):
        for article in articles(decoded(file)):
            for passage in passages(article, LEAST, MOST):
                if len(passage.split()) < SHORTEST:
                    counts.drop("reference", "short", passage)
                    continue
                yield Document(passage, None, file.stem), file.stem.endswith("test")


def verse(corpora: Path, counts: Counts) -> Rows:
    """Poems and plays with their lines, and the Bible without its numbers."""
    files = [*corpora.glob("*.txt"), *(corpora / "gutenberg").glob("*.txt")]
    for file in sorted(file for file in files if file.stem in VERSE):
        text = decoded(file)
        bible = file.stem == "bible-kjv"
        found = paragraphs(re.sub(r"\s+\d+:\d+\s", "\n\n", text)) if bible else verses(text)
        for passage in passages(found, LEAST, MOST):
            if len(passage.split()) < SHORTEST // 2:
                counts.drop("verse", "short", passage)
                continue
            yield Document(passage, None, file.stem), chance(passage, "held out") < HELD_OUT_PART


def written(folder: Path, kind: str, counts: Counts) -> Rows:
    """What a teacher wrote: an opening with its story is a text, an answer to a question ends a conversation."""
    file, packed = folder / f"{kind}.jsonl", folder / f"{kind}.jsonl.gz"
    if not file.is_file() and not packed.is_file():
        return
    with file.open(encoding="utf-8") if file.is_file() else gzip.open(packed, "rt", encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return  # its teacher is still writing
            row = json.loads(line)
            asked, answer = row["prompt"], row["text"]
            prompt = asked if isinstance(asked, str) else asked[-1]["content"]
            text = tidied(prompt + answer if isinstance(asked, str) else answer)
            short = first_story(text) if isinstance(asked, str) else text
            if short != text:
                counts.shorten(kind, "a second story", text, short)
            elif row["finish_reason"] != "stop":
                short = whole_sentences(text)
                counts.shorten(kind, "unfinished sentence", text, short)
            if fault := flaw(short) or misses(prompt, short) or (len(short.split()) < SHORTEST_OF[kind] and "short"):
                counts.drop(kind, fault, short)
                continue
            turns = None
            if not isinstance(asked, str) and (kind == "questions" or chance(prompt, "form") >= AS_TEXT):
                turns = (*(Message(turn["role"], turn["content"]) for turn in asked), Message("assistant", short))
                short = "\n\n".join(turn.content for turn in turns)
            yield Document(short, turns, row["writer"]), chance(prompt, "held out") < HELD_OUT_PART


def misses(prompt: str, answer: str) -> str | None:
    """Why an answer does not answer: it leaves out what it was asked about, talks of itself, or loses a quotation mark.

    Half of the words of what was asked must come back, and all that a sentence was to be written with.
    """
    if any(line.count('"') % 2 for line in answer.split("\n")):
        return "open quotation"
    if "sentence" in prompt and re.search(r"\b(?:sentences?|phrases?|the words?|example of)\b", answer):
        return "about itself"
    asked = {word[:4] for word in words_of(prompt) if len(word) > 2 and word not in ASKING}
    found = asked & {word[:4] for word in words_of(answer)}
    return "off the subject" if len(found) < len(asked) / (1 if "with the words" in prompt else 2) else None


def tidied(text: str) -> str:
    """A text of several lines with one way to write quotation marks, dashes and blanks."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(tidy(line) for line in text.split("\n"))).strip()


def first_story(text: str) -> str:
    """The text up to where another story begins: its writer was never told to stop."""
    again = text.find("Once upon a time", 40)
    return text if again < 0 else whole_sentences(text[:again])


def protected(benchmarks: Path) -> Iterator[str]:
    """Every text of the house suite's and the benchmarks' items, alone and as a model sees them, choice by choice."""
    for file in sorted([*HOUSE.rglob("*.jsonl"), *benchmarks.glob("*.jsonl")]):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            asked = " ".join(row[key] for key in ASKED if key in row).removeprefix("Question: ")
            yield asked
            yield " ".join(row.get("sentences", ()))
            endings = [*row.get("choices", ()), *([row["continuation"]] if "continuation" in row else ())]
            for ending in endings:
                yield ending
                for start in row.get("context_options", [asked]):
                    yield f"{start} {ending}"
            yield from row.get("turns", ())


def build(arguments: argparse.Namespace) -> dict[str, Any]:
    """Writes all kinds and returns what counts.json says."""
    counts = Counts()
    corpora, folder = arguments.corpora, arguments.written
    sources: dict[str, Callable[[], Rows]] = {
        "novels": lambda: novels(corpora, counts),
        "reference": lambda: reference(corpora, counts),
        "verse": lambda: verse(corpora, counts),
        **{kind: partial(written, folder, kind, counts) for kind in SHORTEST_OF},
    }
    began = time.monotonic()
    items = Protected(protected(arguments.benchmarks or corpora.parent / "benchmarks"))
    sets: dict[str, tuple[list[Document], list[Document]]] = {}
    for kind, rows in sources.items():
        read = list(rows())
        held = [document for document, out in read if out]
        kept, removed = deduplicate([*held, *(document for document, out in read if not out)])
        counts.add(kind, "said before", removed)
        first = {id(document) for document in held}
        parts = []
        for part in ([d for d in kept if id(d) in first], [d for d in kept if id(d) not in first]):
            clean, removed = decontaminate(part, items)
            counts.add(kind, "in a benchmark", removed)
            parts.append(sorted(clean, key=lambda document: chance(document.text, "order")))
        sets[kind] = parts[0], parts[1][: round(arguments.share.get(kind, 1.0) * len(parts[1]))]
        print(f"{kind:13}{len(read):8,} documents read in {time.monotonic() - began:4.0f} s", file=sys.stderr)
    train_part = part_of(arguments.words, [train for _, train in sets.values()])
    held_part = part_of(arguments.held_out_words, [held for held, _ in sets.values()])
    report = {}
    for kind, (held, train) in sets.items():
        held, train = held[: round(held_part * len(held))], train[: round(train_part * len(train))]
        write(arguments.out / "held_out" / f"{kind}.jsonl.gz", held)
        write(arguments.out / "train" / f"{kind}.jsonl.gz", train)
        report[kind] = {"train": size(train), "held_out": size(held), "removed": counts.rules.get(kind, {})}
    (arguments.out / "counts.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def part_of(most: int | None, kinds: list[list[Document]]) -> float:
    """The part of every kind that makes `most` words of them all, at most 1; None: all of them."""
    total = sum(map(words, kinds))
    return min(1.0, most / total) if most is not None and total else 1.0


def words(documents: list[Document]) -> int:
    """Between white space."""
    return sum(len(document.text.split()) for document in documents)


def size(documents: list[Document]) -> dict[str, int]:
    """Documents, words, and bytes of UTF-8."""
    return {
        "documents": len(documents),
        "words": words(documents),
        "bytes": sum(len(document.text.encode()) for document in documents),
    }


def write(file: Path, documents: list[Document]) -> None:
    """JSON lines; the same documents give the same bytes. No file for no documents."""
    file.unlink(missing_ok=True)
    if not documents:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(file, "wb", mtime=0) as lines:
        for document in documents:
            row: dict[str, Any] = {"text": document.text, "source": document.source}
            if document.messages is not None:
                turns = [{"role": turn.role, "content": turn.content} for turn in document.messages]
                row = {"messages": turns, "source": document.source}
            lines.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def share(text: str) -> tuple[str, float]:
    """KIND=PART of the command line."""
    kind, _, part = text.partition("=")
    try:
        good = kind in KINDS and 0 <= float(part) <= 1
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text} is not one of {', '.join(KINDS)} with a part from 0 to 1 after =")
    return kind, float(part)


def main() -> None:
    """Parses, builds, and prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("written", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--benchmarks", type=Path, help="folder of items to keep out; default: beside CORPORA")
    parser.add_argument("--share", action="append", default=[], type=share, metavar="KIND=PART", help="novels=0.25")
    parser.add_argument("--words", type=int, help="train on so many at most, all kinds cut alike")
    parser.add_argument("--held-out-words", type=int, help="measure on so many at most, all kinds cut alike")
    arguments = parser.parse_args()
    if not arguments.corpora.is_dir() or not arguments.written.is_dir():
        parser.error("CORPORA and WRITTEN must be folders that are there")
    arguments.share = dict(arguments.share)
    for kind, row in build(arguments).items():
        print(f"{kind:13}{row['train']['words']:12,} words to train on{row['held_out']['words']:10,} held out")


if __name__ == "__main__":
    main()
