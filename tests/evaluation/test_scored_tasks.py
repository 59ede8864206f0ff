"""How items are asked and judged, against tables worked out by hand."""

from __future__ import annotations

import math

import pytest

from fairground.evaluation import load_suite, metrics
from fairground.evaluation.baseline import UniformGuesser
from fairground.evaluation.journal import NoJournal
from fairground.evaluation.measure import Bench, TaskResult
from fairground.evaluation.tasks import (
    ChoiceItem,
    ChoicesOnly,
    MultipleChoice,
    OrderDiscrimination,
    Outcome,
    Passage,
    ScoredTask,
)
from fairground.evaluation.tasks.order import neighbours_swapped, shuffled
from fairground.types import Score


def choice(id_: str, question: str, choices: tuple[str, ...], gold: int) -> ChoiceItem:
    return ChoiceItem(id=id_, domain="d", cluster=id_, fields={"question": question}, choices=choices, gold=gold)


SHOT = choice("s", "One and one?", ("3", "2"), 1)
ITEM = choice("i", "Who barks?", ("Cats", "A dog", "No"), 1)
TASK = MultipleChoice(
    name="quiz", prompt="Question: {question}\nAnswer:", items=(ITEM,), shots=(SHOT,), metric="accuracy"
)


def judged(task: ScoredTask, item: ChoiceItem | Passage, scores: list[Score]) -> Outcome:
    return task.judge(item, task.ask(item), scores)


def scored(model: UniformGuesser, task: ScoredTask, known: dict) -> TaskResult:
    return Bench(model, NoJournal(), "model", known).score(task, 0, lambda n: None)


@pytest.mark.parametrize(
    ("logprobs", "choices", "acc", "acc_norm"),
    [
        # By hand: -6/4 = -1.5, -7/5 = -1.4, -5/2 = -2.5, so the longest wins once lengths count.
        ([-6.0, -7.0, -5.0], ["Cats", "A dog", "No"], 2, 1),
        # Equal scores: the first, as numpy's argmax.
        ([-3.0, -3.0, -9.0], ["ab", "cd", "ef"], 0, 0),
        ([-4.0, -2.0], ["abcd", "ab"], 1, 0),
        # Characters, not bytes: two characters are two, whatever UTF-8 makes of them.
        ([-4.0, -4.2], ["äö", "abc"], 0, 1),
    ],
)
def test_acc_and_acc_norm(logprobs: list[float], choices: list[str], acc: int, acc_norm: int) -> None:
    assert metrics.chosen(logprobs) == acc
    assert metrics.chosen_norm(logprobs, choices) == acc_norm


def test_the_harness_itself_agrees() -> None:
    """The two lines of lm_eval 0.4.13, `ConfigurableTask.process_results`, as they stand there."""
    import numpy as np

    rng = np.random.default_rng(0)
    for _ in range(200):
        choices = ["x" * n for n in rng.integers(1, 30, 4)]
        lls = tuple(float(x) for x in -rng.gamma(5, 3, 4))
        completion_len = np.array([float(len(i)) for i in choices])
        assert metrics.chosen(lls) == np.argmax(lls)
        assert metrics.chosen_norm(lls, choices) == np.argmax(lls / completion_len)


def test_a_question_is_asked_after_whole_solved_examples() -> None:
    asked = TASK.ask(ITEM, 1)
    assert {request.context for request in asked} == {
        "Question: One and one?\nAnswer: 2\n\nQuestion: Who barks?\nAnswer:"
    }
    assert [request.continuation for request in asked] == [" Cats", " A dog", " No"]
    assert TASK.ask(ITEM, 0)[0].context == "Question: Who barks?\nAnswer:"


def test_choices_only_never_shows_the_question() -> None:
    bare = ChoicesOnly.of([TASK])
    assert {request.context for request in bare.ask(ITEM)} == {"Answer:"}
    outcome = judged(bare, ITEM, [Score(-1, False, 1), Score(-0.5, False, 1), Score(-2, False, 1)])
    assert (outcome.measures["accuracy"], outcome.measures["accuracy_norm"]) == (1.0, 1.0)


def test_relations_are_shown_by_examples_of_the_same_relation() -> None:
    relations = next(task for task in load_suite("house").of(MultipleChoice) if task.name == "relations")
    for item in relations.items:
        *examples, asked = relations.ask(item, 5)[0].context.split("\n\n")
        own = [shot for shot in relations.shots if shot.group == item.group]
        assert len(set(examples)) == 5
        assert set(examples) <= {f"Input: {s.fields['input']}\nOutput: {s.choices[s.gold]}" for s in own}
        assert asked == f"Input: {item.fields['input']}\nOutput:"


def test_reading_shows_its_passage() -> None:
    reading = next(task for task in load_suite("house").of(MultipleChoice) if task.name == "reading")
    item = reading.items[0]
    context = reading.ask(item, 0)[0].context
    assert context == f"{item.fields['passage']}\n\nQuestion: {item.fields['question']}\nAnswer:"


def test_passages_are_reordered_by_their_id_and_never_left_as_they_are() -> None:
    for task in load_suite("house").of(OrderDiscrimination):
        for passage in task.items:
            for reorder in (shuffled, neighbours_swapped):
                order = reorder(passage)
                assert order == reorder(passage) != passage.sentences
                assert sorted(order) == sorted(passage.sentences)
            swapped = [a != b for a, b in zip(passage.sentences, neighbours_swapped(passage), strict=True)]
            first = swapped.index(True)
            assert swapped == [first <= i <= first + 1 for i in range(len(swapped))]


@pytest.mark.parametrize(("original", "other", "coherence"), [(-5.0, -6.0, 1.0), (-6.0, -5.0, 0.0), (-5.0, -5.0, 0.5)])
def test_the_original_order_should_be_likelier(original: float, other: float, coherence: float) -> None:
    passage = Passage(id="p", domain="d", cluster="p", sentences=("A.", "B.", "C."))
    task = OrderDiscrimination(name="o", difficulty="random", items=(passage,))
    first, second = task.ask(passage)
    assert (first.context, first.continuation) == ("", "A. B. C.")
    assert second.continuation != first.continuation
    scores = [Score(original, False, 3), Score(other, False, 3)]
    assert judged(task, passage, scores).measures == {"coherence": coherence}


def test_longest_choice_shares_its_guess_among_equals() -> None:
    assert metrics.longest_choice(["aa", "b"], 0) == 1
    assert metrics.longest_choice(["aa", "b"], 1) == 0
    assert metrics.longest_choice(["aa", "bb", "c", "dd"], 3) == pytest.approx(1 / 3)


def test_repetition_and_relevance_by_hand() -> None:
    assert metrics.repetition("a b c") == 0
    assert metrics.repetition("a b c d e") == 0
    # 5 4-grams, of which abcd stands twice: 4 distinct.
    assert metrics.repetition("a b c d a b c d") == pytest.approx(1 / 5)
    assert metrics.repetition("no " * 23) == pytest.approx(1 - 1 / 20)
    assert metrics.relevance(Score(-10, False, 4), Score(-18, False, 4)) == 2
    assert metrics.relevance(Score(0, True, 0), Score(0, True, 0)) == 0


def test_one_call_a_task_and_each_text_once() -> None:
    class Counting(UniformGuesser):
        calls: list[int]

        def score(self, requests):  # type: ignore[no-untyped-def]
            self.calls.append(len(requests))
            return super().score(requests)

    model = Counting()
    model.calls = []
    known: dict = {}
    easy, hard = load_suite("house").of(OrderDiscrimination)
    for task in (easy, hard):
        scored(model, task, known)
    swapped_as_shuffled = sum(shuffled(p) == neighbours_swapped(p) for p in easy.items)
    assert model.calls == [2 * len(easy.items), len(hard.items) - swapped_as_shuffled]


def test_uniform_guesser_is_at_chance_and_repeatable() -> None:
    task = ChoicesOnly.of(load_suite("house").of(MultipleChoice))
    right = total = 0
    for seed in range(40):
        outcomes = scored(UniformGuesser(seed), task, {}).outcomes
        right += sum(outcome.measures["accuracy"] for outcome in outcomes)
        total += len(outcomes)
    # Four standard errors.
    assert right / total == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / total))
    requests = task.ask(task.items[0])
    assert UniformGuesser(1).score(requests) == UniformGuesser(1).score(requests[:1]) + UniformGuesser(1).score(
        requests[1:]
    )
    assert UniformGuesser(1).score(requests) != UniformGuesser(2).score(requests)
