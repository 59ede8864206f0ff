"""Generation: Transformers' text exactly, the same text in any company, and the protocol's promises."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairground.engine.local import LocalGenerator, open_model
from fairground.errors import EngineError, FairgroundError, RequestError
from fairground.types import Message, Request, Sampling

PROMPT = "Once upon a time, there was a little girl named Lily who"


@pytest.fixture(scope="module")
def stories(stories15m: Path):
    model = open_model(stories15m, precision="float32", name="stories15m")
    yield model
    model.close()


def write(model: LocalGenerator, prompt, **sampling) -> str:
    return model.submit(Request(prompt, Sampling(**sampling))).completion().text


def greedy_ids(model: AutoModelForCausalLM, ids: list[int], count: int) -> list[int]:
    """Transformers' own loop, told nothing of sampling settings that a folder may bring."""
    out = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64), max_new_tokens=count,
        do_sample=False, num_beams=1, repetition_penalty=1.0, eos_token_id=-1, pad_token_id=0,
    )  # fmt: skip
    return out[0, len(ids) :].tolist()


def test_stories15m_continues_as_in_transformers(stories: LocalGenerator, stories15m: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(stories15m, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(stories15m)(PROMPT).input_ids
    got = stories.submit(Request(PROMPT, Sampling(max_tokens=64, ignore_eos=True))).completion()
    assert stories.prompt_tokens(Request(PROMPT)) == ids
    assert list(got.tokens) == greedy_ids(theirs, ids, 64)


@pytest.mark.verify
def test_smollm2_continues_as_in_transformers(smollm2: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32).eval()
    ours = open_model(smollm2, precision="float32")
    request = Request("Gravity is explained by", Sampling(max_tokens=64))
    ids = ours.prompt_tokens(request)
    assert list(ours.submit(request).completion().tokens) == greedy_ids(theirs, ids, 64)
    ours.close()


def test_the_same_text_in_any_company(stories: LocalGenerator) -> None:
    """Greedy and seeded sampling, alone and beside 30 other requests."""
    settings = [
        {"max_tokens": 40},
        {"max_tokens": 40, "temperature": 0.9, "top_p": 0.9, "seed": 7},
        {"max_tokens": 40, "temperature": 1.2, "top_k": 20, "min_p": 0.02, "repetition_penalty": 1.2, "seed": 8},
    ]
    alone = [write(stories, PROMPT, **s) for s in settings]
    others = [Request(f"The {i} dogs", Sampling(max_tokens=3 + 2 * i, temperature=1, seed=i)) for i in range(30)]
    streams = [stories.submit(r) for r in others[:15]]
    mine = [stories.submit(Request(PROMPT, Sampling(**s))) for s in settings]
    streams += [stories.submit(r) for r in others[15:]]
    assert [m.completion().text for m in mine] == alone
    assert len(set(alone)) == 3
    assert all(s.completion().finish_reason in ("stop", "length") for s in streams)


def test_another_seed_writes_another_text(stories: LocalGenerator) -> None:
    texts = {write(stories, PROMPT, temperature=1.0, max_tokens=30, seed=seed) for seed in range(4)}
    assert len(texts) == 4


def test_deterministic_bfloat16_writes_the_same_in_any_company(stories15m: Path) -> None:
    model = open_model(stories15m, deterministic=True)
    alone = write(model, PROMPT, max_tokens=30)
    streams = [model.submit(Request(f"{PROMPT} {i}", Sampling(max_tokens=10 + i))) for i in range(12)]
    mine = model.submit(Request(PROMPT, Sampling(max_tokens=30)))
    assert mine.completion().text == alone
    assert all(s.completion().text for s in streams)
    model.close()


def test_events_add_up_to_the_completion(stories: LocalGenerator) -> None:
    stream = stories.submit(Request(PROMPT, Sampling(max_tokens=25, logprobs=3)))
    events = list(stream)
    completion = stream.completion()
    assert "".join(event.text for event in events) == completion.text
    assert completion.timing.tokens == tuple(sorted(completion.timing.tokens))
    assert completion.timing.time_to_first_token > 0
    assert [event.token for event in events][: len(completion.tokens)] == list(completion.tokens)
    for event in events[:25]:
        assert event.alternatives[0] == (event.token, pytest.approx(event.logprob))  # greedy takes the most likely
        assert len(event.alternatives) == 3


def test_logprobs_are_those_of_scoring(stories: LocalGenerator) -> None:
    from fairground.types import ScoreRequest

    completion = stories.submit(Request(PROMPT, Sampling(max_tokens=20, logprobs=0))).completion()
    scored = stories.score([ScoreRequest(PROMPT, completion.text)])[0]
    assert scored.tokens == len(completion.tokens)
    assert scored.greedy
    assert sum(completion.logprobs) == pytest.approx(scored.logprob, abs=1e-4)


def test_stop_strings_end_the_text_and_are_left_out(stories: LocalGenerator) -> None:
    whole = write(stories, PROMPT, max_tokens=60)
    stop = whole[30:36]
    stream = stories.submit(Request(PROMPT, Sampling(max_tokens=60, stop=("never written", stop))))
    assert "".join(event.text for event in stream) == whole[: whole.index(stop)]
    assert stream.completion().finish_reason == "stop"


def test_cancelling_ends_one_request_and_no_other(stories: LocalGenerator) -> None:
    long = stories.submit(Request(PROMPT, Sampling(max_tokens=200, ignore_eos=True)))
    other = stories.submit(Request(PROMPT, Sampling(max_tokens=50, ignore_eos=True)))
    next(iter(long))
    long.cancel()
    assert long.completion().finish_reason == "cancelled"
    assert other.completion().finish_reason == "length"
    assert len(other.completion().tokens) == 50
    assert stories._cache.used == 0


def test_many_threads_submit_and_score_at_once(stories: LocalGenerator) -> None:
    from fairground.types import ScoreRequest

    expected = write(stories, PROMPT, max_tokens=20), stories.score([ScoreRequest(PROMPT, " was happy")])[0]
    got: list = []

    def work() -> None:
        got.append((write(stories, PROMPT, max_tokens=20), stories.score([ScoreRequest(PROMPT, " was happy")])[0]))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [expected] * 6


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("", "empty"),
        ((), "empty"),
        ("word " * 400, "401 tokens long, but stories15m sees 256"),
        ((1, 32000), "32000 is outside the embedding"),
        ((1, -5), "-5 is outside the embedding"),
    ],
)
def test_prompts_that_cannot_be_served(stories: LocalGenerator, prompt, named: str) -> None:
    with pytest.raises(RequestError, match=named):
        stories.submit(Request(prompt))


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 2.0},
        {"top_p": float("nan")},
        {"top_k": -1},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"max_tokens": 0},
        {"logprobs": 10**6},
        {"stop": ("",)},
    ],
    ids=str,
)
def test_settings_out_of_range(setting: dict) -> None:
    with pytest.raises(RequestError, match=next(iter(setting))):
        Sampling(**setting)


def test_a_model_without_a_template_says_so(stories: LocalGenerator) -> None:
    assert stories.info.can.chat is False
    assert "no chat template" in (stories.template.note or "")
    assert write(stories, (Message("user", "Tell a story."),), max_tokens=5)


def test_a_failing_pass_breaks_the_engine_and_nobody_waits(stories15m: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(stories15m)
    first = model.submit(Request(PROMPT, Sampling(max_tokens=200, ignore_eos=True)))
    next(iter(first))
    monkeypatch.setattr(model.decoder, "logits", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("broken product")))
    streams = [first, *(model.submit(Request(PROMPT)) for _ in range(3))]
    for stream in streams:
        with pytest.raises(EngineError, match="broken product"):
            stream.completion()
    assert model._cache.used == 0
    with pytest.raises(EngineError, match="load the model again"):
        model.submit(Request(PROMPT))
    assert model.broken
    model.close()


def test_a_closed_model_refuses(stories15m: Path) -> None:
    model = open_model(stories15m)
    running = model.submit(Request(PROMPT, Sampling(max_tokens=240, ignore_eos=True)))
    model.close()
    assert running.completion().finish_reason == "cancelled"
    with pytest.raises(FairgroundError, match="closed"):
        model.submit(Request(PROMPT))
