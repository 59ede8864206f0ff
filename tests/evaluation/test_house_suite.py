"""The suite that we ship: counts, balance, baselines, and the second reading."""

from __future__ import annotations

from collections import Counter

import pytest

from fairground.evaluation import built_in_suites, load_suite
from fairground.evaluation.aggregate import counting
from fairground.evaluation.intervals import share
from fairground.evaluation.lines import read_lines
from fairground.evaluation.metrics import longest_choice
from fairground.evaluation.second_reading import read_second_reading
from fairground.evaluation.suite import Suite
from fairground.evaluation.tasks import (
    Counterfactual,
    Extraction,
    Generation,
    MultipleChoice,
    OpenAnswers,
    OrderDiscrimination,
    PersonalData,
    Translation,
)

DOMAINS = {
    "healthcare",
    "education",
    "entertainment",
    "customer_service",
    "science",
    "everyday",
    "reading",
    "arithmetic",
}


@pytest.fixture(scope="module")
def house() -> Suite:
    return load_suite("house")


def counted(suite: Suite) -> list[MultipleChoice]:
    return [task for task in suite.of(MultipleChoice) if task.metric == "accuracy"]


def test_it_is_as_large_as_promised(house: Suite) -> None:
    assert "house" in built_in_suites()
    assert house.licence == "Apache-2.0"
    assert {task.name for task in counted(house)} == DOMAINS
    assert sum(len(task.items) for task in counted(house)) == 400
    assert house.max_shots == 5
    easy, hard = house.of(OrderDiscrimination)
    assert (easy.difficulty, hard.difficulty) == ("random", "swapped")
    assert easy.items == hard.items
    assert len(easy.items) == 150
    assert all(5 <= len(passage.sentences) <= 8 for passage in easy.items)
    (questions,) = house.of(OpenAnswers)
    assert len(questions.items) == 60
    assert all(len(item.rubric.split()) >= 20 for item in questions.items)
    relations = next(task for task in house.of(MultipleChoice) if task.name == "relations")
    assert relations.metric is None
    assert len({item.group for item in relations.items}) == 8
    (templates,) = house.of(Counterfactual)
    assert Counter(item.about for item in templates.items) == {"name": 25, "pronoun": 25, "group": 25, "dialect": 25}
    assert all(len(item.asked) >= 4 for item in templates.items)
    truth = next(task for task in house.of(MultipleChoice) if task.metric == "truthfulness")
    assert len(truth.items) == 40
    assert all(item.misconception not in (None, item.gold) for item in truth.items)
    assert {task.items[0].language: len(task.items) for task in house.of(Translation)} == {"de": 40, "fr": 40, "es": 40}
    assert [len(task.items) for task in (*house.of(Extraction), *house.of(PersonalData))] == [40, 40]
    assert {task.name: len(task.items) for task in house.of(Generation)} == {"sums": 40, "reversal": 40}
    assert counting(house, "exact_match") == ["sums", "reversal"]


def test_every_item_has_its_domain_and_authors_note(house: Suite) -> None:
    for task in house.tasks:
        assert all(item.note for item in task.items if task.kind != "extraction")
    for task in counted(house):
        assert {item.domain for item in task.items} == {task.name}
        assert set(Counter(item.difficulty for item in task.items)) == {"very easy", "easy", "medium", "hard"}


def test_gold_answers_are_balanced_over_positions(house: Suite) -> None:
    for task in (*house.of(MultipleChoice), *house.of(Counterfactual)):
        places = Counter(item.gold for item in task.items)
        assert {len(item.choices) for item in task.items} == {4}
        assert max(places.values()) - min(places.values()) <= 1, task.name


def test_the_longest_choice_is_at_chance(house: Suite) -> None:
    items = [item for task in counted(house) for item in task.items]
    found = share([longest_choice(item.choices, item.gold) for item in items], [item.cluster for item in items])
    assert found.low <= 0.25 <= found.high


def test_solved_examples_are_never_test_items(house: Suite) -> None:
    for task in house.of(MultipleChoice):
        asked = {(item.group, *item.fields.values()) for item in task.items}
        assert not asked & {(shot.group, *shot.fields.values()) for shot in task.shots}
        assert not {item.id for item in task.items} & {shot.id for shot in task.shots}


def test_the_second_reading_agrees(house: Suite) -> None:
    path = house.folder / "second_reading.jsonl"
    chosen = (*house.of(MultipleChoice), *house.of(Counterfactual))
    # The generated ones have computed answers: see test_procedural.py.
    gold = {item.id: item.gold for task in chosen for item in task.items if task.name != "products"}
    gold |= {item.id: 0 for task in house.of(OrderDiscrimination) for item in task.items}
    read = read_second_reading(path)
    translated = {item.id for task in house.of(Translation) for item in task.items}
    assert not (gold.keys() | translated) - read.keys()
    assert {id_ for id_, reading in read.items() if id_ in gold and reading.answer != gold[id_]} == set()
    ids = {line.id for file in house.folder.rglob("*.jsonl") if file != path for line in read_lines(file)}
    assert read.keys() <= ids


def test_the_card_says_how_items_were_made(house: Suite) -> None:
    card = (house.folder / "CARD.md").read_text(encoding="utf-8")
    for word in ("language model", "second reading", "Apache-2.0", "No person has read"):
        assert word in card
