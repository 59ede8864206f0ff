"""The response-time probe, open answers and the uniform guesser's writing."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from bigram_model import Bigram, Stream

from fairground.errors import CapabilityError, RequestError, StoreError
from fairground.evaluation import Entrant, UniformGuesser, load_suite, probe, rank, relevance
from fairground.evaluation.journal import NoJournal
from fairground.evaluation.measure import Bench
from fairground.evaluation.suite import ProbeSettings
from fairground.evaluation.tasks import Extraction, OpenAnswers, OrderDiscrimination, Outcome, PersonalData
from fairground.types import Capabilities, Completion, Message, Request, Sampling, Timing


@pytest.mark.parametrize("count", [len, lambda text: len(text.split()), lambda text: (len(text) + 3) // 4])
@pytest.mark.parametrize("tokens", [1, 16, 128, 1000])
def test_the_probes_prompt_just_reaches_its_length(count, tokens: int) -> None:  # type: ignore[no-untyped-def]
    prompts = [probe.prompt(count, tokens, start) for start in range(7)]
    for prompt in prompts:
        assert count(prompt) >= tokens
        assert count(" ".join(prompt.split()[:-1])) < tokens
    if tokens >= 16:
        # No two begin alike, so a cache of prefixes helps nobody.
        assert len({prompt[:12] for prompt in prompts}) > 5


def test_a_tokenizer_that_counts_nothing_is_refused() -> None:
    with pytest.raises(RequestError, match="cannot reach"):
        probe.prompt(lambda text: 0, 128)


class Slow(Bigram):
    """First token after 30 ms, then one each 5 ms, by its own account."""

    def submit(self, request: Request) -> Stream:
        assert request.sampling.ignore_eos
        assert request.sampling.temperature == 0

        class Told(Stream):
            def completion(self) -> Completion:
                n = self.request.sampling.max_tokens
                times = tuple(self.accepted + 0.03 + 0.005 * i for i in range(n))
                return Completion("x" * n, (1,) * n, "length", 128, Timing(self.accepted, times))

        self.prompts.append(request.prompt)
        return Told(self, request)


def test_times_are_of_the_measured_requests_in_their_units() -> None:
    model, done = Slow(), []
    times = probe.measure(model, ProbeSettings(), done.append)[1]
    assert times.ttft_ms == pytest.approx([30.0] * 6, rel=1e-6)
    assert times.tokens_per_s == pytest.approx([200.0] * 6, rel=1e-6)
    assert times.prompt_tokens == (128,) * 6
    assert times.output_tokens == (64,) * 6
    assert len(set(model.prompts)) == len(done) == 7


def test_a_context_too_short_for_the_probe_is_said() -> None:
    with pytest.raises(RequestError, match="context of 192 tokens, but the model has 100"):
        probe.measure(Bigram(can=Capabilities(context_length=100)), ProbeSettings(), lambda n: None)


def test_answers_are_submitted_all_at_once_and_asked_in_the_models_own_way() -> None:
    (task,) = load_suite("house").of(OpenAnswers)
    for chat in (True, False):
        model = Bigram(can=Capabilities(chat=chat))
        five = replace(task, items=task.items[:5])
        result = Bench(model, NoJournal(), "model").write_together([five], 0, lambda name: lambda n: None)[0]
        assert not result.failures
        assert [outcome.id for outcome in result.outcomes] == [item.id for item in five.items]
        assert {outcome.record["tokens"] for outcome in result.outcomes} == {64}
        first = task.items[0].prompt
        assert model.prompts[0] == ((Message("user", first),) if chat else f"Question: {first}\nAnswer:")


def test_ctrl_c_cancels_what_still_runs() -> None:
    (task,) = load_suite("house").of(OpenAnswers)
    streams: list[Stream] = []

    class Interrupted(Bigram):
        def submit(self, request: Request) -> Stream:
            streams.append(super().submit(request))
            if len(streams) == 3:
                raise KeyboardInterrupt
            return streams[-1]

    with pytest.raises(KeyboardInterrupt):
        Bench(Interrupted(), NoJournal(), "model").write_together([task], 0, lambda name: lambda n: None)
    assert [stream.cancelled for stream in streams] == [True, True, False]


def test_a_journal_that_cannot_be_written_is_no_fault_of_the_models() -> None:
    (task,) = load_suite("house").of(OpenAnswers)

    class Full(NoJournal):
        def keep(self, model: str, task: str, shots: int, entries: object) -> None:
            raise StoreError("The database cannot be written (database or disk is full).")

    with pytest.raises(StoreError, match="full"):
        Bench(Bigram(), Full(), "model").write_together([task], 0, lambda name: lambda n: None)
    for score in (lambda bench, order: bench.score(order, 0, lambda n: None),
                  lambda bench, order: bench.score_together([order], 0, lambda name: lambda n: None)):  # fmt: skip
        with pytest.raises(StoreError, match="full"):
            score(Bench(Bigram(), Full(), "model"), load_suite("house").of(OrderDiscrimination)[0])


def test_relevance_is_higher_for_an_answer_to_its_own_prompt() -> None:
    """Under a scorer that repeats what it has read, an answer from the prompt's own words is relevant."""
    (task,) = load_suite("house").of(OpenAnswers)
    item = task.items[0]
    scorer = Bigram()
    records = [{"asked": item.prompt, "answer": text} for text in ("the nurse", "  ", "")]
    answers = [Outcome(item.id, item.domain, item.id, {}, record) for record in records]
    relevances = relevance.relevances(scorer, task, answers)
    assert relevances[1:] == [0.0, 0.0]
    given, alone = scorer.score(relevance.requests(task, answers[0]))
    assert relevances[0] == pytest.approx((given.logprob - alone.logprob) / len(" the nurse"))
    assert scorer.calls == [2, 2]


def test_the_uniform_guesser_writes_random_words_in_real_time() -> None:
    model = UniformGuesser()
    before = time.perf_counter()
    stream = model.submit(Request("Why?", Sampling(max_tokens=20, logprobs=0)))
    written = stream.completion()
    assert (
        before
        <= written.timing.accepted
        <= written.timing.tokens[0]
        <= written.timing.tokens[-1]
        <= time.perf_counter()
    )
    assert len(written.tokens) == len(written.text.split()) == len(written.logprobs) == 20
    assert "".join(event.text for event in stream) == written.text
    assert written.finish_reason == "length"
    again = model.submit(Request("Why?", Sampling(max_tokens=20))).completion()
    assert again.text == written.text
    assert model.submit(Request("Why?", Sampling(max_tokens=20, seed=1))).completion().text != written.text
    word = written.text.split()[7]
    stopped = model.submit(Request("Why?", Sampling(max_tokens=20, stop=(f"{word} ",))))
    assert stopped.completion().text == written.text.split(f"{word} ")[0]
    assert "".join(event.text for event in stopped) == stopped.completion().text
    assert stopped.completion().finish_reason == "stop"
    for empty in ("", "  ", ()):
        with pytest.raises(RequestError, match="empty"):
            model.submit(Request(empty))
    assert model.submit(Request((Message("user", "one two"),))).completion().prompt_tokens == 2
    assert model.submit(Request((4, 5, 6))).completion().prompt_tokens == 3


def test_what_cannot_be_judged_here_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(text: str) -> set[str]:
        raise CapabilityError("presidio is not installed")

    monkeypatch.setattr("fairground.evaluation.tasks.privacy.personal_data", missing)
    suite = load_suite("house")
    (task,) = suite.of(PersonalData)
    model = Bigram()
    run = rank([Entrant("bigram", lambda: model)], replace(suite, tasks=(task, *suite.of(Extraction))), limit=2)
    (row,) = run.leaderboard["models"]
    assert row["notes"] == ["personal_data is not measured: presidio is not installed"]
    assert row["errors"] == []
    assert {sample["task"] for sample in run.samples} == {"extraction"}
    assert not {item.prompt for item in task.items} & set(map(str, model.prompts))
