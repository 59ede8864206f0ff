"""Solved examples: who is shown which, what refuses to be shown, and the curve over their number."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bigram_model import Bigram
from command import Command, in_this_process
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from fairground.errors import SuiteError
from fairground.evaluation import Entrant, Suite, load_suite, rank
from fairground.evaluation.report import html_report
from fairground.evaluation.runner import run_id
from fairground.evaluation.suite import BUILT_IN, drawn
from fairground.evaluation.tasks import Generation, MultipleChoice
from fairground.evaluation.tasks.few_shot import SELECTIONS, Selection
from fairground.evaluation.tfidf import TfIdf

HEAD = 'name = "s"\nversion = "1"\nlicence = "CC0-1.0"\n'
QUIZ = (
    '[tasks.quiz]\nkind = "multiple_choice"\nfile = "quiz.jsonl"\nshots = "quiz.jsonl"\nprompt = "Q: {question}\\nA:"'
)
WRITTEN = '[tasks.sums]\nkind = "generation"\nfile = "sums.jsonl"\nshots = "sums.jsonl"\nprompt = "Q: {question}\\nA:"'
WORDS = "river lantern copper meadow whistle harbour blanket saddle thunder orchard pebble curtain".split()


ASKED = {
    "quiz": ("What of the {} number {}?", "Who has seen a {}s shape {}?"),
    "sums": ("Sum every {} that costs {} pounds", "Count each {}s basket below {} metres"),
}


def lines(kind: str) -> list[dict[str, Any]]:
    """Twelve examples and six items. The right choice of an example stands in place 0, 1 or 2: six, four, two times."""
    example, item = ASKED[kind]
    asked = [(f"{kind}-shot-{i}", example.format(word, i), int(i > 5) + int(i > 9)) for i, word in enumerate(WORDS)]
    asked += [(f"{kind}-{i}", item.format(word, i), i % 3) for i, word in enumerate(WORDS[::2])]
    return [
        {"id": id_, "question": question}
        | ({"choices": ["a", "b", "c"], "gold": place} if kind == "quiz" else {"answer": "xyz"[place]})
        for id_, question, place in asked
    ]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def suite(head: str = HEAD, **changed: list[dict[str, Any]]) -> Path:
        toml = f'{head}{QUIZ}\nmetric = "accuracy"\n{WRITTEN}\nmax_tokens = 2\nmetric = "exact_match"\n'
        probe = "[probe]\nprompt_tokens = 4\noutput_tokens = 2\nwarmup = 0\nrepeats = 2\n"
        (tmp_path / "suite.toml").write_text(toml + probe)
        for kind in ("quiz", "sums"):
            found = changed.get(kind, lines(kind))
            (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found))
        return tmp_path

    return suite


def tasks(suite: Suite, by: str, seed: int = 0) -> tuple[MultipleChoice, Generation]:
    quiz, sums = drawn(suite, Selection(by, seed)).tasks
    assert isinstance(quiz, MultipleChoice)
    assert isinstance(sums, Generation)
    return quiz, sums


def shown(task: Any, item: Any, count: int) -> list[str]:
    return [shot.id for shot in task.drawn(item, count)]


@pytest.mark.parametrize("by", ["random", "balanced"])
def test_a_draw_is_the_same_for_every_item_and_another_with_another_seed(write: Write, by: str) -> None:
    suite = load_suite(write())
    for one, again, other in zip(
        tasks(suite, by), tasks(load_suite(suite.folder), by), tasks(suite, by, 1), strict=True
    ):
        orders = {tuple(shown(task, item, 12)) for task in (one, again) for item in task.items}
        assert len(orders) == 1
        (order,) = orders
        assert sorted(order) == sorted(shot.id for shot in one.shots) != list(order)
        assert tuple(shown(other, other.items[0], 12)) not in orders
        # Fewer examples are the beginning of more, so that the points of a curve differ by what was added.
        assert [tuple(shown(one, one.items[0], k)) for k in range(13)] == [order[:k] for k in range(13)]


def test_random_draws_favour_no_example(write: Write) -> None:
    suite = load_suite(write())
    first = Counter(
        shown(task, task.items[0], 1)[0] for seed in range(1200) for task in tasks(suite, "random", seed)[:1]
    )
    # 100 expected of each of twelve; chi-squared with 11 degrees of freedom is above 31.3 once in a thousand.
    assert sum((first[f"quiz-shot-{i}"] - 100) ** 2 / 100 for i in range(12)) < 31.3


def test_balanced_draws_are_balanced(write: Write) -> None:
    suite = load_suite(write())
    for seed in range(20):
        for task in tasks(suite, "balanced", seed):
            for count in range(1, 7):
                labels = Counter(task.label(shot) for shot in task.drawn(task.items[0], count))
                assert len(labels) == min(count, 3)
                assert max(labels.values()) - min(labels.values()) <= (count % 3 != 0)
            # The rarest label is spent after two rounds; all the others still come.
            assert Counter(task.label(shot) for shot in task.drawn(task.items[0], 12)).most_common()[0][1] == 6
    starts = {shown(tasks(suite, "balanced", seed)[0], suite.tasks[0].items[0], 1)[0] for seed in range(40)}
    assert len(starts) > 6


def test_first_is_the_order_of_the_file_and_mmlu_keeps_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in tasks(load_suite(write()), "first"):
        assert shown(task, task.items[0], 12) == [shot.id for shot in task.shots]
    said = load_suite(write(HEAD + 'shots_by = "first"\n'))
    assert said.selection == Selection("first")
    assert [task.selection.by for task in said.tasks if isinstance(task, MultipleChoice | Generation)] == ["first"] * 2
    with pytest.raises(SuiteError, match=r"suite\.toml:4: shots_by is 'last'"):
        load_suite(write(HEAD + 'shots_by = "last"\n'))
    assert 'shots_by = "first"' in (BUILT_IN / "mmlu" / "suite.toml").read_text()


def test_the_embedding_is_scikit_learns() -> None:
    house = load_suite("house")
    science = next(task for task in house.of(MultipleChoice) if task.name == "science")
    pool = [science.question(item) for item in science.items[:40]] + ["Ab a", "Über  die\tBrücke", "x"]
    asked = [science.question(item) for item in science.items[40:]] + ["q", "", "über DIE brücke"]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit(pool)
    theirs = cosine_similarity(vectorizer.transform(asked), vectorizer.transform(pool))
    ours = TfIdf(pool)
    np.testing.assert_allclose([ours.similarities(text) for text in asked], theirs, atol=1e-12)
    for text, similar in zip(asked, theirs, strict=True):
        assert list(similar[ours.nearest(text)].round(12)) == sorted(similar.round(12), reverse=True)


def test_nearest_shows_the_nearest_with_the_most_similar_last(write: Write) -> None:
    for task in tasks(load_suite(write()), "nearest"):
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
        pool = vectorizer.fit_transform([task.question(shot) for shot in task.shots])
        for i, item in enumerate(task.items):
            similar = cosine_similarity(vectorizer.transform([task.question(item)]), pool)[0]
            found = shown(task, item, 3)
            assert found == [task.shots[at].id for at in np.argsort(-similar, kind="stable")[:3][::-1]]
            assert found[-1] == task.shots[2 * i].id  # which is about the same thing


@pytest.mark.parametrize("by", SELECTIONS)
def test_a_test_item_is_never_shown(by: str) -> None:
    shown_for = [task for task in drawn(load_suite("house"), Selection(by)).of(MultipleChoice) if task.shots]
    assert len(shown_for) == 10
    for task in shown_for:
        pool, items = {shot.id for shot in task.shots}, {item.id for item in task.items}
        for item in task.items:
            found = shown(task, item, 5)
            assert len(set(found)) == len(found) == 5
            assert set(found) <= pool - items
            assert {shot.group for shot in task.drawn(item, 5)} == {item.group}


@pytest.mark.parametrize("by", SELECTIONS)
def test_what_stands_in_its_own_pool_is_not_its_own_example(write: Write, by: str) -> None:
    quiz, _ = tasks(load_suite(write()), by)
    itself = MultipleChoice(name="q", prompt=quiz.prompt, items=quiz.shots, shots=quiz.shots, selection=Selection(by))
    assert itself.max_shots == 11
    for item in itself.items:
        assert item.id not in shown(itself, item, 12)
        assert len(shown(itself, item, 12)) == 11


def test_pools_made_of_test_items_are_refused(write: Write, tmp_path: Path) -> None:
    for kind, at in (("quiz", 7), ("sums", 13)):
        with pytest.raises(SuiteError, match=rf"suite\.toml:{at}: the solved examples may not be the test items"):
            load_suite(write(**{kind: lines(kind)[12:]}))
        repeated = [*lines(kind), {**lines(kind)[12], "id": f"{kind}-shot-again"}]
        with pytest.raises(SuiteError, match=rf"{kind}\.jsonl:19: .*asks the same as '{kind}-0' .*{kind}\.jsonl:13"):
            load_suite(write(**{kind: repeated}))
        near = {**lines(kind)[12], "id": f"{kind}-shot-near", "question": f"{lines(kind)[12]['question']} Then?"}
        with pytest.raises(SuiteError, match=rf"{kind}\.jsonl:19: .*nearly the same question as '{kind}-0'"):
            load_suite(write(**{kind: [*lines(kind), near]}))
    # Lines of others' data have no ids of their own, so only what they ask can tell.
    write()
    toml = (tmp_path / "suite.toml").read_text().replace('shots = "quiz.jsonl"', 'shots = "dev.jsonl"\nforeign = true')
    (tmp_path / "suite.toml").write_text(toml)
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines("quiz")[11:13]))
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines("quiz")[12:]))
    with pytest.raises(SuiteError, match=r"dev\.jsonl:2: .*asks the same as 'quiz-1' .*quiz\.jsonl:1"):
        load_suite(tmp_path)


def test_the_draw_names_the_run_where_examples_are_shown(write: Write) -> None:
    suite = load_suite(write())

    def id_(by: str, seed: int, *shots: int) -> str:
        entrants = [Entrant("bigram", Bigram, number) for number in shots]
        return run_id(drawn(suite, Selection(by, seed)), entrants, limit=None, scorer=None)

    ids = [
        id_(by, seed, 0, 1)
        for by, seed in (("random", 0), ("random", 1), ("balanced", 0), ("nearest", 0), ("first", 0))
    ]
    assert len(set(ids)) == 5
    assert id_("nearest", 7, 0, 1) == ids[3]
    assert id_("random", 0, 0) == id_("nearest", 0, 0)


def test_every_model_is_shown_the_same(write: Write) -> None:
    suite = drawn(load_suite(write()), Selection("balanced", 3))
    entrants = [Entrant(name, Bigram, shots) for name in ("one", "two") for shots in (0, 1, 5)]
    run = rank(entrants, suite)
    asked: dict[tuple[str, str], set[str]] = {}
    for sample in run.samples:
        if sample["task"] in ("quiz", "sums"):
            shots = re.search(r"\((\d)-shot\)", sample["model"])
            asked.setdefault((sample["id"], shots[1] if shots else "0"), set()).add(sample["asked"])
    assert len(asked) == 2 * 6 * 3
    assert all(len(texts) == 1 for texts in asked.values())
    assert [len({next(iter(t)).rpartition("Q:")[0] for (i, k), t in asked.items() if k == "5" and kind in i})
            for kind in ("quiz", "sums")] == [1, 1]  # fmt: skip
    assert run.leaderboard["run"]["few_shot"] == {"by": "balanced", "seed": 3}
    del run.leaderboard["run"]["environment"]
    page = html_report(run.leaderboard, run.samples)
    assert "Examples in the prompt: drawn at random (seed 3) from each task&#x27;s own examples so that" in page
    assert "one,shots=5" in page
    assert "--shots-by balanced --seed 3" in page


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


def curves(page: str) -> list[ET.Element]:
    return [
        ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "by number of examples" in svg
    ]


def test_the_command_gives_the_curve(command: Command, write: Write) -> None:
    folder = write()
    ran = command("rank", "uniform", "uniform,shots=3", "--suite", str(folder), "--shots", "0,1,5", "--limit", "2")
    assert ran.status == 0, ran.err
    board = json.loads(Path("rank/leaderboard.json").read_text())
    assert {model["model"]: model["shots"] for model in board["models"]} == {
        "uniform": 0, "uniform (1-shot)": 1, "uniform (3-shot)": 3, "uniform (5-shot)": 5,
    }  # fmt: skip
    assert board["run"]["few_shot"] == {"by": "random", "seed": 0}
    asked = [json.loads(line)["asked"] for line in Path("rank/samples.jsonl").read_text().splitlines()
             if '"task": "quiz"' in line]  # fmt: skip
    assert Counter(text.count("Q:") for text in asked) == {1: 2, 2: 2, 4: 2, 6: 2}
    page = Path("rank/report.html").read_text()
    found = curves(page)
    assert len(found) == 4  # accuracy and exact match, each for desk and phone
    for svg in found:
        assert svg.get("role") == "img"
        assert svg[0].tag.endswith("title")
        assert svg[0].text in (
            "Accuracy by number of examples in the prompt, with 95% intervals",
            "Exact match by number of examples in the prompt, with 95% intervals",
        )
    pairs = {(c["a"], c["b"]) for c in board["comparisons"] if c["metric"] == "accuracy"}
    assert len(pairs) == 6
    # One number of examples is no curve.
    assert command("rank", "uniform", "--suite", str(folder), "--shots", "1", "--limit", "2").status == 0
    assert not curves(Path("rank/report.html").read_text())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--shots", "0,x"), ("'0,x'", "such as 0,1,5")),
        (("--shots", ""), ("''", "such as 0,1,5")),
        (("--shots", "-1"), ("'-1'", "such as 0,1,5")),
        (("--shots", "0,1,,5"), ("'0,1,,5'",)),
        (("--shots", "9" * 5000), ("such as 0,1,5",)),
        (("--shots", "5,1,05"), ("5 twice",)),
        (("--shots", "0,13"), ("13 shots", "0 to 12")),
        (("--shots", "1", "--shots-by", "nearby"), ("'nearby'", "nearest")),
        (("--shots", "1", "--shots-by", "nearest", "--seed", "1"), ("--seed", "'nearest'")),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_lists_that_make_no_sense_are_refused(
    command: Command, write: Write, options: tuple[str, ...], named: tuple[str, ...]
) -> None:
    command("rank", "uniform", "--suite", str(write()), *options).refused(*named)


def test_a_curve_has_a_line_and_a_name_for_each_model() -> None:
    def entry(value: float) -> dict[str, Any]:
        return {"accuracy": {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 50}}

    models = [
        {"model": f"{name} ({k}-shot)", "name": name, "shots": k, "metrics": entry(start + k / 20)}
        for name, start in (("alpha", 0.3), ("beta", 0.4), ("gamma", 0.25))
        for k in (1, 2, 5)
    ]
    lone = {"model": "lone", "name": "lone", "shots": 1, "metrics": entry(0.5)}
    for svg in curves(html_report({"models": [*models, lone]}, [])):
        text = [element.text for element in svg.iter() if element.tag.endswith("}text")]
        assert {"alpha", "beta", "gamma", "1", "2", "5"} <= set(text)
        assert "lone" not in text
        # A line through three points: two segments drawn with L; symbols and axes are closed or have none.
        drawn_lines = [e.get("d", "") for e in svg.iter() if e.get("stroke-width") == "2" and e.tag.endswith("}path")]
        assert sum(bool(re.fullmatch(r"M[^MLZ]+L[^MLZ]+L[^MLZ]+", d)) for d in drawn_lines) == 3
        intervals = [e for e in svg.iter() if e.get("stroke-width") == "1.5" and e.tag.endswith("}line")]
        assert len(intervals) == 9 + 1  # and chance
    assert not curves(html_report({"models": [lone, {**lone, "model": "other", "name": "other"}]}, []))
