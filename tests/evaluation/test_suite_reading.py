"""What a malformed suite gets: SuiteError with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairground.errors import SuiteError
from fairground.evaluation import load_suite
from fairground.evaluation.second_reading import read_second_reading
from fairground.evaluation.tasks import MultipleChoice, OpenAnswers, OrderDiscrimination

TOML = """name = "mine"
version = "1"
licence = "CC0-1.0"

[tasks.quiz]
kind = "multiple_choice"
file = "quiz.jsonl"
shots = "quiz.jsonl"
prompt = "Q: {question}\\nA:"
metric = "accuracy"

[tasks.order]
kind = "order"
file = "passages.jsonl"
difficulty = "swapped"
metric = "coherence"

[tasks.open]
kind = "open"
file = "open.jsonl"
metric = "relevance"
"""
QUIZ: list[dict[str, Any]] = [
    {"id": "q-1", "question": "What is two plus two?", "choices": ["4", "5"], "gold": 0},
    {"id": "q-2", "question": "Which animal barks at the postman in the comic?", "choices": ["Cat", "Dog"], "gold": 1},
    {"id": "q-shot-1", "question": "What is one plus one?", "choices": ["3", "2"], "gold": 1},
]


def write(folder: Path, toml: str = TOML, **files: str | list[dict[str, Any]]) -> Path:
    content: dict[str, str | list[dict[str, Any]]] = {
        "quiz": QUIZ,
        "passages": [{"id": "p-1", "sentences": ["One came.", "Two followed it.", "All left."]}],
        "open": [{"id": "o-1", "prompt": "Why is the sky blue?"}],
        **files,
    }
    (folder / "suite.toml").write_text(toml, encoding="utf-8")
    for name, lines in content.items():
        text = lines if isinstance(lines, str) else "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8", errors="surrogatepass")
    return folder


def test_a_users_folder_is_read(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path))
    quiz, order, answers = suite.tasks
    assert isinstance(quiz, MultipleChoice)
    assert [item.id for item in quiz.items] == ["q-1", "q-2"]
    assert [item.id for item in quiz.shots] == ["q-shot-1"]
    assert quiz.max_shots == suite.max_shots == 1
    assert isinstance(order, OrderDiscrimination)
    assert order.difficulty == "swapped"
    assert isinstance(answers, OpenAnswers)
    assert answers.max_tokens == 64
    assert (suite.name, suite.version, suite.licence, suite.probe.repeats) == ("mine", "1", "CC0-1.0", 6)


def test_the_hash_follows_the_content_and_nothing_else(tmp_path: Path) -> None:
    first = load_suite(write(tmp_path)).hash
    (tmp_path / "second_reading.jsonl").write_text("not read", encoding="utf-8")
    assert load_suite(tmp_path).hash == first
    assert load_suite(write(tmp_path, quiz=[*QUIZ[:1], {**QUIZ[1], "gold": 0}, QUIZ[2]])).hash != first


def item(**changes: Any) -> list[dict[str, Any]]:
    """The quiz with its second line changed; None removes a key."""
    changed = {key: value for key, value in {**QUIZ[1], **changes}.items() if value is not None}
    return [QUIZ[0], changed, QUIZ[2]]


@pytest.mark.parametrize(
    ("lines", "at", "says"),
    [
        ("{bad\n", 1, "not a line of JSON"),
        ('{"id": "q-1", "gold": NaN}\n', 1, "NaN is not a number"),
        ('{"id": "q-1", "id": "q-2"}\n', 1, "'id' stands twice"),
        ("[" * 100_000 + "\n", 1, "not a line of JSON"),
        ("[]\n", 1, "must be a JSON object"),
        ("", 1, "the line is empty"),
        (json.dumps(QUIZ[0]) + "\n\n" + json.dumps(QUIZ[1]), 2, "the line is empty"),
        (json.dumps(QUIZ[2]) + "\n", 7, "no test items"),
        ('{"id": "q-1", "question": "\\ud800?", "choices": ["a", "b"], "gold": 0}\n', 1, "surrogate"),
        (item(gold=None), 2, "'gold' is missing"),
        (item(question=None), 2, "'question' is missing"),
        (item(answer="Dog"), 2, "'answer' is not known"),
        (item(gold="1"), 2, "'gold' is a string"),
        (item(gold=1.0), 2, "'gold' is a number"),
        (item(gold=True), 2, "'gold' is true or false"),
        (item(gold=2), 2, "from 0 to 1"),
        (item(gold=-1), 2, "from 0 to 1"),
        (item(question=7), 2, "'question' is a whole number"),
        (item(question="  "), 2, "'question' is empty"),
        (item(choices="Dog"), 2, "'choices' is a string"),
        (item(choices=["Dog"]), 2, "at least 2"),
        (item(choices=["Dog", "Dog"]), 2, "'Dog' twice"),
        (item(choices=["Cat", " Dog"]), 2, "begins or ends with space"),
        (item(choices=["Cat", ""]), 2, "choices[1]' is empty"),
        (item(choices=["Cat", None]), 2, "choices[1]' is missing"),
        (item(id="q-1"), 2, "already that of"),
        (item(id=""), 2, "'id' is empty"),
        (item(id=3), 2, "'id' is a whole number"),
        (item(id="p-1"), 1, "already that of"),
        (item(question="what is  two plus two?"), 2, "asks the same as 'q-1'"),
        (item(question="What is one plus one?"), 3, "asks the same as 'q-2'"),
        (
            [*QUIZ, {**QUIZ[1], "id": "q-3", "question": "Which animal barks at the new postman in the comic?"}],
            4,
            "nearly",
        ),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, lines: Any, at: int, says: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load_suite(write(tmp_path, quiz=lines))
    file = {"p-1": "passages.jsonl"}.get(lines[1]["id"] if isinstance(lines, list) else "", "quiz.jsonl")
    file = "suite.toml" if says == "no test items" else file
    assert f"{file}:{at}: " in str(caught.value)
    assert says in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("files", "where", "says"),
    [
        ({"passages": [{"id": "p-1", "sentences": ["One.", "Two."]}]}, "passages.jsonl:1: ", "at least 3"),
        ({"passages": [{"id": "p-1", "sentences": ["One.", "One.", "Two."]}]}, "passages.jsonl:1: ", "twice"),
        ({"passages": [{"id": "p-1", "text": "One."}]}, "passages.jsonl:1: ", "'sentences' is missing"),
        ({"open": [{"id": "o-1", "prompt": "Why?"}, {"id": "o-2", "prompt": ""}]}, "open.jsonl:2: ", "empty"),
        ({"open": [{"id": "o-1", "prompt": "Why?"}, {"id": "o-2", "prompt": "why?"}]}, "open.jsonl:2: ", "the same as"),
    ],
)
def test_other_kinds_are_checked_too(tmp_path: Path, files: Any, where: str, says: str) -> None:
    with pytest.raises(SuiteError, match=says) as caught:
        load_suite(write(tmp_path, **files))
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('kind = "order"', 'kind = "riddle"', 13, "kind 'riddle' is unknown"),
        ('name = "mine"', "name = 3", 1, "'name' must be a string"),
        ('licence = "CC0-1.0"', "", 1, "'licence' must be"),
        ('licence = "CC0-1.0"', 'licence = "CC0-1.0"\nlicense = "x"', 4, "'license' is not known"),
        ('difficulty = "swapped"', 'difficulty = "hard"', 15, "difficulty is 'hard'"),
        ('metric = "coherence"', 'metric = "accuracy"', 16, "counts in 'coherence'"),
        ('file = "open.jsonl"', 'file = "../open.jsonl"', 20, "outside the suite's folder"),
        ('file = "open.jsonl"', 'file = "/etc/passwd"', 20, "outside the suite's folder"),
        ('prompt = "Q: {question}\\nA:"', 'prompt = "Q: {question.x}"', 9, "plain names"),
        ('prompt = "Q: {question}\\nA:"', 'prompt = "Q: {question"', 9, "no template"),
        ('prompt = "Q: {question}\\nA:"', 'prompt = "Q: {gold}"', 9, "may not show 'gold'"),
        ('prompt = "Q: {question}\\nA:"', 'prompt = "A:"', 9, "must have fields"),
        ('file = "open.jsonl"', 'file = "open.jsonl"\nmax_tokens = 0', 21, "at least 1"),
        ('file = "open.jsonl"', 'file = "open.jsonl"\nstop = "x"', 21, "list of strings"),
        ("[tasks.open]", "[tasks.Open]", 18, "lower-case"),
        ("[tasks.open]", "[probe]\nrepeats = 1\n[tasks.open]", 19, "at least 2"),
    ],
)
def test_a_malformed_suite_toml_is_named(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in TOML
    with pytest.raises(SuiteError) as caught:
        load_suite(write(tmp_path, TOML.replace(old, new)))
    assert f"suite.toml:{line}: " in str(caught.value)
    assert says in str(caught.value)


def test_toml_that_is_none_and_files_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"suite\.toml is not TOML: .*line 1"):
        load_suite(write(tmp_path, 'name = "unclosed\n'))
    with pytest.raises(SuiteError, match="there are no tasks"):
        load_suite(write(tmp_path, TOML.split("[tasks")[0]))
    write(tmp_path)
    (tmp_path / "open.jsonl").unlink()
    with pytest.raises(SuiteError, match=r"open\.jsonl cannot be read"):
        load_suite(tmp_path)
    with pytest.raises(SuiteError, match=r"which has .*, house, "):
        load_suite("huose")
    (tmp_path / "suite.toml").unlink()
    with pytest.raises(SuiteError, match=r"suite\.toml cannot be read"):
        load_suite(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    write(folder)
    (folder / "open.jsonl").rename(tmp_path / "open.jsonl")
    (folder / "open.jsonl").symlink_to(tmp_path / "open.jsonl")
    with pytest.raises(SuiteError, match="outside"):
        load_suite(folder)


def test_a_separator_inside_a_string_does_not_end_the_line(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, open='{"id": "o-1", "prompt": "one\u2028two"}\n'))
    assert suite.of(OpenAnswers)[0].items[0].prompt == "one\u2028two"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"id": "q-1", "answer": "0", "sure": "yes"}, "'answer' must be"),
        ({"id": "q-1", "answer": 0, "sure": "perhaps"}, "'sure' must be"),
        ({"id": "q-1", "answer": 0, "sure": "no", "comment": 3}, "'comment' must be"),
        ({"id": "q-1", "answer": 0}, "'sure' is missing"),
    ],
)
def test_a_malformed_second_reading_is_named(tmp_path: Path, line: dict[str, Any], says: str) -> None:
    path = tmp_path / "second_reading.jsonl"
    path.write_text(json.dumps({"id": "q-0", "answer": 1, "sure": "no"}) + "\n" + json.dumps(line), encoding="utf-8")
    with pytest.raises(SuiteError, match=says) as caught:
        read_second_reading(path)
    assert "second_reading.jsonl:2: " in str(caught.value)


def test_thousands_of_lines_are_checked_in_a_moment(tmp_path: Path) -> None:
    lines = [
        {"id": f"q-{i}", "question": f"word{i} other{i} thing{i % 97} the of what is", "choices": ["a", "b"], "gold": 0}
        for i in range(3_000)
    ]
    assert len(load_suite(write(tmp_path, quiz=[*lines, QUIZ[2]])).of(MultipleChoice)[0].items) == 3_000
