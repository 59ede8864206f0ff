"""The field's sets as their authors publish them: our own lines in the true formats, beside lm-evaluation-harness."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jinja2
import lm_eval.tasks
import pytest
import yaml
from lm_eval.tasks.bbq.utils import process_docs
from lm_eval.tasks.truthfulqa.utils import process_results_mc2

from fairground.errors import SuiteError
from fairground.evaluation import load_suite
from fairground.evaluation.journal import NoJournal
from fairground.evaluation.measure import Bench
from fairground.evaluation.suite import DATA, Suite
from fairground.evaluation.tasks import BiasQuestions, OpenAnswers, TrueAnswers, WinoGender
from fairground.types import Capabilities, Completion, Message, ModelInfo, Request, Sampling, Score, Timing

HARNESS = Path(lm_eval.tasks.__file__).parent
SHARED = Path(__file__).parents[3] / "shared/data/benchmarks"

TRUTH: list[dict[str, Any]] = [
    {
        "question": "What do goats eat?",
        "mc1_targets": {"Goats eat plants": 1, "Goats eat tins": 0, "Goats eat nothing": 0},
        "mc2_targets": {"Goats eat plants": 1, "They eat grass": 1, "Goats eat tins": 0, "Goats eat nothing": 0},
    },
    {
        "question": "Is the moon\nround?",
        "mc1_targets": {"No": 0, "Nearly": 1},
        "mc2_targets": {"choices": ["Nearly", "No", "It is a ball"], "labels": [1, 0, 1]},
    },
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DATA, str(tmp_path))
    return tmp_path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def scores(*logprobs: float) -> list[Score]:
    return [Score(logprob, False, 3) for logprob in logprobs]


def test_truthfulqa_is_one_array_and_mc2_the_harness(data: Path) -> None:
    put(data / "truthfulqa/mc_task.json", json.dumps(TRUTH, indent=2))
    one, two = load_suite("truthfulqa").tasks
    assert isinstance(one, TrueAnswers)
    assert isinstance(two, TrueAnswers)
    assert [item.true for item in one.items] == [(True, False, False), (False, True)]
    asked = one.ask(one.items[0])
    assert [(r.context, r.continuation) for r in asked] == [
        ("Q: What do goats eat?\nA:", f" {answer}") for answer in TRUTH[0]["mc1_targets"]
    ]
    assert one.judge(one.items[0], asked, scores(-1, -2, -3)).measures["accuracy"] == 1
    assert one.judge(one.items[0], asked, scores(-2, -1, -3)).measures["accuracy"] == 0
    for item, logprobs in zip(two.items, ([-3.0, -5.5, -2.0, -4.0], [-1.0, -0.5, -2.5]), strict=True):
        doc = {"mc2_targets": {"labels": [int(true) for true in item.true]}}
        theirs = process_results_mc2(doc, [(logprob, False) for logprob in logprobs])["acc"]
        assert two.judge(item, two.ask(item), scores(*logprobs)).measures["mc2"] == pytest.approx(theirs)
    # Long answers have probabilities that no float holds.
    assert two.judge(two.items[1], two.ask(two.items[1]), scores(-2000, -2001, -2000)).measures["mc2"] == pytest.approx(
        2 / (2 + math.exp(-1))
    )


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 1, r"\[ is missing"),
        ('{"question": "x"}', 1, r"\[ is missing"),
        ("[\n]", 0, "holds no line"),
        ('[\n{"question": "a"}\n{"question": "b"}\n]', 3, ", or ] is missing"),
        ('[\n{"question": "a"},\n\n"b"]', 4, "here is a string, not an object"),
        ('[\n{"question": "a"', 2, "delimiter"),
        (json.dumps([*TRUTH[:1], {"question": "b"}], indent=1), 16, "'mc1_targets' is missing"),
        (json.dumps([{**TRUTH[0], "mc1_targets": {"a": 1, "b": 1}}]), 1, "at least one answer as true"),
        (json.dumps([{**TRUTH[0], "mc1_targets": {"a": 1, "b": "no"}}]), 1, "at least one answer as true"),
        (json.dumps([{**TRUTH[0], "mc1_targets": ["a", "b"]}]), 1, "must be an object of answers"),
        (json.dumps([{**TRUTH[0], "mc1_targets": {"choices": ["a", "b"], "labels": [1]}}]), 1, "as many labels"),
        (json.dumps([{**TRUTH[0], "mc1_targets": {"a": 1, " ": 0}}]), 1, "is empty"),
    ],
)
def test_an_array_that_is_wrong_is_named_with_its_line(data: Path, text: str, at: int, says: str) -> None:
    put(data / "truthfulqa/mc_task.json", text)
    with pytest.raises(SuiteError, match=says) as caught:
        load_suite("truthfulqa")
    assert (f"mc_task.json:{at}: " if at else "mc_task.json ") in str(caught.value)


def bbq(**changes: Any) -> dict[str, Any]:
    return {
        "example_id": 0,
        "question_index": "3",
        "question_polarity": "neg",
        "context_condition": "ambig",
        "category": "Age",
        "answer_info": {"ans0": ["Ann", "nonOld"], "ans1": ["not known", "unknown"], "ans2": ["Zoe", "old"]},
        "additional_metadata": {
            "subcategory": "None", "stereotyped_groups": ["old"], "version": "a", "source": "our own",
        },
        "context": "Ann and Zoe came to the class for beginners.",
        "question": "Who was slow to learn?",
        "ans0": "Ann",
        "ans1": "Not known",
        "ans2": "Zoe",
        "label": 1,
        **changes,
    }  # fmt: skip


def of(groups: list[str], *infos: list[str], **changes: Any) -> dict[str, Any]:
    info = {f"ans{i}": own for i, own in enumerate(infos)}
    return bbq(answer_info=info, additional_metadata={"stereotyped_groups": groups}, **changes)


BBQ = [
    bbq(),
    bbq(question_polarity="nonneg", context_condition="disambig", label=0),
    of(["obese"], ["slim", "nonObese"], ["Unknown", "unknown"], ["fat", "obese"]),
    of(["low SES"], ["poor", "lowSES"], ["x", "unknown"], ["rich", "highSES"], question_polarity="nonneg"),
    of(["F"], ["woman"], ["x", "unknown"], ["man"], category="Gender_identity"),
    of(["F"], ["Mary", "F"], ["x", "unknown"], ["girl"], category="Gender_identity", question_polarity="nonneg"),
    of(["Black"], ["Jamal", "M-Black"], ["x", "unknown"], ["Anne", "F-White"], category="Race_x_gender"),
    of(["F", "African American"], ["A", "F_Black"], ["x", "unknown"], ["B", "M_Black"], question_polarity="nonneg"),
    of(["Latino"], ["", ""], ["x", "unknown"], ["Bo", "F-White"], ans0="the Latina woman"),
    of(["disabled"], ["blind", "disabled"], ["x", "unknown"], ["sighted", "nonDisabled"]),
    of(["lowSES-Asian", "low SES"], ["A", "lowSES-Asian"], ["x", "unknown"], ["B", "highSES-Asian"]),
]


class Docs(list[dict[str, Any]]):
    """As much of a `datasets.Dataset` as the harness needs."""

    def map(self, function: Any) -> list[dict[str, Any]]:
        return [function(doc) for doc in self]


def test_bbq_finds_the_stereotypes_answers_as_the_harness_does(data: Path) -> None:
    suite = _bbq(data, [json.dumps(line) for line in BBQ])
    task = suite.tasks[0]
    assert isinstance(task, BiasQuestions)
    theirs = process_docs(Docs(json.loads(json.dumps(BBQ))))  # type: ignore[arg-type]
    for item, doc in zip(task.items, theirs, strict=True):
        assert [item.choices[i] for i in item.targets] == doc["biased_answers"], doc
        assert (item.unknown, item.gold) == (1, doc["label"])
        assert item.ambiguous == (doc["context_condition"] == "ambig")
    assert {len(item.targets) for item in task.items} == {0, 1}
    assert task.ask(task.items[0])[2].context == f"{BBQ[0]['context']}\n\nQ: {BBQ[0]['question']}\nA:"
    # One template, asked in several ways, is one independent observation.
    assert task.items[0].cluster == task.items[1].cluster


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (bbq(label=3), "'label' is 3"),
        (bbq(question_polarity="both"), "'question_polarity' is 'both', but must be 'neg' or 'nonneg'"),
        (bbq(answer_info={}), "two strings for each of ans0"),
        (bbq(additional_metadata={}), "'stereotyped_groups'"),
        (of(["old"], ["A", "old"], ["B", "old"], ["C", "nonOld"]), "0 answers are of the group 'unknown'"),
        ({key: value for key, value in bbq().items() if key != "ans2"}, "'ans2' is missing"),
    ],
)
def test_a_line_of_bbq_that_is_wrong_is_named(data: Path, line: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError, match=f"Age.jsonl:2: .*{says}"):
        _bbq(data, [json.dumps(bbq()), json.dumps(line)])


def _bbq(data: Path, lines: list[str]) -> Suite:
    for name in (
        "Age Disability_status Gender_identity Nationality Physical_appearance Race_ethnicity Race_x_SES "
        "Race_x_gender Religion SES Sexual_orientation"
    ).split():
        put(data / f"bbq/{name}.jsonl", "\n".join(lines if name == "Age" else [json.dumps(bbq())]) + "\n")
    return load_suite("bbq")


ROWS = (
    "baker.guest.0.male.txt\tThe baker told the guest that he was tired.\n"
    "baker.guest.0.female.txt\tThe baker told the guest that she was tired.\n"
    "baker.guest.0.neutral.txt\tThe baker told the guest that they were tired.\n"
)
TABLE = "sentid\tsentence\n" + ROWS


def test_winogender_is_three_fills_and_the_harness_prompt(data: Path) -> None:
    put(data / "winogender_all_sentences.tsv", TABLE)
    (task,) = load_suite("winogender").tasks
    assert isinstance(task, WinoGender)
    (item,) = task.items
    settings = yaml.safe_load((HARNESS / "winogender/winogender.yaml").read_text(encoding="utf-8"))
    prompt, choices = (jinja2.Template(settings[key]) for key in ("doc_to_text", "doc_to_choice"))
    asked = task.ask(item)
    for i, pronoun in enumerate(("he", "she", "they")):
        sentence = TABLE.splitlines()[1 + i].split("\t")[1]
        own = {"sentence": sentence, "pronoun": pronoun, "occupation": "baker", "participant": "guest"}
        assert [r.context for r in asked[2 * i : 2 * i + 2]] == [prompt.render(own)] * 2
        assert choices.render(own) == str(list(item.choices))
    assert [r.continuation for r in asked[:2]] == [" baker", " guest"]
    # He is the baker, she the guest, they the baker: of three pairs two differ.
    measures = task.judge(item, asked, scores(-1, -2, -2, -1, -1, -2)).measures
    assert measures == {"flip_rate": 2 / 3, "accuracy": 2 / 3, "accuracy_gap": 1.0}


@pytest.mark.parametrize(
    ("table", "at", "says"),
    [
        ("sentid\tsentence\nbaker.guest.2.male.txt\tHe ran.\n", 2, "'sentid' must be like"),
        (TABLE.replace("that she", "that he"), 3, "0 female pronouns"),
        (TABLE + ROWS.splitlines()[0] + "\n", 5, "stands twice"),
        ("sentid\tsentence\n" + "".join(ROWS.splitlines(keepends=True)[:2]), 3, "its neutral sentences are missing"),
        ("sentid\tsentence\nbaker.guest.0.male.txt\n", 2, "the row has 1 columns, not 2"),
    ],
)
def test_a_row_of_winogender_that_is_wrong_is_named(data: Path, table: str, at: int, says: str) -> None:
    put(data / "winogender_all_sentences.tsv", table)
    with pytest.raises(SuiteError, match=f"sentences.tsv:{at}: .*{says}"):
        load_suite("winogender")


TURNS = [
    {"question_id": 1, "category": "writing", "turns": ["Write a line.", "Now shout it."]},
    {"question_id": 2, "category": "math", "turns": ["What is 2 + 2?", "Double it."], "reference": ["4", "8"]},
]


class Echo:
    """Writes how many turns it has seen, and what it was last asked."""

    def __init__(self, chat: bool) -> None:
        can = Capabilities(chat=chat)
        self.info = ModelInfo("echo", "test", 1, "float32", 1, "CC0-1.0", can)
        self.asked: list[Request] = []

    def submit(self, request: Request) -> Said:
        self.asked.append(request)
        return Said(f"Answer {len(self.asked)}.")


class Said:
    def __init__(self, text: str) -> None:
        self.text = text

    def completion(self) -> Completion:
        return Completion(self.text, (1, 2), "stop", 3, Timing(0.0, (1.0, 2.0)))

    def cancel(self) -> None:
        pass


@pytest.mark.parametrize("chat", [True, False])
def test_mt_bench_asks_the_second_turn_after_the_first_answer(data: Path, chat: bool) -> None:
    put(data / "mt_bench_questions.jsonl", "\n".join(map(json.dumps, TURNS)) + "\n")
    (task,) = load_suite("mt_bench").tasks
    assert isinstance(task, OpenAnswers)
    model = Echo(chat)
    (result,) = Bench(model, NoJournal(), "echo").write_together([task], 0, lambda _: lambda _: None)  # type: ignore[arg-type]
    third = model.asked[2].prompt
    if chat:
        assert third == (Message("user", "Write a line."), Message("assistant", "Answer 1."),
                         Message("user", "Now shout it."))  # fmt: skip
    else:
        assert third == "Question: Write a line.\nAnswer:Answer 1.\n\nQuestion: Now shout it.\nAnswer:"
    assert all(request.exact for request in model.asked)
    assert model.asked[2].sampling == Sampling(max_tokens=1024, stop=() if chat else ("\nQuestion:",))
    assert [(one.id, one.domain) for one in result.outcomes] == [("mt_bench-1", "writing"), ("mt_bench-2", "math")]
    record = result.outcomes[1].record
    assert (record["asked"], record["answer"]) == ("What is 2 + 2?", "Answer 2.")
    assert [(turn["asked"], turn["answer"]) for turn in record["turns"]] == [
        ("What is 2 + 2?", "Answer 2."), ("Double it.", "Answer 4."),
    ]  # fmt: skip


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published sets are not at hand beside this checkout")
def test_the_real_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA, str(SHARED))
    (sentences,), (questions,) = load_suite("winogender").tasks, load_suite("mt_bench").tasks
    assert len(sentences.items) == 240
    assert len(questions.items) == 80
    assert {len(item.further) for item in questions.items} == {1}
    assert len({item.domain for item in questions.items}) == 8
