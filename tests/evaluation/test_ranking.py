"""The whole way from a suite to a leaderboard, with a small real model, its broken relatives, and the floor."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from bigram_model import Bigram

from fairground.errors import FairgroundError, RemoteError, RequestError, UnknownModel
from fairground.evaluation import Entrant, Progress, Run, Suite, UniformGuesser, load_suite, rank, sentences, write_run
from fairground.evaluation.runner import first_items
from fairground.evaluation.tasks import MultipleChoice, OrderDiscrimination
from fairground.types import Capabilities, Score, ScoreRequest

UNIFORM = Entrant("uniform", UniformGuesser)
SCORED = set(
    "accuracy accuracy_norm coherence truthfulness misinformation robustness brier ece flip_rate accuracy_gap".split()
)
WRITTEN = set(
    "exact_match relevance repetition chrf verbatim personal_data ttft_ms tokens_per_s energy_j_per_1k_tokens".split()
)


@pytest.fixture(scope="module")
def house() -> Suite:
    return load_suite("house")


def model(run: Run, label: str) -> dict:
    return next(entry for entry in run.leaderboard["models"] if entry["model"] == label)


@pytest.fixture(scope="module")
def run(house: Suite) -> Run:
    return rank(
        [Entrant("bigram", Bigram), Entrant("bigram", Bigram, shots=5), UNIFORM],
        house,
        scorer=Entrant("bigram", Bigram),
        environment={"command": ["fairground", "rank", "bigram"]},
    )


def test_every_column_has_its_interval(run: Run) -> None:
    assert [entry["shots"] for entry in run.leaderboard["models"]].count(5) == 1
    for entry in run.leaderboard["models"]:
        assert set(entry["metrics"]) == SCORED | WRITTEN
        for name, found in entry["metrics"].items():
            # Repeats do not show how far an estimate of energy is off.
            assert name == "energy_j_per_1k_tokens" or found["low"] <= found["value"] <= found["high"]
        assert entry["errors"] == []
        assert {"healthcare", "relations", "order_random", "order_swapped", "open", "choices_only"} <= set(
            entry["tasks"]
        )
    counts = {name: found["n"] for name, found in model(run, "bigram")["metrics"].items()}
    assert counts["accuracy"] == counts["ece"] == counts["brier"] == 400
    assert counts["coherence"] == 150
    assert counts["relevance"] == counts["repetition"] == 60
    assert counts["truthfulness"] == 40
    assert counts["flip_rate"] == 100
    assert counts["chrf"] == 120
    assert counts["ttft_ms"] == counts["tokens_per_s"] == 5
    assert model(run, "bigram")["memory_mb"] == 1.5


def test_accuracy_is_what_the_samples_say(run: Run, house: Suite) -> None:
    relations = [s for s in run.samples if s["model"] == "bigram" and s["task"] == "relations"]
    assert len(relations) == 64
    domains = {task.name for task in house.of(MultipleChoice) if task.metric == "accuracy"}
    counted = [s for s in run.samples if s["model"] == "bigram" and s["task"] in domains]
    assert len(counted) == 400
    found = model(run, "bigram")["metrics"]["accuracy"]["value"]
    assert found == pytest.approx(sum(s["right"] for s in counted) / 400)
    for sample in counted:
        assert sample["chosen"] == max(range(4), key=lambda i: sample["scores"][i])
    swapped = [s for s in run.samples if s["model"] == "bigram" and s["task"] == "order_swapped"]
    shuffled = [s for s in run.samples if s["model"] == "bigram" and s["task"] == "order_random"]
    # The bigram cannot tell some orders apart: a tie chooses neither and counts as half.
    halves = [sum(0.5 if s["right"] is None else s["right"] for s in part) / 150 for part in (swapped, shuffled)]
    assert model(run, "bigram")["metrics"]["coherence"]["value"] == pytest.approx(sum(halves) / 2)


def test_the_run_says_how_it_was_made(run: Run, house: Suite) -> None:
    about = run.leaderboard["run"]
    assert about["suite"]["hash"] == house.hash
    assert about["suite"]["items"] == 400 + 64 + 150 + 60 + 40 + 100 + 120 + 40 + 40 + 3 * 40
    assert about["scorer"] == {"model": "bigram", "precision": "float64"}
    assert about["probe"]["prompt_tokens"] == 128
    assert about["probe"]["concurrency"] == 1
    assert about["environment"]["command"] == ["fairground", "rank", "bigram"]
    assert {"fairground", "python", "platform", "cpu", "threads", "torch"} <= set(about["environment"])
    assert set(about["baselines"]["choices_only"]) == {"bigram", "uniform"}
    assert about["baselines"]["longest_choice"]["low"] <= 0.25 <= about["baselines"]["longest_choice"]["high"]
    assert about["chance"] == {"accuracy": 0.25, "coherence": 0.5}
    assert 0.02 < about["smallest_detectable_difference"]["accuracy"] < 0.2
    json.dumps(run.leaderboard, allow_nan=False)


def test_what_does_not_depend_on_shots_is_measured_once(run: Run, house: Suite) -> None:
    plain, shown = model(run, "bigram"), model(run, "bigram (5-shot)")
    assert shown["shared_with"] == "bigram"
    with_examples = {task.name for task in house.tasks if task.max_shots is not None}
    alike = {task.name for task in house.tasks} - with_examples
    assert set(shown["shared"]) == alike | {"choices_only", "response_time"}
    assert "shared_with" not in plain
    for metric in ("coherence", "relevance", "repetition", "ttft_ms", "tokens_per_s"):
        assert plain["metrics"][metric] == shown["metrics"][metric]
    pairs = {(entry["metric"], frozenset((entry["a"], entry["b"]))) for entry in run.leaderboard["comparisons"]}
    both = frozenset(("bigram", "bigram (5-shot)"))
    assert {("accuracy", both), ("exact_match", both)} <= pairs
    assert ("coherence", both) not in pairs
    compared = {"accuracy", "exact_match", "coherence", "relevance", "truthfulness", "robustness", "flip_rate", "chrf"}
    assert {metric for metric, _ in pairs} == compared
    assert len(pairs) == len(run.leaderboard["comparisons"]) == 2 + 2 * len(compared)


def test_comparisons_are_holm_corrected(run: Run) -> None:
    entries = sorted(run.leaderboard["comparisons"], key=lambda entry: entry["p_raw"])
    for i, entry in enumerate(entries):
        assert entry["p"] >= min(1, entry["p_raw"] * (len(entries) - i)) - 1e-12
        assert entry["significant"] == (entry["p"] < 0.05)
        assert entry["low"] <= entry["difference"] <= entry["high"]
        a, b = (model(run, entry[side])["metrics"][entry["metric"]]["value"] for side in "ab")
        assert entry["difference"] == pytest.approx(a - b)


def test_models_are_opened_one_after_another_and_closed(house: Suite) -> None:
    opened: list[Bigram] = []

    def open_one() -> Bigram:
        assert all(other.closed for other in opened)
        opened.append(Bigram())
        return opened[-1]

    seen: list[Progress] = []
    entrants = [Entrant("one", open_one), Entrant("one", open_one, 1), Entrant("two", open_one)]
    rank(entrants, house, limit=2, scorer=Entrant("one", open_one), progress=seen.append)
    assert len(opened) == 3
    assert all(each.closed for each in opened)
    done = [progress.done for progress in seen]
    assert done == sorted(done)
    assert seen[-1].done == seen[-1].total == done[-1]
    assert {"loading", "response_time", "healthcare", "open", "relevance", "choices_only"} <= {p.task for p in seen}


def test_the_same_run_twice_is_the_same_but_for_times(house: Suite) -> None:
    def once() -> Run:
        return rank([Entrant("bigram", Bigram), UNIFORM], house, limit=3, scorer=Entrant("bigram", Bigram))

    first, second = once(), once()
    assert first.samples == second.samples
    assert first.leaderboard["comparisons"] == second.leaderboard["comparisons"]
    assert first.leaderboard["run"]["id"] == second.leaderboard["run"]["id"]
    for one, other in zip(first.leaderboard["models"], second.leaderboard["models"], strict=True):
        assert one["tasks"] == other["tasks"]
    other_limit = rank([UNIFORM], house, limit=4)
    assert other_limit.leaderboard["run"]["id"] != first.leaderboard["run"]["id"]


def test_a_limit_keeps_domains_balanced(house: Suite) -> None:
    relations = next(task for task in house.of(MultipleChoice) if task.name == "relations")
    assert len({item.group for item in first_items(relations, 8).items}) == 8
    easy, hard = (first_items(task, 16) for task in house.of(OrderDiscrimination))
    assert [item.id for item in easy.items] == [item.id for item in hard.items]
    assert sorted([item.domain for item in easy.items]) == sorted([item.domain for item in easy.items[:8]] * 2)
    assert first_items(relations, 8).items == first_items(relations, 12).items[:8]
    assert set(first_items(relations, 10_000).items) == set(relations.items)


def test_a_limit_of_one_still_has_no_false_certainty(house: Suite) -> None:
    metrics = model(rank([Entrant("bigram", Bigram)], house, limit=1, scorer=UNIFORM), "bigram")["metrics"]
    assert metrics["relevance"]["low"] is None
    assert metrics["coherence"]["low"] < metrics["coherence"]["high"]


def test_what_cannot_score_is_left_out_of_those_columns(house: Suite) -> None:
    writer = Entrant("writer", lambda: Bigram(can=Capabilities(score=False)))
    reader = Entrant("reader", lambda: Bigram(can=Capabilities(generate=False)))
    result = rank([writer, reader, UNIFORM], house, limit=2, scorer=UNIFORM)
    assert set(model(result, "writer")["metrics"]) == WRITTEN
    assert "cannot score" in model(result, "writer")["notes"][0]
    assert set(model(result, "reader")["metrics"]) == SCORED
    assert "cannot generate" in model(result, "reader")["notes"][0]
    assert result.leaderboard["models"][-1]["model"] == "writer"
    assert not any("writer" in (e["a"], e["b"]) for e in result.leaderboard["comparisons"] if e["metric"] == "accuracy")


def test_a_model_that_fails_does_not_stop_the_others(house: Suite) -> None:
    def fail() -> Bigram:
        raise UnknownModel("There is no model nowhere; name another.")

    result = rank([Entrant("nowhere", fail), Entrant("bigram", Bigram)], house, limit=2)
    assert model(result, "nowhere")["errors"] == ["There is no model nowhere; name another."]
    assert model(result, "nowhere")["metrics"] == {}
    assert model(result, "bigram")["metrics"]["accuracy"]
    # The floor alone is no ranking.
    with pytest.raises(UnknownModel, match="nowhere"):
        rank([Entrant("nowhere", fail), UNIFORM], house, limit=2)


class Flaky(Bigram):
    """Gives NaN for one item, and breaks down on another task."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        if any("Input:" in request.context for request in requests):
            raise RemoteError("The server did not answer.")
        scores = super().score(requests)
        return [Score(math.nan, False, 1), *scores[1:]]


def test_what_is_not_a_number_is_an_error_and_not_a_wrong_answer(house: Suite) -> None:
    result = rank([Entrant("flaky", Flaky), Entrant("bigram", Bigram)], house, limit=4)
    flaky = model(result, "flaky")
    assert flaky["metrics"]["accuracy"]["n"] == 8 * 3
    assert "relations" not in flaky["tasks"]
    assert any(error.startswith("healthcare: 1 of 4 items could not be measured") for error in flaky["errors"])
    assert any("The server did not answer." in error for error in flaky["errors"])
    failed = [sample for sample in result.samples if "error" in sample]
    assert {sample["model"] for sample in failed} == {"flaky"}
    assert sum(sample["task"] == "relations" for sample in failed) == 4
    pair = next(entry for entry in result.leaderboard["comparisons"] if entry["metric"] == "accuracy")
    assert pair["n"] == 24
    # The passage that failed at one difficulty is left out of coherence altogether.
    assert flaky["metrics"]["coherence"]["n"] < model(result, "bigram")["metrics"]["coherence"]["n"]


def test_a_prompt_that_is_too_long_costs_only_its_item(house: Suite) -> None:
    reading = next(task for task in house.of(MultipleChoice) if task.name == "reading")
    lengths = sorted(len(item.fields["passage"] + item.fields["question"]) for item in reading.items)
    short = Capabilities(context_length=lengths[12] + 60)
    result = rank([Entrant("short", lambda: Bigram(can=short))], house)
    entry = model(result, "short")
    assert 5 < entry["tasks"]["reading"]["accuracy"]["n"] < 50
    assert entry["tasks"]["arithmetic"]["accuracy"]["n"] == 50
    assert any(error.startswith("reading: ") and "context is" in error for error in entry["errors"])


def test_the_scorer_may_fail_without_costing_the_rest(house: Suite) -> None:
    def fail() -> Bigram:
        raise UnknownModel("There is no such scorer.")

    result = rank([Entrant("bigram", Bigram)], house, limit=2, scorer=Entrant("scorer", fail))
    entry = model(result, "bigram")
    assert result.leaderboard["run"]["scorer"] is None
    assert "relevance" not in entry["metrics"]
    assert entry["metrics"]["repetition"]
    assert "There is no such scorer" in entry["notes"][-1]


def test_what_makes_no_sense_is_refused_before_anything_is_opened(house: Suite) -> None:
    def never() -> Bigram:
        raise AssertionError("opened")

    for entrants, limit, says in [
        ([], None, "no model"),
        ([Entrant("a", never)], 0, "limit is 0"),
        ([Entrant("a", never), Entrant("a", never)], None, "'a'"),
        ([Entrant("a", never, shots=6)], None, "0 to 5"),
        ([Entrant("a", never, shots=-1)], None, "0 to 5"),
    ]:
        with pytest.raises(RequestError, match=says):
            rank(entrants, house, limit=limit)


def test_interruption_closes_the_model(house: Suite) -> None:
    opened: list[Bigram] = []

    class Interrupted(Bigram):
        def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
            raise KeyboardInterrupt

    def open_one() -> Bigram:
        opened.append(Interrupted())
        return opened[-1]

    with pytest.raises(KeyboardInterrupt):
        rank([Entrant("a", open_one)], house, limit=1)
    assert opened[0].closed


def test_sentences_name_the_better_model_first(run: Run) -> None:
    pair = {"a": "uniform", "b": "smollm2"}
    worse = {"difference": -0.312, "low": -0.401, "high": -0.22}
    better = {"difference": 0.5, "low": 0.25, "high": 0.75}
    board = {
        "comparisons": [
            {**pair, "metric": "accuracy", **worse, "p": 0.0004, "significant": True},
            {**pair, "metric": "relevance", **better, "p": 0.012, "significant": True},
            {**pair, "metric": "coherence", **worse, "p": 0.3, "significant": False},
        ],
        "run": {"smallest_detectable_difference": {"accuracy": 0.104}},
    }
    assert sentences(board) == [
        "smollm2 is better than uniform in accuracy by 31.2 points (95% 22.0 to 40.1), p < 0.001.",
        "uniform is better than smollm2 in relevance by 0.50 nats per token (95% 0.25 to 0.75), p = 0.012.",
        "No other difference is significant.",
        "The smallest difference in accuracy that this suite could have detected is 10.4 points "
        "(80% power, two-sided 5%, one test).",
    ]
    assert sentences(run.leaderboard)[-1].startswith("The smallest difference")


def test_many_differences_of_one_model_share_a_line() -> None:
    rows = [("a", "b", 0.30), ("a", "c", 0.25), ("d", "a", -0.10), ("c", "d", -0.05)]
    board = {
        "comparisons": [
            {"a": a, "b": b, "metric": "accuracy", "difference": d, "low": d - 0.01, "high": d + 0.01, "p": 0.001,
             "significant": True} for a, b, d in rows
        ],
        "run": {"smallest_detectable_difference": {"accuracy": None}},
    }  # fmt: skip
    assert sentences(board, most=3) == [
        "a is better in accuracy than b, c and d, by 10.0 to 30.0 points.",
        "d is better in accuracy than c, by 5.0 points.",
        "Each difference's interval and p-value: report.html.",
    ]
    assert len(sentences(board, most=4)) == 4


def test_a_run_is_written_whole(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    written = write_run(run, out, {"report.html": "<p>é</p>"})
    names = {"leaderboard.json", "samples.jsonl", "scores.jsonl", "times.jsonl", "report.html"}
    assert {path.name for path in written} == names
    assert sorted(out.iterdir()) == sorted(written)
    assert json.loads((out / "leaderboard.json").read_text(encoding="utf-8")) == run.leaderboard
    lines = (out / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == run.samples
    with pytest.raises(ValueError, match="plain file name"):
        write_run(run, out, {"../x": ""})


def test_half_a_surrogate_pair_is_written_as_json_spells_it(tmp_path: Path) -> None:
    write_run(Run({}, [{"answer": "\ud800"}]), tmp_path)
    assert json.loads((tmp_path / "samples.jsonl").read_text(encoding="utf-8"))["answer"] == "\ud800"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_what_was_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (tmp_path / "leaderboard.json").write_text("old", encoding="utf-8")
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise error

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises((KeyboardInterrupt, FairgroundError)):
        write_run(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["leaderboard.json"]
    assert (tmp_path / "leaderboard.json").read_text(encoding="utf-8") == "old"
    calls.clear()
    with pytest.raises((KeyboardInterrupt, FairgroundError)):
        write_run(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()
