"""Judges: strict verdicts, both orders, no judge of itself, nonsense that is never a vote, and nothing asked twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bigram_model import Bigram
from command import in_this_process
from example_run import example_run
from hypothesis import given
from hypothesis import strategies as st

from fairground.errors import RemoteError, RequestError, UnknownModel
from fairground.evaluation import Entrant, Run, Suite, load_suite, rank, write_run
from fairground.evaluation.against import compare_runs
from fairground.evaluation.judges import Judging
from fairground.evaluation.judging import VERDICTS, Kind, both_orders, graded, orders_agree, pairwise, read_verdict
from fairground.evaluation.report import html_report
from fairground.evaluation.report_judges import judge_captions
from fairground.evaluation.runner import run_id
from fairground.evaluation.suite import cut
from fairground.evaluation.votes import JudgedPair
from fairground.types import Capabilities, Completion, ModelInfo, Request, Score, ScoreRequest, Timing, TokenEvent


class Speaker:
    """Writes what a function of the prompt says."""

    def __init__(self, says: Callable[[str], str], name: str = "speaker", can: Capabilities | None = None) -> None:
        self.says = says
        self.info = ModelInfo(name, "speaker", 1, "exact", 0, None, can or Capabilities(score=False))
        self.asked: list[str] = []

    def submit(self, request: Request) -> Said:
        if isinstance(request.prompt, str):  # the probe of response time
            return Said("Some words.")
        (message,) = request.prompt
        self.asked.append(message.content)
        return Said(self.says(message.content))

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        raise AssertionError("nobody asked what it can do")

    def count_tokens(self, text: str) -> int:
        return len(text)

    def close(self) -> None:
        pass


class Said:
    def __init__(self, text: str) -> None:
        self.text = text

    def __iter__(self) -> Iterator[TokenEvent]:
        return iter(())

    def completion(self) -> Completion:
        now = time.perf_counter()
        return Completion(self.text, (1, 2), "stop", 1, Timing(now, (now, now + 0.001)))

    def cancel(self) -> None:
        pass


class Kept:
    """A journal in memory, as `store/` keeps one."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.left = -1

    def known(self, model: str, task: str, shots: int) -> Mapping[str, Any]:
        return json.loads(json.dumps(self.entries.get((model, task, shots), {})))

    def keep(self, model: str, task: str, shots: int, entries: Sequence[Mapping[str, Any]]) -> None:
        for entry in entries:
            if self.left == 0 and task.startswith("judge"):
                raise KeyboardInterrupt
            self.left -= task.startswith("judge")
            self.entries.setdefault((model, task, shots), {})[entry["id"]] = dict(entry)


def good(prompt: str) -> str:
    return "A full answer that helps." + prompt[-30:]


def bad(prompt: str) -> str:
    return "No."


def fair(prompt: str) -> str:
    """A judge that likes the longer answer, in either order, and grades it 4, a short one 2."""
    if "[Answer B]" not in prompt:
        return "4" if "A full answer" in prompt else "2"
    first, second = prompt.split("[Answer A]")[1].split("[Answer B]")
    return "A" if "full" in first and "full" not in second else "B" if "full" in second else "tie"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return cut(load_suite("house"), ["open"])


def entrant(says: Callable[[str], str], name: str, opened: list[Speaker] | None = None, **more: Any) -> Entrant:
    def open_() -> Speaker:
        speaker = Speaker(says, name)
        if opened is not None:
            opened.append(speaker)
        return speaker

    return Entrant(name, open_, **more)


def ranked(suite: Suite, *judges: Entrant, limit: int = 6, **how: Any) -> Run:
    models = [entrant(good, "good"), entrant(bad, "bad")]
    return rank(models, suite, limit=limit, judging=Judging(judges, **how))


@pytest.mark.parametrize(
    ("kind", "text", "verdict"),
    [
        ("pairwise", "A", "A"), ("pairwise", " B.\n", "B"), ("pairwise", "[[A]]", "A"), ("pairwise", "**tie**", "tie"),
        ("pairwise", "TIE", "tie"), ("pairwise", "Verdict: B", "B"), ("pairwise", '"A"', "A"),
        ("pairwise", "a", None), ("pairwise", "A or B", None), ("pairwise", "Answer A is better", None),
        ("pairwise", "C", None), ("pairwise", "", None), ("pairwise", "AB", None), ("pairwise", "A tie", None),
        ("rubric", "4", "4"), ("rubric", " 5.", "5"), ("rubric", "[3]", "3"), ("rubric", "Verdict: 1", "1"),
        ("rubric", "-3", None), ("rubric", "3.5", None), ("rubric", "0", None), ("rubric", "6", None),
        ("rubric", "10", None), ("rubric", "4/5", None), ("rubric", "four", None), ("rubric", "٣", None),
        ("rubric", "2 3", None),
    ],
)  # fmt: skip
def test_a_verdict_is_read_strictly(kind: Kind, text: str, verdict: str | None) -> None:
    assert read_verdict(kind, text) == verdict


@given(st.sampled_from(["pairwise", "rubric"]), st.text(max_size=30))
def test_any_text_is_a_verdict_or_nothing(kind: Kind, text: str) -> None:
    found = read_verdict(kind, text)
    assert found is None or (found in VERDICTS[kind] and found.lower() in text.lower())
    letters = [character for character in text if character.isalnum()]
    assert found is None or "".join(letters).lower().removeprefix("verdict") == found.lower()


def test_a_winner_must_win_in_both_orders() -> None:
    assert both_orders("A", "B") == "a"
    assert both_orders("B", "A") == "b"
    for forwards, backwards in (("A", "A"), ("B", "B"), ("A", "tie"), ("tie", "B"), ("tie", "tie")):
        assert both_orders(forwards, backwards) == "tie"
    assert both_orders(None, "A") is both_orders("A", None) is None
    assert orders_agree("A", "B")
    assert orders_agree("tie", "tie")
    assert not orders_agree("A", "A")
    assert not orders_agree("tie", "A")


def test_the_prompts_hold_what_is_judged_and_the_rubric() -> None:
    asked = pairwise("Why?", "Because.", "Thus.", rubric="A 5 says why.")
    place = [asked.prompt.index(part) for part in ("Why?", "A 5 says why.", "Because.", "Thus.", "one word")]
    assert place == sorted(place)
    assert asked.id != pairwise("Why?", "Thus.", "Because.", rubric="A 5 says why.").id
    assert "What to look for" not in graded("Why?", "Because.").prompt


def test_a_fair_judge_is_believed(suite: Suite) -> None:
    run = ranked(suite, entrant(fair, "fair"), limit=8)
    (judge,) = run.leaderboard["judges"]
    assert (judge["way"], judge["unreadable"], judge["failed"], judge["own"]) == ("written", 0, 0, [])
    grade = judge["grades"]["good"]
    assert grade["low"] < grade["value"] == 4 < grade["high"] <= 5  # all alike, and yet not certain
    assert judge["grades"]["bad"]["value"] == 2
    (pair,) = judge["pairs"]
    assert (pair["a"], pair["b"], pair["wins"], pair["ties"], pair["losses"]) == ("good", "bad", 8, 0, 0)
    assert judge["win_rates"]["bad"]["value"] == 0
    assert judge["order_agreement"]["value"] == 1
    assert judge["says_first"]["value"] == 0.5
    metrics = {model["model"]: model["metrics"] for model in run.leaderboard["models"]}
    assert metrics["good"]["judged"]["value"] == 4
    assert metrics["bad"]["win_rate"]["value"] == 0
    (compared,) = [one for one in run.leaderboard["comparisons"] if one["metric"] == "judged"]
    assert compared["method"] == "paired cluster bootstrap"
    assert abs(compared["difference"]) == 2
    assert {line["judged"] for line in run.scores} == {2.0, 4.0}
    assert [line["kind"] for line in run.judgements].count("pairwise") == 16
    assert all(line["verdict"] and line["answer"] for line in run.judgements)


def test_one_that_always_says_a_has_no_opinion(suite: Suite) -> None:
    (judge,) = ranked(suite, entrant(lambda _: "A", "first"), kinds=("pairwise",)).leaderboard["judges"]
    assert judge["order_agreement"]["value"] == 0
    assert judge["says_first"]["value"] == 1
    (pair,) = judge["pairs"]
    assert (pair["wins"], pair["ties"], pair["losses"]) == (0, 6, 0)
    assert judge["win_rates"]["good"]["value"] == judge["win_rates"]["bad"]["value"] == 0.5


def test_nonsense_is_counted_kept_and_no_vote(suite: Suite) -> None:
    run = ranked(suite, entrant(lambda prompt: "I cannot say.\x1b[31m" if "Answer B" in prompt else "3", "vague"))
    (judge,) = run.leaderboard["judges"]
    assert judge["unreadable"] == 12
    assert judge["asked"] == 12 + 6 + len({line["answer"] for line in run.samples if line["model"] == "bad"}) * 6
    assert judge["pairs"] == []
    assert judge["win_rates"] == {}
    assert judge["order_agreement"] is None
    assert [line["answer"] for line in run.judgements if line["verdict"] is None] == ["I cannot say.\x1b[31m"] * 12
    assert all("win_rate" not in model["metrics"] for model in run.leaderboard["models"])
    assert all(model["metrics"]["judged"]["value"] == 3 for model in run.leaderboard["models"])
    said = " ".join(judge_captions(run.leaderboard))
    assert f"12 of {judge['asked']} verdicts could not be read" in said
    page = html_report(run.leaderboard, run.samples)
    assert "12 of" in page
    assert "\x1b" not in page


def test_a_judge_that_breaks_is_named_and_costs_nobody_else_anything(suite: Suite) -> None:
    def broken() -> Speaker:
        raise UnknownModel("There is no such model.")

    def refuses(prompt: str) -> str:
        raise RemoteError("The server said 500.")

    run = ranked(suite, Entrant("broken", broken), entrant(refuses, "refuses"), limit=2)
    first, second = run.leaderboard["judges"]
    assert first["error"] == "There is no such model."
    assert second["failed"] == second["asked"] > 0
    assert second["first_failure"] == "The server said 500."
    assert all("judged" not in model["metrics"] for model in run.leaderboard["models"])
    assert "Not judged by broken: There is no such model." in run.leaderboard["models"][0]["notes"]
    assert "The server said 500." in html_report(run.leaderboard, run.samples)


def test_no_judge_of_itself_unless_it_is_asked_for(suite: Suite) -> None:
    names = frozenset({"hash-of-good"})
    models = [entrant(good, "good", known_as=names), entrant(bad, "bad"), entrant(good, "better")]
    judge = entrant(fair, "good#int8", known_as=names)
    apart = rank(models, suite, limit=4, judging=Judging((judge,)))
    (about,) = apart.leaderboard["judges"]
    assert about["own"] == ["good"]
    assert not about["itself"]
    assert set(about["grades"]) == {"bad", "better"}
    assert [(pair["a"], pair["b"]) for pair in about["pairs"]] == [("bad", "better")]
    assert not any("good" in (line.get("model"), line.get("first"), line.get("second")) for line in apart.judgements)
    notes = {model["model"]: model["notes"] for model in apart.leaderboard["models"]}
    assert any("which is the same model" in note for note in notes["good"])
    assert "It did not judge itself (good)." in " ".join(judge_captions(apart.leaderboard))

    asked = rank(models, suite, limit=4, judging=Judging((judge,), itself=True))
    (about,) = asked.leaderboard["judges"]
    assert about["itself"]
    assert set(about["grades"]) == {"good", "bad", "better"}
    assert "It judged its own answers too (good)." in " ".join(judge_captions(asked.leaderboard))
    assert "It judged its own answers too (good)." in html_report(asked.leaderboard, asked.samples)
    assert apart.leaderboard["run"]["id"] != asked.leaderboard["run"]["id"]


def test_what_was_judged_before_an_interruption_is_not_asked_again(suite: Suite) -> None:
    def run(opened: list[Speaker], journal: Kept) -> Run:
        models = [entrant(good, "good"), entrant(bad, "bad")]
        return rank(models, suite, limit=5, judging=Judging((entrant(fair, "fair", opened),)), journal=journal)

    unbroken: list[Speaker] = []
    whole = run(unbroken, Kept())
    journal, first, second = Kept(), [], []
    journal.left = 7
    with pytest.raises(KeyboardInterrupt):
        run(first, journal)
    journal.left = -1
    resumed = run(second, journal)
    assert resumed.scores == whole.scores
    assert resumed.judgements == whole.judgements
    assert resumed.leaderboard["judges"] == whole.leaderboard["judges"]
    assert len(second[0].asked) == len(unbroken[0].asked) - 7
    assert len(set(unbroken[0].asked)) == len(unbroken[0].asked)
    again: list[Speaker] = []
    run(again, journal)
    assert again[0].asked == []


def test_a_model_that_can_score_judges_by_likelihood(suite: Suite) -> None:
    models = [entrant(good, "good"), entrant(bad, "bad")]
    judge = Entrant("bigram", lambda: Bigram(can=Capabilities(chat=False)))
    run = rank(models, suite, limit=3, judging=Judging((judge,)))
    (about,) = run.leaderboard["judges"]
    assert about["way"] == "likelihood"
    for line in run.judgements:
        best = max(line["scores"].values())
        likeliest = [verdict for verdict, logprob in line["scores"].items() if logprob == best]
        assert tuple(line["scores"]) == VERDICTS[line["kind"]]
        assert line["verdict"] == (likeliest[0] if len(likeliest) == 1 else None)
    written = rank(models, suite, limit=3, judging=Judging((judge,), way="written"))
    assert written.leaderboard["judges"][0]["way"] == "written"
    cannot = rank(models, suite, limit=3, judging=Judging((entrant(fair, "fair"),), way="likelihood"))
    assert "cannot score" in cannot.leaderboard["judges"][0]["error"]


def test_who_did_not_see_the_whole_question_gives_no_verdict(suite: Suite) -> None:
    class Short(Bigram):
        def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
            return [replace(score, truncated=3) for score in super().score(requests)]

    run = ranked(suite, Entrant("short", Short), limit=2)
    (about,) = run.leaderboard["judges"]
    assert about["failed"] == about["asked"] > 0
    assert "3 tokens too short" in about["first_failure"]
    assert about["unreadable"] == 0
    assert about["grades"] == {}


def test_a_judge_is_measured_beside_people(suite: Suite) -> None:
    full, short = "A full answer", "No."
    people = (
        JudgedPair("1", "q", full, short, ("a", "a", "b")),
        JudgedPair("2", "q", short, full, ("b", "b")),
        JudgedPair("3", "r", short, "Nothing.", ("tie", "tie")),
    )
    run = ranked(suite, entrant(fair, "fair"), limit=2, people=people)
    about = run.leaderboard["judges"][0]["people"]
    assert about["pairs"] == 3
    assert about["alpha"]["value"] == 1
    assert about["of"]["votes"] == 7
    assert "Krippendorff's alpha 1.00" in " ".join(judge_captions(run.leaderboard))
    assert "Krippendorff&#x27;s alpha 1.00" in html_report(run.leaderboard, run.samples)


def test_grades_of_different_judges_are_not_compared(suite: Suite) -> None:
    one = ranked(suite, entrant(fair, "fair"))
    other = ranked(suite, entrant(lambda prompt: "1" if "Answer B" not in prompt else "tie", "harsh"))

    def metrics(before: Run, after: Run) -> set[str]:
        return {
            e["metric"] for e in compare_runs((before.leaderboard, before.scores), (after.leaderboard, after.scores))
        }

    assert "judged" in metrics(one, one)
    assert "judged" not in metrics(one, other)
    assert "repetition" in metrics(one, other)


def test_judgements_are_a_file_of_their_own_and_do_not_outlive_their_run(suite: Suite, tmp_path: Path) -> None:
    write_run(ranked(suite, entrant(fair, "fair"), limit=2), tmp_path / "run")
    lines = (tmp_path / "run" / "judgements.jsonl").read_text().splitlines()
    assert {json.loads(line)["judge"] for line in lines} == {"fair"}
    write_run(rank([entrant(good, "good")], suite, limit=2), tmp_path / "run")
    assert not (tmp_path / "run" / "judgements.jsonl").exists()


def test_nothing_is_said_of_judges_where_there_were_none() -> None:
    leaderboard, samples = example_run()
    assert 'id="judges"' not in html_report(leaderboard, samples)
    assert list(judge_captions(leaderboard)) == []


def test_judges_name_a_run_only_where_there_are_some(suite: Suite) -> None:
    models = [entrant(good, "good")]
    plain = run_id(suite, models, limit=None, scorer=None)
    judges = [Judging((entrant(fair, "fair"),)), Judging((entrant(fair, "fair"),), kinds=("rubric",))]
    ids = {run_id(suite, models, limit=None, scorer=None, judging=judging) for judging in judges}
    assert run_id(suite, models, limit=None, scorer=None, judging=None) == plain
    assert len(ids | {plain}) == 3


def test_a_suite_without_open_answers_has_nothing_to_judge() -> None:
    with pytest.raises(RequestError, match="no open answers to judge"):
        rank([entrant(good, "good")], cut(load_suite("house"), ["reading"]), judging=Judging((entrant(fair, "fair"),)))


VOTES = [
    {"pair": pair, "prompt": "Why?", "answer_a": f"Because {pair}.", "answer_b": "Thus.", "winner": winner}
    for pair, winners in {"1": "aab", "2": "bbt", "3": "tt", "4": "aaa"}.items()
    for winner in ({"a": "model_a", "b": "model_b", "t": "tie"}[winner] for winner in winners)
]


def write(path: Path, lines: Sequence[Mapping[str, str]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_the_command_measures_models_and_recorded_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = in_this_process(tmp_path, monkeypatch, capfd)
    votes = write(tmp_path / "votes.jsonl", VOTES)
    said = write(tmp_path / "said.jsonl", [{"pair": p, "winner": w} for p, w in zip("1234", "abta", strict=True)
                                           if w != "t"])  # fmt: skip
    ran = run("judge", said, "uniform", "--votes", votes, "--json")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    recorded, uniform = found["judges"]
    assert (recorded["recorded"], recorded["pairs"], recorded["alpha"]["value"]) == (True, 3, 1)
    assert (uniform["way"], uniform["asked"]) == ("likelihood", 8)
    assert found["people"]["votes"] == 11
    ran = run("judge", said, "--votes", votes)
    assert ran.status == 0, ran.err
    assert "one person" in ran.out
    assert "1.00" in ran.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["rank", "uniform", "--judge-itself"], "name one with --judge"),
        (["rank", "uniform", "--judging", "rubric"], "name one with --judge"),
        (["rank", "uniform", "--judge", "uniform", "--judging", "points"], "--judging is 'points'"),
        (["rank", "uniform", "--judge", "uniform", "--verdicts", "guessed"], "--verdicts is 'guessed'"),
        (["rank", "uniform", "--judge", "uniform", "--judge", "uniform"], "named twice"),
        (["rank", "uniform", "--judge", "uniform", "--judge-votes", "nowhere.csv"], "nowhere.csv"),
        (["rank", "uniform", "--judge", "no-such-model"], "no-such-model"),
        (["rank", "uniform", "--judge", "uniform", "--tasks", "reading"], "no open answers to judge"),
        (["judge", "uniform", "--votes", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    in_this_process(tmp_path, monkeypatch, capfd)(*arguments).refused(named)


def test_the_command_says_what_it_could_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    votes = write(tmp_path / "votes.jsonl", VOTES)
    ran = in_this_process(tmp_path, monkeypatch, capfd)("judge", "uniform", "--votes", votes, "--verdicts", "written")
    assert ran.status == 0
    assert "uniform: 8 of 8 verdicts could not be read; the first: " in ran.err
    assert "–" in ran.out
