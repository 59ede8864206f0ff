"""Response time: definitions, the closed loop, failures, goodput, and how they are shown."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bigram_model import Bigram, Stream
from example_run import example_run
from rich.console import Console

from fairground.cli.suite_options import timed
from fairground.errors import RemoteError, RequestError, SuiteError
from fairground.evaluation import Entrant, load_suite, probe, rank, write_run
from fairground.evaluation.baseline import UniformGuesser
from fairground.evaluation.energy import Energy
from fairground.evaluation.report import html_report
from fairground.evaluation.report_times import times_caption, times_table
from fairground.evaluation.response_times import Answered, Goodput, ResponseTimes, distribution
from fairground.evaluation.runner import run_id
from fairground.evaluation.suite import ProbeSettings, cut
from fairground.types import Completion, Request, Timing

SETTINGS = ProbeSettings(output_tokens=5, repeats=5, concurrencies=(1, 8), waves=3)
TARGET = Goodput(ttft=145, tpot=25)
EXAMPLE_ENERGY = Energy(12.0, 3.0, "estimate (4 W a core)", True)


class Scripted(Bigram):
    """Tells times by a script: the k-th measured request takes 100 + 10 (k mod 8) ms to its first token, then 20 ms a
    token where k is even and 30 ms where it is odd, unevenly. Requests begin each second, at concurrency 8 eight at a
    time, and there none ends before eight are in flight."""

    def __init__(self, failing: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.count = self.in_flight = self.most = 0
        self.failing = failing
        self.eight = threading.Barrier(8, timeout=20)

    def submit(self, request: Request) -> Stream:
        with self.lock:
            number, self.count = self.count, self.count + 1
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
        alone = number < 6
        k = number - (1 if alone else 14)
        accepted = float(k if alone else k // 8)

        class Told(Stream):
            def completion(told) -> Completion:  # noqa: N805
                if not alone:
                    self.eight.wait()
                with self.lock:
                    self.in_flight -= 1
                if k in self.failing and not alone:
                    raise RemoteError("The server answered 429; try again later.")
                each = 0.02 if k % 2 == 0 else 0.03
                first = accepted + 0.1 + 0.01 * (k % 8)
                times = tuple(first + each * part for part in (0, 0.5, 2, 3, 4))
                return Completion("abcde", (1,) * 5, "length", 128, Timing(accepted, times))

        self.prompts.append(request.prompt)
        return Told(self, request)


def expected(count: int) -> dict[str, list[float]]:
    """In milliseconds, by the script."""
    ttft = [100 + 10.0 * (k % 8) for k in range(count)]
    tpot = [20.0 if k % 2 == 0 else 30.0 for k in range(count)]
    gaps = [each * part for each in tpot for part in (0.5, 1.5, 1, 1)]
    return {"ttft_ms": ttft, "tpot_ms": tpot, "itl_ms": gaps,
            "e2el_ms": [a + 4 * b for a, b in zip(ttft, tpot, strict=True)]}  # fmt: skip


def test_times_at_both_concurrencies_are_what_the_script_says() -> None:
    model, done = Scripted(), []
    found = {at: own.as_json(TARGET) for at, own in probe.measure(model, SETTINGS, done.append).items()}
    assert len(done) == SETTINGS.total == 1 + 5 + 8 + 24
    assert model.most == 8
    assert len({str(text)[:40] for text in model.prompts}) == SETTINGS.total
    for at, count, seconds in ((1, 5, 4.22), (8, 24, 2.29)):
        load = found[at]
        assert (load["requests"], load["failed"]) == (count, 0)
        for name, values in expected(count).items():
            assert load[name]["n"] == len(values)
            assert load[name]["p50"] == pytest.approx(np.percentile(values, 50))
            assert load[name]["mean"] == pytest.approx(np.mean(values))
            assert load[name]["max"] == pytest.approx(max(values))
        assert load["duration_s"] == pytest.approx(seconds)
        assert load["output_tokens_per_s"] == pytest.approx(5 * count / seconds)
        assert load["requests_per_s"] == pytest.approx(count / seconds)
        # Of every eight, the first five begin in time and every second one writes in time.
        good = {1: 3, 8: 9}[at]
        assert load["goodput"]["good"] == good
        assert load["goodput"]["share"] == pytest.approx(good / count)
        assert load["goodput"]["requests_per_s"] == pytest.approx(good / seconds)
        assert load["goodput"]["target_ms"] == {"ttft": 145, "tpot": 25}
    assert found[8]["ttft_ms"]["p95"] == pytest.approx(np.percentile(expected(24)["ttft_ms"], 95))
    assert found[8]["ttft_ms"]["p99"] is None
    assert found[1]["ttft_ms"]["p95"] is None


@pytest.mark.parametrize(("n", "known"), [(1, []), (19, []), (20, [95]), (99, [95]), (100, [95, 99]), (501, [95, 99])])
def test_percentiles_are_numpys_where_they_say_more_than_the_maximum(n: int, known: list[int]) -> None:
    values = list(np.random.default_rng(n).exponential(size=n))
    found = distribution(values)
    for percent in (95, 99):
        assert found[f"p{percent}"] == (pytest.approx(np.percentile(values, percent)) if percent in known else None)
    assert (found["p50"], found["max"]) == (pytest.approx(np.median(values)), max(values))


def test_tokens_of_one_chunk_are_one_arrival() -> None:
    """As in vLLM's benchmark, where TPOT counts tokens and ITL counts chunks."""
    one = Answered(10, Timing(1.0, (1.5, 1.5, 1.75, 1.75, 1.75, 2.5)))
    assert one.itl_ms == [250.0, 750.0]
    assert (one.ttft_ms, one.tpot_ms, one.e2el_ms) == (500.0, 200.0, 1500.0)


def test_a_request_that_fails_is_counted_and_is_no_zero() -> None:
    model = Scripted(failing=frozenset({3, 4, 20}))
    found = probe.measure(model, SETTINGS, lambda n: None)[8]
    load = found.as_json(TARGET)
    assert (load["requests"], load["failed"]) == (21, 3)
    assert min(found.ttft_ms) > 99
    assert load["ttft_ms"]["n"] == 21
    # Numbers 4 and 20 would have been good ones; shares are of all that were asked.
    assert load["goodput"]["good"] == 7
    assert load["goodput"]["share"] == pytest.approx(7 / 24)


class Limited(Bigram):
    """Answers so many requests; after that the server wants no more."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers = answers

    def submit(self, request: Request) -> Stream:
        with self.lock:
            self.answers -= 1
            if self.answers < 0:
                self.prompts.append("refused")
                raise RemoteError("The server answered 429; try again later.")
        return super().submit(request)


def test_a_remote_that_rate_limits_is_said_and_not_asked_on(tmp_path: Path) -> None:
    house = load_suite("house")
    suite = replace(house, tasks=(house.tasks[0],), probe=SETTINGS)
    models: list[Limited] = []

    def opened() -> Limited:
        models.append(Limited(6))
        return models[-1]

    run = rank([Entrant("limited", opened, device=None)], suite, limit=2)
    (row,) = run.leaderboard["models"]
    assert row["metrics"]["ttft_ms"]["n"] == 5
    assert "energy_j_per_1k_tokens" not in row["metrics"]
    assert row["notes"] == ["Energy is not measured: the model runs on a server, whose energy is not known here."]
    assert row["response_time"]["8"]["requests"] == 0
    (error,) = row["errors"]
    assert "requests failed at concurrency 8 and have no times; the first: The server answered 429" in error
    # Eight at a time, so a few more than the patience may be under way, but not all that were planned.
    assert models[0].prompts.count("refused") < 8 + 24
    assert {record["concurrency"] for record in run.times if "error" in record} == {8}
    write_run(run, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "times.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == run.times
    assert len([line for line in lines if line["concurrency"] == 1 and len(line["itl_ms"]) == 4]) == 5
    page, text = html_report(run.leaderboard, run.samples), printed(run.leaderboard)
    assert "8 requests in flight" in page
    assert "429" in page
    assert "–" in text
    # Refused from the start, the reason is the model's error.
    with pytest.raises(RemoteError, match="429"):
        probe.measure(Limited(0), SETTINGS, lambda n: None)


def test_an_answer_of_one_token_has_no_speed() -> None:
    with pytest.raises(RequestError, match="asked for 1 tokens, but 1 came"):
        probe.measure(Bigram(), replace(SETTINGS, output_tokens=1), lambda n: None)


def test_ctrl_c_cancels_the_load() -> None:
    streams: list[Stream] = []
    cancelled = threading.Event()

    class Endless(Bigram):
        def submit(self, request: Request) -> Stream:
            class Waiting(Stream):
                def completion(self) -> Completion:
                    if len(streams) == 8 and self is streams[-1]:
                        raise KeyboardInterrupt
                    assert cancelled.wait(20)
                    raise RemoteError("cancelled")

                def cancel(self) -> None:
                    super().cancel()
                    if all(stream.cancelled for stream in streams[:7]):
                        cancelled.set()

            streams.append(Waiting(self, request))
            return streams[-1]

    load = probe._Load(Endless(), 8, lambda n: None)
    with pytest.raises(KeyboardInterrupt):
        load.run([Request("a")] * 24)
    assert len(streams) == 8


def test_goodput_targets_are_read_or_refused() -> None:
    assert Goodput.parse("ttft=500, tpot=50") == Goodput(500, 50)
    assert Goodput.parse("e2el=2000").limits() == {"e2el": 2000}
    for wrong in (
        "",
        "ttft",
        "ttft=",
        "ttft=fast",
        "ttft=0",
        "ttft=-1",
        "ttft=nan",
        "ttft=inf",
        "itl=5",
        "ttft=1,ttft=2",
    ):
        with pytest.raises(RequestError, match="goodput target"):
            Goodput.parse(wrong)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("concurrencies = [8]", "rising whole numbers"),
        ("concurrencies = [1, 8, 4]", "rising whole numbers"),
        ("concurrencies = [1, true]", "rising whole numbers"),
        ("concurrencies = 8", "rising whole numbers"),
        ('goodput = "ttft=fast"', "goodput target 'ttft=fast'"),
        ("waves = 0", "at least 1"),
    ],
)
def test_a_malformed_probe_is_named_by_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "prompt": "Why?", "domain": "x"}\n', encoding="utf-8")
    (tmp_path / "suite.toml").write_text(
        f'name = "a"\nversion = "1"\nlicence = "CC0"\n[probe]\n{line}\n[tasks.open]\nkind = "open"\nfile = "q.jsonl"\n',
        encoding="utf-8",
    )
    with pytest.raises(SuiteError, match=said) as caught:
        load_suite(tmp_path)
    assert "suite.toml:5:" in str(caught.value)


def printed(leaderboard: dict) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(times_table(leaderboard))
        console.print(times_caption(leaderboard))
    return captured.get()


def test_the_page_and_the_terminal_state_units_conditions_and_what_is_estimated() -> None:
    leaderboard, samples = example_run(per_domain=4)
    assert "No response time was measured" in html_report(leaderboard, samples)
    assert times_table(leaderboard) is None
    answered = tuple(Answered(128, Timing(i, tuple(i + 0.2 + 0.03 * j for j in range(64)))) for i in range(24))
    leaderboard["run"]["probe"]["goodput_ms"] = {"ttft": 500, "tpot": 50}
    model = leaderboard["models"][0]
    model["model"] = "<b>smollm2"
    model["response_time"] = {
        str(at): ResponseTimes(at, answered, (), EXAMPLE_ENERGY).as_json(Goodput(500, 50)) for at in (1, 8)
    }
    page, text = html_report(leaderboard, samples), printed(leaderboard)
    section = page[page.index('<section id="times"') :].partition("</section>")[0]
    for said in (
        "Prompts of 128 tokens, answers of 64, on Intel Xeon, 2 cores, 2 threads",
        "One request at a time",
        "8 requests in flight",
        "<td>200<small>200, –, max 200</small></td>",
        "<td>30.0<small>30.0, 30.0, max 30.0</small></td>",
        "<td>~7.81</td>",
        "TTFT ≤ 500 ms and TPOT ≤ 50 ms",
        "Estimate (4 W a core)",
        "&lt;b&gt;smollm2",
    ):
        assert said in section
    assert "<b>smollm2" not in section
    assert max(map(len, text.splitlines())) <= 100
    assert "200, 200" in text
    assert "~7.81" in text
    assert "~ is an estimate (4 W a core)." in text.replace("\n", " ")


def test_times_may_be_left_out() -> None:
    """Such a run is another run, and asks nothing only to see how long it takes."""
    suite = load_suite("house")
    untimed = timed(suite, False, None)
    assert untimed.probe.total == 0
    entrants = [Entrant("uniform", UniformGuesser)]
    assert run_id(untimed, entrants, limit=1, scorer=None) != run_id(suite, entrants, limit=1, scorer=None)
    with pytest.raises(RequestError, match="--goodput"):
        timed(suite, False, "ttft=500")
    run = rank([Entrant("model", Bigram), *entrants], cut(untimed, ["healthcare"]), limit=2)
    assert not run.times
    assert "ttft_ms" not in run.leaderboard["models"][0]["metrics"]
    assert "</html>" in html_report(run.leaderboard, run.samples)
