"""Runs of 13 words that data and suites share: found by the machinery, and by looking at every run one by one."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from command import Command, in_this_process

from fairground.evaluation.suite import load_suite
from fairground.evaluation.texts import suite_texts
from fairground.training.contamination import Items, Overlap, contamination

A = "when the first snow fell that year nobody in the valley had wood enough to last"  # 16 words
B = "which metal is liquid at the usual temperature of rooms"  # 10 words
C = "what is eight plus six"


def items(*texts: str, task: str = "asked") -> Items:
    return [(task, (text,)) for text in texts]


def found(text: str, known: Items) -> tuple[int, int]:
    (overlap,) = contamination([(text, "a, line 1")], {"suite": known}).overlaps
    return overlap.found, overlap.documents


def test_thirteen_words_are_an_overlap_and_twelve_are_none() -> None:
    words = A.split()
    assert found(f"He said: {' '.join(words[:13]).upper()}!", items(A, C)) == (1, 1)
    assert found(f"He said: {' '.join(words[:12])} more.", items(A, C)) == (0, 0)


def test_a_short_item_counts_whole_and_a_very_short_one_never() -> None:
    assert found(f"Tell me {B}, please.", items(A, B, C)) == (1, 1)
    assert found(" ".join(B.split()[:-1]), items(A, B, C)) == (0, 0)
    assert found(C, items(C)) == (0, 0)


def test_what_most_items_of_a_task_say_is_the_tasks_wording() -> None:
    rule = "read the following text with care and then say which of the answers below is the right one"
    known = items(*(f"{rule} {each}" for each in (A, B, "one " * 13, "two " * 13)))
    assert found(rule, known) == (0, 0)
    assert found(f"{rule} {A}", known) == (1, 1)


def test_every_suite_is_counted_and_those_not_at_hand_are_named() -> None:
    texts = [(A, "a.jsonl, line 1"), ("nothing of any", "a.jsonl, line 2"), (f"{A} {B}", "a.jsonl, line 3")]
    result = contamination(texts, {"one": items(A, C), "two": items(B), "three": items(C)}, ["far"])
    assert result.overlaps == (Overlap("one", 2, 1, 2), Overlap("two", 1, 1, 1), Overlap("three", 1, 0, 0))
    assert result.sources == ("a.jsonl, line 1", "a.jsonl, line 3")
    assert result.sentence == (
        "The data hold 1 of 2 items of one (in 2 documents) and 1 of 1 items of two (in 1 document), so measures on "
        "them will be too good: see a.jsonl, line 1; not checked, as their data are not here: far."
    )
    clean = contamination(texts[1:2], {"one": items(A)})
    assert clean.sentence == "None of 1 document shares a run of 13 words with one."


def test_it_finds_what_looking_at_every_run_finds() -> None:
    """On random texts of few words, where many runs are shared."""
    rng = random.Random(3)
    words = "ab cd".split()
    known = [" ".join(rng.choices(words, k=rng.randint(5, 30))) for _ in range(60)]
    data = [" ".join(rng.choices(words, k=rng.randint(5, 40))) for _ in range(60)]

    def runs(text: str, size: int) -> set[str]:
        own = re.findall(r"\w+", text)
        return {" ".join(own[at : at + size]) for at in range(len(own) - size + 1)}

    touched = {
        (d, i)
        for d, text in enumerate(data)
        for i, item in enumerate(known)
        if len(item.split()) >= 8 and runs(text, min(13, len(item.split()))) & runs(item, min(13, len(item.split())))
    }
    assert 5 < len({i for _, i in touched}) < 60
    (overlap,) = contamination(((text, "") for text in data), {"suite": items(*known)}).overlaps
    assert (overlap.found, overlap.documents) == (len({i for _, i in touched}), len({d for d, _ in touched}))


def test_an_item_shows_its_own_words_and_no_others() -> None:
    shown = next(texts for _, texts in suite_texts(load_suite("house")))
    question, choices = shown[0], shown[2:6]
    assert not question.startswith("Question")
    assert f"{' '.join(question.split()[-12:])} {choices[0]}" in shown


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


def test_the_command_says_it_and_the_card_names_it(command: Command, text: Path, words: Path) -> None:
    task, shown = next((task, texts) for task, texts in suite_texts(load_suite("house")) if len(texts[0].split()) > 13)
    rows = [*(text / "documents.jsonl").read_text().splitlines()[:30], json.dumps({"text": shown[0]})]
    Path("mine.jsonl").write_text("\n".join(rows) + "\n")
    ran = command("train", "llama:60k", "mine.jsonl", "--tokenizer", str(words), "--tokens", "512", "--context", "32",
                  "--out", "made", "--json")  # fmt: skip
    assert ran.status == 0, ran.err
    assert "items of house (in 1 document), so measures on them will be too good: see mine.jsonl, line 31" in ran.err, (
        task
    )
    kept = json.loads(Path("made/training.json").read_text())["contamination"]
    assert kept["suites"]["house"]["documents"] == 1
    assert "mmlu" in kept["unchecked"]
    assert kept["summary"] in Path("made/README.md").read_text()
