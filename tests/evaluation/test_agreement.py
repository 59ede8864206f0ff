"""Agreement against Krippendorff's own worked examples, and by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fairground.errors import DataError, FairgroundError, MissingExtra
from fairground.evaluation import agreement
from fairground.evaluation.agreement import Level, alpha, alpha_interval, among_people, between, majority, with_people
from fairground.evaluation.judging import Winner
from fairground.evaluation.votes import JudgedPair, read_verdicts, read_votes

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", sections A, B and C; a dot is a missing rating.
BINARY = ["0100000010", "1110010000"]
NOMINAL = ["aabbdcccedda", "babbbccceddd"]
FOUR_OBSERVERS = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


def counts(observers: Sequence[str], values: str) -> np.ndarray:
    return np.array([[unit.count(value) for value in values] for unit in map("".join, zip(*observers, strict=True))])


@pytest.mark.parametrize(
    ("observers", "values", "level", "published"),
    [
        (BINARY, "01", "nominal", 0.095),
        (NOMINAL, "abcde", "nominal", 0.692),
        (FOUR_OBSERVERS, "12345", "nominal", 0.743),
        (FOUR_OBSERVERS, "12345", "ordinal", 0.815),
        (FOUR_OBSERVERS, "12345", "interval", 0.849),
    ],
)
def test_alpha_is_what_krippendorff_published(
    observers: Sequence[str], values: str, level: Level, published: float
) -> None:
    assert alpha(counts(observers, values), level) == pytest.approx(published, abs=0.0005)


def test_an_alpha_that_is_not_defined_is_none() -> None:
    assert alpha(np.array([[1, 0, 0], [0, 0, 1]])) is None  # nobody rated what another rated
    assert alpha(np.array([[2, 0, 0], [3, 0, 0]])) is None  # nothing but one value
    assert alpha_interval(np.array([[2, 0, 0]]), ["p"]) is None


def test_the_interval_covers_the_alpha_that_made_the_data() -> None:
    # Two raters who copy a common coin with probability r and else toss their own: alpha is r².
    rng = np.random.default_rng(7)
    r, covered, runs = 0.7, 0, 60
    for _ in range(runs):
        common, own, copies = rng.integers(2, size=150), rng.integers(2, size=(2, 150)), rng.random((2, 150)) < r
        said = np.where(copies, common, own)
        found = alpha_interval(
            np.stack([(said == value).sum(axis=0) for value in (0, 1)], axis=1), [str(i) for i in range(150)],
            "nominal", resamples=300,
        )  # fmt: skip
        assert found is not None
        covered += found["low"] <= r * r <= found["high"]
    assert covered >= 52  # 95% of 60 is 57; fewer than 52 has p < 0.01 then


def test_resampling_takes_clusters_whole() -> None:
    # The same ten units ten times over are ten units, not a hundred.
    rng = np.random.default_rng(1)
    ten = np.array([[2, 0, 0], [0, 0, 2], [1, 0, 1], [0, 1, 1], [0, 2, 0]])[rng.integers(5, size=10)]
    once = alpha_interval(ten, [str(i) for i in range(10)], "interval")
    copied = alpha_interval(np.repeat(ten, 10, axis=0), [str(i) for i in range(10) for _ in range(10)], "interval")
    assert once is not None
    assert copied is not None
    assert copied["high"] - copied["low"] == pytest.approx(once["high"] - once["low"], abs=0.15)


@pytest.mark.parametrize(
    ("votes", "most"),
    [("a", "a"), ("ab", "tie"), ("aab", "a"), ("abt", "tie"), ("abbt", "b"), ("aabb", "tie"), ("aabbt", "tie")],
)
def test_a_majority_has_the_most_votes_alone(votes: str, most: Winner) -> None:
    assert majority([{"a": "a", "b": "b", "t": "tie"}[vote] for vote in votes]) == most  # type: ignore[misc]


PAIRS = [
    JudgedPair("1", "q", "x", "y", ("a", "a", "b")),
    JudgedPair("2", "q", "x", "z", ("b", "b", "b")),
    JudgedPair("3", "q", "y", "z", ("tie", "tie")),
    JudgedPair("4", "q", "y", "w", ("a",)),
]


def test_a_judge_beside_people() -> None:
    same = with_people(PAIRS, {"1": "a", "2": "b", "3": "tie", "4": "a"})
    assert same["alpha"]["value"] == 1
    assert same["same"]["value"] == 1
    wrong = with_people(PAIRS, {"1": "b", "2": "a", "3": "tie", "4": None})
    assert wrong["pairs"] == 3
    assert wrong["alpha"]["value"] < 0
    assert wrong["same"]["value"] == pytest.approx(1 / 3)
    assert with_people(PAIRS, {})["alpha"] is None
    people = among_people(PAIRS)
    assert (people["pairs"], people["votes"], people["one_person"]["pairs"]) == (4, 9, 3)
    # Pair 1: each a against {a, b}, a tie; the b against {a, a}. Pair 2: three times b against b. Pair 3: ties.
    assert people["one_person"]["same"]["value"] == pytest.approx(5 / 8)
    # Coincidences by hand, nominal: pair 1 gives aa 1, ab 2·1; pair 2 bb 3; pair 3 tt 2: D_o = 2/8,
    # D_e = 2 (2·4 + 2·2 + 4·2) / (8·7) = 40/56.
    assert people["everyone"]["alpha_nominal"]["value"] == pytest.approx(1 - (2 / 8) / (40 / 56))
    assert between({"1": "a", "2": None}, {"1": "a", "2": "b"})["pairs"] == 1


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


VOTE = {"prompt": "q", "answer_a": "x", "answer_b": "", "winner": "left", "model": "whoever"}


def test_votes_on_the_same_texts_are_of_one_pair(tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", VOTE, VOTE | {"answer_b": "z"}, VOTE | {"winner": "tie (bothbad)"})
    pairs = read_votes(path)
    assert [(pair.b, pair.votes) for pair in pairs] == [("", ("a", "tie")), ("z", ("a",))]
    assert len(read_votes(path, limit=1)) == 1
    table = tmp_path / "v.csv"
    table.write_text("pair,prompt,answer_a,answer_b,winner\n7,q,x,y,model_b\n7,q,x,y,b\n")
    assert [(pair.id, pair.votes) for pair in read_votes(table)] == [("7", ("b", "b"))]
    said = write(tmp_path / "judge.jsonl", {"pair": 7, "winner": "tie"}, {"pair": "9", "winner": "a"})
    assert read_verdicts(said, read_votes(table)) == {"7": "tie"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([VOTE | {"winner": "maybe"}], "v.jsonl:1: winner is 'maybe'"),
        ([VOTE, {"prompt": "q", "winner": "a"}], "v.jsonl:2: 'answer_a' is missing"),
        ([VOTE | {"answer_a": "\ud800"}], "v.jsonl:1: 'answer_a' holds half of a surrogate"),
        ([VOTE | {"pair": "1"}, VOTE | {"pair": "1", "answer_a": "other"}], "v.jsonl:2: the pair '1' had other texts"),
        ([], "v.jsonl"),
    ],
)
def test_what_is_no_vote_is_refused_by_its_line(tmp_path: Path, lines: list[object], said: str) -> None:
    with pytest.raises(FairgroundError) as refused:
        read_votes(write(tmp_path / "v.jsonl", *lines))
    assert said in str(refused.value)


def test_verdicts_must_be_on_the_votes_pairs(tmp_path: Path) -> None:
    for lines, said in (
        ([{"pair": "other", "winner": "a"}], "no verdict on a pair"),
        ([{"winner": "a"}], "judge.jsonl:1: the key 'pair' is missing"),
        ([{"pair": "1", "winner": "a"}] * 2, "judge.jsonl:2: the pair '1' has a verdict already"),
    ):
        with pytest.raises(DataError) as refused:
            read_verdicts(write(tmp_path / "judge.jsonl", *lines), PAIRS)
        assert said in str(refused.value)
    with pytest.raises(DataError, match="There is no file"):
        read_votes(tmp_path / "nowhere.jsonl")


def test_who_lacks_the_package_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    with pytest.raises(MissingExtra, match=r"pip install 'fairground\[agreement\]'"):
        agreement.require()
