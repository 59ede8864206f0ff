"""Problems made from a seed: right by arithmetic that is not theirs, the same everywhere, no item a solved example."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fairground.errors import SuiteError
from fairground.evaluation import load_suite
from fairground.evaluation.procedural import PROBLEMS, Draw
from fairground.evaluation.runner import Entrant, run_id
from fairground.evaluation.suite import Suite
from fairground.evaluation.tasks import Generation, MultipleChoice
from fairground.types import Completion, Request, Timing

HEAD = 'name = "s"\nversion = "1"\nlicence = "CC0-1.0"\n[tasks.it]\n'
WRITTEN = 'kind = "generation"\nprompt = "{question}\\nAnswer:"\n'
CHOSEN = 'kind = "multiple_choice"\nprompt = "{question}\\nAnswer:"\n'
SIZES = {"digits": 3, "letters": 6, "words": 5}


def table(problem: str, seed: int = 1, count: int = 40, shots: int = 5) -> str:
    size = PROBLEMS[problem].size
    return (
        f'[tasks.it.generated]\nproblem = "{problem}"\n{size} = {SIZES[size]}\nseed = {seed}\ncount = {count}\n'
        f"shots = {shots}\n"
    )


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Suite]:
    def one(text: str) -> Suite:
        (tmp_path / "suite.toml").write_text(HEAD + text, encoding="utf-8")
        return load_suite(tmp_path)

    return one


def solve(problem: str, question: str) -> str:
    """The answer, worked out from the question alone."""
    if found := re.fullmatch(r"What is (\d+ [-+*] \d+)\?", question):
        return str(eval(found[1]))
    asked = re.split(r"[:?] ", question)[-1]
    match problem:
        case "comparison":
            numbers = list(map(int, re.findall(r"\d+", question)))
            return str(max(numbers) if "larger" in question else min(numbers))
        case "copying":
            return asked
        case "reversal":
            return asked[::-1]
        case "counting":
            return str(asked.count(question.split("letter ")[1][0]))
        case _:
            return ", ".join(sorted(asked.split(", ")))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_answer_is_right_and_no_other_choice_is(read: Callable[[str], Suite], problem: str) -> None:
    written, chosen = read(WRITTEN + table(problem)).tasks[0], read(CHOSEN + table(problem)).tasks[0]
    assert isinstance(written, Generation)
    assert isinstance(chosen, MultipleChoice)
    assert len(written.items) == len(chosen.items) == 40
    for item, choice in zip(written.items + written.shots, chosen.items + chosen.shots, strict=True):
        assert item.fields == choice.fields
        right = solve(problem, item.fields["question"])
        assert item.answer == right
        assert choice.choices[choice.gold] == right
        assert len(set(choice.choices)) == len(choice.choices)
        reply = Completion(f" {right}", (1,), "stop", 1, Timing(0.0, (0.1,)))
        assert written.judge(item, Request("x"), reply).measures == {"exact_match": 1.0}
    places = Counter(item.gold for item in chosen.items)
    assert max(places.values()) - min(places.values()) <= 1


@pytest.mark.parametrize("problem", PROBLEMS)
def test_solved_examples_are_never_items(read: Callable[[str], Suite], problem: str) -> None:
    task = read(WRITTEN + table(problem)).tasks[0]
    assert isinstance(task, Generation)
    assert task.max_shots == 5

    def same(question: str) -> tuple[str, ...]:
        return tuple(sorted(re.findall(r"\w+", question)))

    asked = [same(item.fields["question"]) for item in (*task.items, *task.shots)]
    assert len(set(asked)) == 45


def test_where_there_are_hardly_enough_problems_none_is_asked_twice(read: Callable[[str], Suite]) -> None:
    """Of sums of two digits from 1 to 9 there are 45 (2 + 3 is 3 + 2)."""
    task = read(WRITTEN + table("addition", count=40).replace("digits = 3", "digits = 1")).tasks[0]
    assert isinstance(task, Generation)
    pairs = [tuple(sorted(re.findall(r"\d", one.fields["question"]))) for one in (*task.items, *task.shots)]
    assert len(set(pairs)) == 45
    with pytest.raises(SuiteError, match=r"suite.toml:11: 'count' is 41, but no more than 40 different problems"):
        read(WRITTEN + table("addition", count=41).replace("digits = 3", "digits = 1"))


def test_a_seed_gives_the_same_problems_everywhere_and_another_others(read: Callable[[str], Suite]) -> None:
    first, again, other = (read(WRITTEN + table("addition", seed=seed)) for seed in (1, 1, 2))
    assert first.tasks == again.tasks
    asked = [{item.fields["question"] for item in suite.tasks[0].items} for suite in (first, other)]
    assert not asked[0] & asked[1]
    assert first.hash == again.hash != other.hash
    ids = [run_id(suite, [Entrant("m", lambda: None)], limit=None, scorer=None) for suite in (first, again, other)]  # type: ignore[arg-type,return-value]
    assert ids[0] == ids[1] != ids[2]
    more = read(WRITTEN + table("addition", count=60)).tasks[0]
    assert more.items[:40] == first.tasks[0].items
    # As Pythons 3.9, 3.11, 3.12 and 3.13 print it.
    assert random.Random("seed").random() == 0.1382359792209653
    assert Draw("seed").below(10_000) == 1382


def test_wrong_numbers_do_not_give_the_right_one_away() -> None:
    """The right one is as often the least, second, third and greatest, and has the others at their distances."""
    places: Counter[int] = Counter()
    for i in range(2000):
        problem = PROBLEMS["multiplication"].make(Draw(f"{i}"), 3)
        numbers = sorted(map(int, (problem.answer, *problem.wrong)))
        places[numbers.index(int(problem.answer))] += 1
        assert numbers[0] + numbers[3] == numbers[1] + numbers[2]
    assert all(440 < places[place] < 560 for place in range(4)), places


@pytest.mark.parametrize(
    ("change", "at", "says"),
    [
        (("seed = 1\n", ""), 8, "'seed' is missing"),
        (("seed = 1", "seed = -1"), 11, "'seed' must be a whole number of at least 0"),
        (("seed = 1", "seed = 1.5"), 11, "'seed' must be a whole number"),
        (("count = 40", "count = 0"), 12, "'count' must be a whole number of at least 1"),
        (("digits = 3", "digits = 0"), 10, "'digits' must be a whole number of at least 1"),
        (("digits = 3", "digits = 41"), 10, "'digits' is 41, but may be 40 at most"),
        (("digits = 3", "letters = 3"), 10, "'letters' is not known here"),
        (('"addition"', '"division"'), 9, "use 'addition' or"),
        (("kind =", 'file = "x.jsonl"\nkind ='), 5, "a generated task has no 'file'"),
        (("kind =", 'shots = "x.jsonl"\nkind ='), 5, "a generated task has no 'shots'"),
    ],
)
def test_settings_that_are_wrong_are_named(
    read: Callable[[str], Suite], change: tuple[str, str], at: int, says: str
) -> None:
    text = (WRITTEN + "\n" + table("addition")).replace(*change)
    with pytest.raises(SuiteError) as caught:
        read(text)
    assert f"suite.toml:{at}: " in str(caught.value)
    assert says in str(caught.value)
