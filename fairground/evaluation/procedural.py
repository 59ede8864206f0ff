"""Problems made from a seed: arithmetic, and work on letters and words. No model can have read them before.

[tasks.sums]
kind = "generation"                 # or "multiple_choice", or whatever reads a question and its answer
prompt = "{question}\\nAnswer:"

[tasks.sums.generated]              # in place of file and shots
problem = "addition"                # one of PROBLEMS
digits = 3                          # how hard it is: digits of each number, or how many letters or words there are
seed = 1
count = 40
shots = 5                           # solved examples, never one of the items; 0 where absent

The same seed gives the same problems in every version of Python, of whose generator we use the one method that promises
it; a larger `count` only adds to them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fairground.evaluation import metrics
from fairground.evaluation.lines import Line
from fairground.evaluation.settings import Settings

REDRAWS = 1000  # in a row; where so many bring nothing new, there is hardly anything new
CHOICES = 4
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FEW_LETTERS = "abcde"  # among which counting is work
WORDS = (
    "apple basket candle dance engine feather garden hammer island jacket kettle ladder market needle orange paper "
    "quarter river saddle table umbrella valley window yellow zebra anchor bottle castle desert evening forest glass "
    "harbour inch jungle kitchen lemon mirror number office pencil quiet rabbit silver ticket uncle village winter"
).split()

ThingT = TypeVar("ThingT")


class Draw:
    """What is drawn from a seed. `random()` seeded by a string is all that Python promises to keep as it is."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1, each as likely (for a count that is small beside 2**53)."""
        return int(self._random.random() * count)

    def one(self, things: Sequence[ThingT]) -> ThingT:
        return things[self.below(len(things))]

    def some(self, things: Sequence[ThingT], count: int) -> list[ThingT]:
        """So many of the things, no place twice, in any order (Fisher and Yates)."""
        left = list(things)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def number(self, digits: int) -> int:
        """A whole number of exactly so many digits."""
        number = 1 + self.below(9)
        for _ in range(digits - 1):
            number = 10 * number + self.below(10)
        return number


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its one right answer, and wrong ones, none of which can be told from it without the question.

    Where there are four choices, they are the corners of a square: two changes, each made or not made. Every corner has
    the others at the same distances, so that the right one is not the one in their middle.
    """

    question: str
    answer: str
    wrong: tuple[str, ...]


def _numbers(draw: Draw, question: str, right: int) -> Problem:
    """With a digit or two changed by 1 or 2, as where a carry is forgotten; never below zero."""
    steps = [size * 10**place for place in range(max(1, len(str(right)) - 1)) for size in (1, 2)]
    one, other = (draw.one((1, -1)) * step for step in draw.some(steps, 2))
    if right + min(one, other, one + other) < 0:
        one, other = abs(one), abs(other)
    return Problem(question, str(right), tuple(str(right + change) for change in (one, other, one + other)))


def _sequence(draw: Draw, question: str, right: Sequence[str], between: str = " ") -> Problem:
    """With two pairs of neighbours swapped, that do not touch."""
    first, second = draw.one([(i, j) for i in range(len(right) - 3) for j in range(i + 2, len(right) - 1)])

    def swapped(places: Sequence[int]) -> str:
        changed = list(right)
        for at in places:
            changed[at], changed[at + 1] = changed[at + 1], changed[at]
        return between.join(changed)

    wrong = (swapped([first]), swapped([second]), swapped([first, second]))
    return Problem(question, between.join(right), wrong)


def addition(draw: Draw, digits: int) -> Problem:
    a, b = draw.number(digits), draw.number(digits)
    return _numbers(draw, f"What is {a} + {b}?", a + b)


def subtraction(draw: Draw, digits: int) -> Problem:
    """The smaller number from the larger one."""
    b, a = sorted((draw.number(digits), draw.number(digits)))
    return _numbers(draw, f"What is {a} - {b}?", a - b)


def multiplication(draw: Draw, digits: int) -> Problem:
    a, b = draw.number(digits), draw.number(digits)
    return _numbers(draw, f"What is {a} * {b}?", a * b)


def comparison(draw: Draw, digits: int) -> Problem:
    """The larger or the smaller of two numbers: two choices."""
    a = b = draw.number(digits)
    while b == a:
        b = draw.number(digits)
    larger = draw.below(2) == 1
    right, wrong = (max(a, b), min(a, b)) if larger else (min(a, b), max(a, b))
    return Problem(f"Which number is {'larger' if larger else 'smaller'}, {a} or {b}?", str(right), (str(wrong),))


def copying(draw: Draw, letters: int) -> Problem:
    text = draw.some(LETTERS, letters)
    return _sequence(draw, f"Copy these letters: {' '.join(text)}", text)


def reversal(draw: Draw, letters: int) -> Problem:
    text = draw.some(LETTERS, letters)
    return _sequence(draw, f"Write these letters in reverse order: {' '.join(text)}", text[::-1])


def counting(draw: Draw, letters: int) -> Problem:
    """Among few different letters; the choices are four numbers in a row."""
    text, letter = [draw.one(FEW_LETTERS) for _ in range(letters)], draw.one(FEW_LETTERS)
    right = text.count(letter)
    start = max(0, right - draw.below(CHOICES))
    wrong = tuple(str(number) for number in range(start, start + CHOICES) if number != right)
    question = f"How many times does the letter {letter} stand among these letters? {' '.join(text)}"
    return Problem(question, str(right), wrong)


def sorting(draw: Draw, words: int) -> Problem:
    chosen = draw.some(WORDS, words)
    question = f"Put these words in alphabetical order: {', '.join(chosen)}"
    return _sequence(draw, question, sorted(chosen), ", ")


@dataclass(frozen=True, slots=True)
class _Kind:
    make: Callable[[Draw, int], Problem]
    size: str  # what suite.toml calls its difficulty
    least: int
    most: int


PROBLEMS = {
    "addition": _Kind(addition, "digits", 1, 40),
    "subtraction": _Kind(subtraction, "digits", 1, 40),
    "multiplication": _Kind(multiplication, "digits", 1, 40),
    "comparison": _Kind(comparison, "digits", 1, 40),
    "copying": _Kind(copying, "letters", 4, len(LETTERS)),
    "reversal": _Kind(reversal, "letters", 4, len(LETTERS)),
    "counting": _Kind(counting, "letters", 2, 100),
    "sorting": _Kind(sorting, "words", 4, len(WORDS)),
}


@dataclass(frozen=True, slots=True)
class Generated:
    """What a task's `generated` table asks for, made: items and solved examples as lines that any kind of task reads.

    Each has `id`, `question`, `answer`, `choices`, `gold` (the right one's place is each as often) and a `note`.
    """

    items: list[Line]
    shots: list[Line]

    @classmethod
    def read(cls, name: str, settings: Settings) -> Generated:
        """From the table. Raises SuiteError, naming file and line, also where there are not so many problems."""
        problem = settings.one_of("problem", list(PROBLEMS))
        kind = PROBLEMS[problem]
        settings.known({"problem", "seed", "count", "shots", kind.size})
        for key in ("seed", "count", kind.size):
            if key not in settings.data:
                raise settings.error(f"{key!r} is missing; a {problem} problem needs it")
        seed, count = settings.count("seed", 0, least=0), settings.count("count", 1)
        size = settings.count(kind.size, kind.least, kind.least)
        if size > kind.most:
            raise settings.error(f"{kind.size!r} is {size}, but may be {kind.most} at most; lower it", kind.size)
        taken: set[str] = set()
        found: dict[str, list[Line]] = {}
        for key, wanted in (("shots", settings.count("shots", 0, least=0)), ("count", count)):
            draw = Draw(f"{problem} {size} {seed} {key}")
            made = _distinct(kind, size, wanted, draw, taken)
            if len(made) < wanted:
                raise settings.error(
                    f"{key!r} is {wanted}, but no more than {len(made)} different problems were found; "
                    f"ask for fewer or raise {kind.size!r}", key
                )  # fmt: skip
            prefix = f"{name}-shot" if key == "shots" else name
            note = f"Made from seed {seed}: {problem}, {size} {kind.size}."
            found[key] = [
                Line(
                    f"{settings.path} [{settings.at}]", {"id": f"{prefix}-{number}", **one, "note": note}, foreign=True
                )
                for number, one in enumerate(_placed(made, Draw(f"{problem} {size} {seed} {key} places")), start=1)
            ]
        return cls(found["count"], found["shots"])


def _distinct(kind: _Kind, size: int, wanted: int, draw: Draw, taken: set[str]) -> list[Problem]:
    """Problems none of which is in `taken`, where they are added; fewer where there seem to be no more.

    The same words in another order are the same problem: 2 + 3 is 3 + 2.
    """
    found, redrawn = list[Problem](), 0
    while len(found) < wanted and redrawn < REDRAWS:
        problem = kind.make(draw, size)
        key = " ".join(sorted(metrics.words(problem.question)))
        redrawn += 1
        if key not in taken:
            taken.add(key)
            found.append(problem)
            redrawn = 0
    return found


def _placed(problems: Sequence[Problem], draw: Draw) -> Iterator[dict[str, Any]]:
    """Each problem with its choices in an order in which the right one is at every place equally often."""
    places: list[int] = []
    for problem in problems:
        choices = draw.some(problem.wrong, len(problem.wrong))
        places = places or draw.some(range(len(choices) + 1), len(choices) + 1)
        gold = places.pop()
        choices.insert(gold, problem.answer)
        yield {"question": problem.question, "answer": problem.answer, "choices": choices, "gold": gold}
