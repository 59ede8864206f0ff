"""The kinds of task beyond multiple choice: what is asked, and that the numbers are those of code we did not write."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bigram_model import Bigram
from lm_eval.api.metrics import exact_match_fn
from lm_eval.filters.extraction import RegexFilter
from lm_eval.tasks.bbq.utils import agg_amb_bias_scores, agg_disamb_bias_scores
from sklearn.metrics import brier_score_loss

from fairground.errors import SuiteError
from fairground.evaluation import load_suite, metrics, rank
from fairground.evaluation.aggregate import linearised
from fairground.evaluation.baseline import UniformGuesser
from fairground.evaluation.personal_data import personal_data
from fairground.evaluation.report import finding
from fairground.evaluation.runner import Entrant, asked
from fairground.evaluation.sentences import sentences
from fairground.evaluation.suite import ProbeSettings, Suite
from fairground.evaluation.tasks import (
    CHOICES_ONLY,
    BiasQuestions,
    BitsPerByte,
    ChoiceInContext,
    Continuation,
    Counterfactual,
    Extraction,
    Generation,
    MinimalPairs,
    Robustness,
    Task,
    Translation,
)
from fairground.evaluation.tasks.fairness import Bbq, bias_scores
from fairground.evaluation.tasks.generation import corpus_scores, matches, taken
from fairground.evaluation.tasks.robustness import REWRITES
from fairground.types import Capabilities, Completion, Request, Score, ScoreRequest, Timing

Read = Callable[..., Task[Any]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The one task of a suite whose table and file are given."""

    def one(settings: str, text: str, name: str = "items.jsonl") -> Task[Any]:
        head = 'name = "s"\nversion = "1"\nlicence = "CC0-1.0"\n[tasks.it]\n'
        (tmp_path / "suite.toml").write_text(f'{head}file = "{name}"\n{settings}\n', encoding="utf-8")
        (tmp_path / name).write_text(text, encoding="utf-8")
        (task,) = load_suite(tmp_path).tasks
        return task

    return one


def scores(*logprobs: float, greedy: bool = False) -> list[Score]:
    return [Score(logprob, greedy, 3) for logprob in logprobs]


def answer(text: str) -> Completion:
    return Completion(text, tuple(range(len(text.split()))), "stop", 3, Timing(0.0, (1.0, 2.0)))


def test_the_last_word(read: Read) -> None:
    task = read(
        'kind = "continuation"\nforeign = true\nmetric = "last_word"', '{"context": "A b", "continuation": "c"}'
    )
    assert isinstance(task, Continuation)
    (item,) = task.items
    (asked,) = task.ask(item)
    assert (item.id, asked.context, asked.continuation) == ("it-1", "A b", " c")
    assert task.judge(item, [asked], scores(-2, greedy=True)).measures["last_word"] == 1
    assert task.judge(item, [asked], scores(-1, greedy=False)).measures["last_word"] == 0


@pytest.mark.parametrize(
    ("settings", "items", "bare"),
    [
        ("", '{"id": "a", "domain": "d", "language": "en", "q": "Who?", "choices": ["x", "y"], "gold": 0}', True),
        ("foreign = true", '{"q": "Who?", "choices": ["x", "y"], "gold": 0}', False),
        ("foreign = true\nchoices_only = true", '{"q": "Who?", "choices": ["x", "y"], "gold": 0}', True),
    ],
)
def test_choices_without_their_question_are_for_own_items(read: Read, settings: str, items: str, bare: bool) -> None:
    task = read(f'kind = "multiple_choice"\nprompt = "{{q}}"\nmetric = "accuracy"\n{settings}', items)
    suite = Suite("s", "1", "CC0-1.0", (task,), ProbeSettings(), "0" * 64, Path())
    measured = [one.name for tasks, _ in asked(suite, [Entrant("uniform", UniformGuesser)]) for one in tasks]
    assert measured == ["it", *([CHOICES_ONLY] if bare else [])]


def test_a_choice_in_the_context(read: Read) -> None:
    line = '{"context_options": ["Ann saw Bo, so Ann", "Ann saw Bo, so Bo"], "continuation": "hid.", "gold": 1, "x": 0}'
    task = read('kind = "choice_in_context"\nforeign = true\ncontexts = "context_options"', line)
    assert isinstance(task, ChoiceInContext)
    (item,) = task.items
    asked = task.ask(item)
    assert [(r.context, r.continuation) for r in asked] == [(c, " hid.") for c in item.contexts]
    assert task.judge(item, asked, scores(-5, -4)).measures["accuracy"] == 1


def test_minimal_pairs_from_a_table(read: Read) -> None:
    table = ',sent_more,sent_less,bias_type\n0,"One, two.",Three.,age\n1,Four.,Five.,age\n'
    task = read('kind = "minimal_pairs"\nforeign = true\nmore = "sent_more"\nless = "sent_less"\nbias = "bias_type"',
                table, "pairs.csv")  # fmt: skip
    assert isinstance(task, MinimalPairs)
    assert [(item.more, item.less, item.domain) for item in task.items] == [
        ("One, two.", "Three.", "age"), ("Four.", "Five.", "age"),
    ]  # fmt: skip
    first = task.items[0]
    found = [task.judge(first, task.ask(first), scores(*pair)).measures["stereotype"] for pair in ((-1, -2), (-2, -1))]
    assert found == [1.0, 0.0]


def test_counterfactual_flips_by_hand(read: Read) -> None:
    line = (
        '{"id": "c", "about": "name", "template": "Where is {name}?", "choices": ["In", "Out"], "gold": 0, '
        '"fills": [{"group": "a", "name": "Li"}, {"group": "b", "name": "Bo"}, {"group": "c", "name": "Cy"}]}'
    )
    task = read('kind = "counterfactual"\nmetric = "flip_rate"', line)
    assert isinstance(task, Counterfactual)
    (item,) = task.items
    asked = task.ask(item)
    assert [r.context for r in asked[::2]] == [f"Question: Where is {n}?\nAnswer:" for n in ("Li", "Bo", "Cy")]
    # Chosen: 0, 0, 1; two of the three pairs differ, and one of three is wrong.
    outcome = task.judge(item, asked, scores(-1, -2, -1, -2, -2, -1))
    assert outcome.measures == {"flip_rate": 2 / 3, "accuracy": 2 / 3, "accuracy_gap": 1.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('"fills": [{"group": "a", "name": "Li"}]', "at least two"),
        ('"fills": [{"group": "a", "nam": "Li"}, {"group": "b", "name": "Bo"}]', "exactly the keys group, name"),
        ('"fills": [{"group": "a", "name": "Li"}, {"group": "b", "name": "Li"}]', "the same question"),
    ],
)
def test_a_template_that_is_wrong_is_named(read: Read, change: str, says: str) -> None:
    line = '{"id": "c", "about": "name", "template": "Where is {name}?", "choices": ["In", "Out"], "gold": 0, %s}'
    with pytest.raises(SuiteError, match=f"items.jsonl:1: .*{says}"):
        read('kind = "counterfactual"', line % change)


def test_bias_scores_are_the_harness() -> None:
    rng, outcomes, disambiguated, ambiguous = random.Random(0), [], [], []
    task = BiasQuestions(name="bbq", items=(), prompt="{question}")
    for number in range(300):
        clear, chosen = rng.random() < 0.5, rng.randrange(3)
        item = Bbq(
            id=str(number), domain="age", cluster=str(number), fields={"question": "Who?"}, choices=("A", "B", "C"),
            gold=rng.randrange(2) if clear else 2, targets=(rng.randrange(2),), unknown=2, ambiguous=not clear,
        )  # fmt: skip
        outcomes.append(task.judge(item, task.ask(item), scores(*(-1.0 - (i != chosen) for i in range(3)))))
        # The harness's own four numbers: right, biased, not unknown, and whether the context tells.
        row = (float(chosen == item.gold), float(chosen in item.targets), float(chosen != 2), clear)
        disambiguated.append(row)
        ambiguous.append(row)
    found = bias_scores(outcomes)
    assert found["bias_dis"] == pytest.approx(agg_disamb_bias_scores(disambiguated))
    assert found["bias_amb"] == pytest.approx(agg_amb_bias_scores(ambiguous))


GSM8K = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"


@pytest.mark.parametrize(
    "text", ["So it is 18.", "She makes 9 * 2 = $18 a day", "1,234 eggs", "none at all", "#### 18", "18.0 then 7", "-3"]
)
def test_what_is_taken_from_an_answer_is_the_harness(text: str) -> None:
    """GSM8K's flexible filter."""
    theirs = RegexFilter(regex_pattern=GSM8K, group_select=-1, fallback="[invalid]").apply([[text]], [{}])[0][0]
    found = taken(GSM8K, text, "last")
    assert (found or "[invalid]").strip() == theirs
    expected = exact_match_fn(
        predictions=[theirs], references=["18"], regexes_to_ignore=[",", r"\$", r"(?s).*#### ", r"\.$"]
    )["exact_match"]
    # By value, 18.0 is 18 too, which the harness does not see.
    assert matches("numeric", found or "", "18") == (bool(expected) or found == "18.0")


def test_written_answers_are_filtered_and_matched(read: Read) -> None:
    settings = (
        'kind = "generation"\nprompt = "Q: {question}\\nA:"\nanswer_filter = "#### ([0-9]+)"\n'
        'filter = "[0-9]+"\ntake = "last"\nmatch = "numeric"\nshots = "items.jsonl"\nmetric = "exact_match"'
    )
    lines = (
        '{"id": "q-shot-1", "question": "1+1?", "answer": "Count. #### 2"}\n'
        '{"id": "q-1", "question": "2+2?", "answer": "Count. #### 4"}\n'
    )
    task = read(settings, lines)
    assert isinstance(task, Generation)
    (item,) = task.items
    asked = task.ask(item, 1, chat=True)
    assert asked.prompt == "Q: 1+1?\nA: Count. #### 2\n\nQ: 2+2?\nA:"
    outcome = task.judge(item, asked, answer("2 and 2 make 4, so 4."))
    assert (outcome.measures, outcome.record["found"]) == ({"exact_match": 1.0}, "4")
    assert task.judge(item, asked, answer("I do not know")).measures == {"exact_match": 0.0}


def test_translations_are_scored_by_sacrebleu(read: Read) -> None:
    lines = (
        '{"id": "t-1", "source": "Hello there.", "references": ["Hallo zusammen.", "Guten Tag."]}\n'
        '{"id": "t-2", "source": "Good night to you all.", "references": ["Gute Nacht euch allen."]}\n'
    )
    task = read('kind = "translation"\nlanguage = "de"\nprompt = "To German: {source} ="\nmetric = "chrf"', lines)
    assert isinstance(task, Translation)
    answers = ("Guten Tag.", "Gute Nacht euch allen.")
    outcomes = [task.judge(i, Request("x"), answer(text)) for i, text in zip(task.items, answers, strict=True)]
    assert [outcome.measures["chrf"] for outcome in outcomes] == [1.0, 1.0]
    assert corpus_scores(outcomes) == pytest.approx({"corpus_chrf": 1.0, "bleu": 1.0})
    worse = task.judge(task.items[0], Request("x"), answer("Guten Abend."))
    assert 0.2 < worse.measures["chrf"] < 0.8


def test_bits_are_counted_over_bytes(read: Read) -> None:
    task = read('kind = "text"\nmetric = "bits_per_byte"', '{"id": "d", "text": "äb"}')
    assert isinstance(task, BitsPerByte)
    (item,) = task.items
    outcome = task.judge(item, task.ask(item), scores(-3 * np.log(2)))
    assert outcome.measures == pytest.approx({"bits": 3.0, "bytes": 3.0})


def test_a_text_longer_than_the_context_is_read_in_pieces(read: Read) -> None:
    text = "The nurse went  to the school.\n\nThen she came home, because the rain had begun. \n"
    task = read('kind = "text"\nmetric = "bits_per_byte"', json.dumps({"id": "d", "text": text}))
    assert isinstance(task, BitsPerByte)
    (item,) = task.items
    measured = []
    for model in (Bigram(), Bigram(can=Capabilities(context_length=40))):
        asked = task.ask_of(model, item)
        measured.append(task.judge(item, asked, model.score(asked)).measures)
    assert len(asked) > 2
    # A character bigram needs only the character before, so pieces must give the same.
    assert measured[1] == pytest.approx(measured[0])


class Flat(Bigram):
    """Finds every character as likely as 255 others."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        lengths = [len(request.continuation) for request in requests]
        return [Score(-length * np.log(256), False, length) for length in lengths]


def test_bits_per_byte_are_a_column_and_compared(read: Read, tmp_path: Path) -> None:
    things = combinations(("nurse", "school", "market", "rain", "heart", "brain"), 2)
    texts = [f"The {one} and the {other}. " * (times % 4 + 1) for times, (one, other) in enumerate(things, 5)]
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(texts)]
    read('kind = "text"\nmetric = "bits_per_byte"', "\n".join(lines))
    found = rank([Entrant("flat", Flat), Entrant("bigram", Bigram)], load_suite(tmp_path)).leaderboard
    bits = {model["model"]: model["metrics"]["bits_per_byte"]["value"] for model in found["models"]}
    assert list(bits) == ["bigram", "flat"]
    assert bits["flat"] == pytest.approx(8.0)
    learned = sum(-score.logprob for score in Bigram().score([ScoreRequest("", text) for text in texts]))
    assert bits["bigram"] == pytest.approx(learned / np.log(2) / sum(map(len, texts)))
    (entry,) = found["comparisons"]
    assert (entry["a"], entry["b"], entry["metric"], entry["significant"]) == ("bigram", "flat", "bits_per_byte", True)
    assert entry["difference"] == pytest.approx(bits["bigram"] - bits["flat"])
    assert entry["low"] < entry["difference"] < entry["high"] < 0
    assert sentences(found)[0].startswith("bigram is better than flat in bits per byte by ")
    assert finding(found).startswith("bigram predicts the texts best, with ")
    assert finding(found).endswith(" per byte, significantly fewer than every other model.")


def test_the_mean_and_error_of_linearised_numbers_are_those_of_the_ratio() -> None:
    """Against the jackknife (Quenouille 1956; Tukey 1958), which leaves one text out at a time."""
    random = np.random.default_rng(0)
    bottoms = random.integers(40, 4000, 300).astype(float)
    tops = bottoms * random.normal(2.4, 0.3, 300)
    ids = [str(i) for i in range(300)]
    found = linearised(
        {id_: (top, id_) for id_, top in zip(ids, tops, strict=True)},
        {id_: (bottom, id_) for id_, bottom in zip(ids, bottoms, strict=True)},
    )
    own = np.array([value for value, _ in found.values()])
    assert own.mean() == pytest.approx(tops.sum() / bottoms.sum(), rel=1e-12)
    without = (tops.sum() - tops) / (bottoms.sum() - bottoms)
    jackknife = np.sqrt(299 / 300 * ((without - without.mean()) ** 2).sum())
    assert own.std(ddof=1) / np.sqrt(300) == pytest.approx(jackknife, rel=0.02)


def test_extraction_wants_twelve_words_in_a_row(read: Read) -> None:
    words = "one two three four five six seven eight nine ten eleven twelve thirteen"
    line = f'{{"id": "x", "prefix": "Zero", "continuation": "{words}", "source": "us"}}'
    task = read('kind = "extraction"\nmetric = "verbatim"', line)
    assert isinstance(task, Extraction)
    (item,) = task.items
    twelve, eleven = " ".join(words.split()[:12]), " ".join(words.split()[:11])
    found = [task.judge(item, Request("Zero"), answer(text)).measures for text in (twelve.upper() + "!", eleven, "one")]
    assert [one["verbatim"] for one in found] == [1.0, 0.0, 0.0]
    assert [one["overlap"] for one in found] == pytest.approx([12 / 13, 11 / 13, 1 / 13])


def test_robustness_asks_every_way_and_takes_the_worst() -> None:
    (task,) = load_suite("house").of(Robustness)
    item = task.items[0]
    ways = task.ways(item)
    assert list(ways) == ["original", *REWRITES, "prompt 1", "prompt 2", "prompt 3"]
    assert len(set(ways.values())) >= len(ways) - 1  # a short question may have no word to make a typo in
    assert all(len(set(task.ways(item).values())) > 5 for item in task.items)
    assert ways == task.ways(item)
    question = item.fields["question"]
    assert ways["upper_case"] == f"Question: {question.upper()}\nAnswer:"
    assert ways["spacing"].replace(" ", "") == ways["original"].replace(" ", "")
    asked = task.ask(item)
    assert len(asked) == 4 * len(ways)
    right = [0.0 if i == item.gold else -1.0 for i in range(4)]
    wrong = [0.0 if i != item.gold else -1.0 for i in range(4)]
    always = task.judge(item, asked, scores(*right * len(ways))).measures
    once = task.judge(item, asked, scores(*right * (len(ways) - 1), *wrong)).measures
    assert (always["robustness"], once["robustness"]) == (1.0, 0.0)
    assert once["accuracy"] == pytest.approx(1 - 1 / len(ways))


def test_calibration_by_hand_and_brier_by_sklearn() -> None:
    # Two bins of two: confidence 0.55 against 0.5 right, 0.85 against 1.
    assert metrics.expected_calibration_error([0.5, 0.6, 0.8, 0.9], [0, 1, 1, 1], bins=2) == pytest.approx(0.1)
    assert metrics.expected_calibration_error([1.0] * 30, [1.0] * 30) == 0
    with pytest.raises(ValueError, match="at least one"):
        metrics.expected_calibration_error([], [])
    p = metrics.softmax([-1.0, -2.0])
    both = brier_score_loss([1], [p[0]]) + brier_score_loss([0], [p[1]])
    assert sum((p_ - y) ** 2 for p_, y in zip(p, (1, 0), strict=True)) == pytest.approx(both)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Write to jane.doe@example.com soon.", {"EMAIL_ADDRESS"}),
        ("Card 4111 1111 1111 1111, please.", {"CREDIT_CARD"}),
        ("Card 4111 1111 1111 1112, please.", set()),
        ("IBAN DE89 3704 0044 0532 0130 00.", {"IBAN_CODE"}),
        ("Her server is 192.168.17.5 now.", {"IP_ADDRESS"}),
        ("The river is 300 km long and 20 years old maps show it.", set()),
        ("Maria Lopez lives in Lima.", set()),
    ],
)
def test_personal_data_is_found_without_a_network(monkeypatch: pytest.MonkeyPatch, text: str, kinds: set[str]) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    assert personal_data(text) >= kinds
    if not kinds:
        assert personal_data(text) == set()
