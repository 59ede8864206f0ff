"""tools/build_text.py keeps what it holds out apart, takes out what it says, and does the same every time."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairground.training.text import read_documents

ROOT = Path(__file__).resolve().parents[2]
ITEM = "What do health services tell people to use together with clean water to wash germs off their hands?"
RNG = random.Random(3)
WORDS = "the a tall old green boat house child sang ran slept near under quickly softly again there while".split()


def sentence() -> str:
    return " ".join(RNG.choices(WORDS, k=9)).capitalize() + " - " + " ".join(RNG.choices(WORDS, k=9)) + "."


def book(*extra: str) -> str:
    parts = [" ".join(sentence() for _ in range(8)) for _ in range(30)]
    return "\n".join(["CHAPTER I", *parts[:15], *extra, *parts[15:]])


def answer(number: int, text: str, finish_reason: str = "stop") -> dict[str, Any]:
    asked = [{"role": "user", "content": f"What is boat{number} made of? Answer in one sentence."}]
    return {"prompt": asked, "text": text, "finish_reason": finish_reason, "writer": "teacher"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    for name in ("corpora/novels", "written", "benchmarks"):
        (folder / name).mkdir(parents=True)
    held_out = book()
    (folder / "corpora" / "novels" / "Doyle_Lost_1912.txt").write_text(held_out)
    (folder / "corpora" / "novels" / "Copy_Lost_1912.txt").write_text(held_out)
    (folder / "corpora" / "novels" / "Other_Book_1900.txt").write_text(book(f"He asked: {ITEM}"))
    (folder / "corpora" / "novels" / "No_Dashes_1900.txt").write_text(book().replace(" - ", " "))
    questions = [
        *(answer(n, f"A boat{n} is made of wood.") for n in range(200)),
        answer(200, "A boat200 is made of wood. It is a lo", "length"),
        answer(201, "I'm sorry, I don't know."),
    ]
    (folder / "written" / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    opening = "Ada had a boat. " + " ".join(sentence() for _ in range(6))
    row = {"prompt": opening, "text": " Once upon a time, there was", "finish_reason": "length", "writer": "child"}
    (folder / "written" / "openings.jsonl").write_text(json.dumps(row) + "\n" + '{"prompt": "still being wri')
    for out in ("out", "again"):
        command = [sys.executable, str(ROOT / "tools" / "build_text.py"), "corpora", "written", out]
        subprocess.run([*command, "--share", "questions=0.5"], cwd=folder, check=True, capture_output=True)
    return folder


def test_what_is_held_out_is_not_trained_on(built: Path) -> None:
    held_out, train = (list(read_documents(built / "out" / part / "novels.jsonl.gz")) for part in ("held_out", "train"))
    assert held_out
    assert train
    sentences = {part for document in held_out for part in document.text.split(". ")}
    assert not sentences & {part for document in train for part in document.text.split(". ")}


def test_counts_say_what_was_taken_out(built: Path) -> None:
    counts = json.loads((built / "out" / "counts.json").read_text())
    removed = {kind: {rule: row["documents"] for rule, row in c["removed"].items()} for kind, c in counts.items()}
    assert removed["novels"]["lost dashes"] == 1
    assert removed["novels"]["in a benchmark"] == 1
    assert removed["novels"]["said before"] == counts["novels"]["held_out"]["documents"]
    assert removed["questions"]["refusal"] == 1
    assert counts["questions"]["removed"]["unfinished sentence"]["words"] == 4
    assert counts["openings"]["removed"]["a second story"]["words"] == 6
    questions = counts["questions"]
    assert 0 < questions["held_out"]["documents"] < 20
    assert questions["train"]["documents"] == round((201 - questions["held_out"]["documents"]) / 2)


def test_a_conversation_is_whole(built: Path) -> None:
    for document in read_documents(built / "out" / "train" / "questions.jsonl.gz"):
        assert document.messages is not None
        asked, answered = document.messages
        number = asked.content.split("boat")[1].split()[0]
        assert answered.content == f"A boat{number} is made of wood."


def test_the_same_again(built: Path) -> None:
    files = sorted(path.relative_to(built / "out") for path in (built / "out").rglob("*.*"))
    assert len(files) == 6
    for file in files:
        assert (built / "out" / file).read_bytes() == (built / "again" / file).read_bytes()


def test_fewer_words_to_measure_on(built: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "build_text.py"), "corpora", "written", "few"]
    subprocess.run([*command, "--held-out-words", "300"], cwd=built, check=True, capture_output=True)
    whole, few = (json.loads((built / out / "counts.json").read_text()) for out in ("out", "few"))
    assert sum(kind["held_out"]["words"] for kind in whole.values()) > 600
    assert 0 < sum(kind["held_out"]["words"] for kind in few.values()) <= 400
