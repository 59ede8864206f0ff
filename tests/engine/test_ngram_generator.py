"""An n-gram model behind the protocol: scores are its log-probabilities, text streams, errors are sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from safetensors.numpy import load_file, save_file

from fairground.engine.local import LocalGenerator, open_model
from fairground.engine.ngram import NGramGenerator
from fairground.errors import ConfigError, FairgroundError, RequestError, TokenizerError, UnknownModel, WeightsError
from fairground.models.ngram import fit, save
from fairground.models.tokenizer import Tokenizer
from fairground.types import Message, Request, Sampling, ScoreRequest

LINES = (Path(__file__).parents[1] / "models" / "kenlm" / "text.txt").read_text().splitlines()
ORDER = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the letters of a nursery rhyme."""
    folder = tmp_path_factory.mktemp("rhyme")
    tiny.write_tokenizer(folder)
    tokenizer = Tokenizer.from_folder(folder)
    verses = [tokenizer.encode(line + "\n", special=False) for line in LINES]
    save(fit(verses, tiny.EOS + 1, order=ORDER, bos_id=tiny.BOS, eos_id=tiny.EOS), folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[NGramGenerator]:
    model = open_model(folder, name="rhyme", licence="CC0")
    assert isinstance(model, NGramGenerator)
    yield model
    model.close()


def write(model: NGramGenerator, prompt: str, **sampling) -> str:
    return model.submit(Request(prompt, Sampling(**sampling))).completion().text


def test_what_a_leaderboard_says_of_it(model: NGramGenerator, folder: Path) -> None:
    tables = load_file(folder / "model.safetensors")
    numbers = ("unigrams", "ratios", "backoffs")
    assert model.info.parameters == sum(len(t) for name, t in tables.items() if name.startswith(numbers))
    assert (model.info.name, model.info.family, model.info.licence) == ("rhyme", "5-gram", "CC0")
    assert model.info.memory_bytes
    assert model.info.can.chat
    assert model.info.can.context_length is None
    assert model.count_tokens("abc") == 2


@pytest.mark.parametrize(
    ("context", "continuation"),
    [
        ("this is the", " cat"),
        ("this is the ", "cat that"),  # the space goes over to the continuation
        ("", "this is"),
        ("the dog that worried " * 40, "the cat"),
        ("z", "zqx"),
    ],
)
def test_a_score_is_the_sum_of_log_probabilities(model: NGramGenerator, context: str, continuation: str) -> None:
    score = model.score([ScoreRequest(context, continuation)])[0]
    before = model.tokenizer.encode(context.rstrip(), special=False) or [tiny.BOS]
    after = model.tokenizer.encode(context[len(context.rstrip()) :] + continuation, special=False)
    total, greedy = 0.0, True
    for token in after:
        log_probs = model.model.log_probs(before)
        total, greedy, before = total + log_probs[token], greedy and log_probs.argmax() == token, [*before, token]
    assert score.logprob == pytest.approx(total, abs=1e-9)
    assert (score.greedy, score.tokens, score.truncated) == (greedy, len(after), 0)


def test_scores_do_not_depend_on_company(model: NGramGenerator) -> None:
    requests = [ScoreRequest("with the", f" {word}") for word in ("crumpled", "crown", "morn", "shaven")]
    alone = [model.score([request])[0] for request in requests]
    assert model.score(requests) == alone
    assert model.score(requests[::-1]) == alone[::-1]
    assert max(alone, key=lambda score: score.logprob) == alone[0]


def test_greedy_writing_is_what_scores_as_greedy(model: NGramGenerator) -> None:
    done = model.submit(Request("this is the f", Sampling(max_tokens=12, logprobs=2))).completion()
    assert done.text == "armer sowing"
    score = model.score([ScoreRequest("this is the f", done.text)])[0]
    assert score.greedy
    assert sum(done.logprobs) == pytest.approx(score.logprob, abs=1e-4)


def test_a_seed_repeats_a_text_in_any_company(model: NGramGenerator) -> None:
    setting = {"temperature": 1.0, "top_p": 0.95, "max_tokens": 40, "ignore_eos": True}
    alone = [write(model, "the ", seed=seed, **setting) for seed in range(4)]
    assert len(set(alone)) == 4
    streams = [model.submit(Request("the ", Sampling(seed=seed, **setting))) for seed in (3, 1, 2, 0, 7)]
    assert [stream.completion().text for stream in streams[:4]] == [alone[seed] for seed in (3, 1, 2, 0)]


def test_settings_reach_the_sampler(model: NGramGenerator) -> None:
    plain = write(model, "the ", max_tokens=30)
    assert write(model, "the ", max_tokens=30, temperature=1.0, top_k=1) == plain
    assert write(model, "the ", max_tokens=30, temperature=1.0, min_p=1.0) == plain
    assert write(model, "the ", max_tokens=30, repetition_penalty=1000.0) != plain


def test_events_add_up_to_the_completion(model: NGramGenerator) -> None:
    stream = model.submit(Request("the dog", Sampling(max_tokens=40, logprobs=3)))
    events, done = list(stream), stream.completion()
    assert "".join(event.text for event in events) == done.text
    assert tuple(event.token for event in events) == done.tokens
    assert len(done.tokens) == len(" that killed\n") + 1  # eos
    assert done.finish_reason == "stop"
    assert done.timing.tokens == tuple(sorted(done.timing.tokens))
    assert done.timing.time_to_first_token > 0
    assert all(len(event.alternatives) == 3 and event.alternatives[0][0] == event.token for event in events)


def test_the_end_of_a_text_ends_the_answer(model: NGramGenerator) -> None:
    done = model.submit(Request("the malt that lay", Sampling(max_tokens=50))).completion()
    assert (done.text, done.finish_reason, done.tokens[-1]) == (" in\n", "stop", tiny.EOS)


def test_stop_strings_end_the_text_and_are_left_out(model: NGramGenerator) -> None:
    stream = model.submit(Request("the dog", Sampling(max_tokens=50, stop=("never", "ille"))))
    assert "".join(event.text for event in stream) == " that k"
    assert stream.completion().finish_reason == "stop"


def test_tokens_come_one_by_one_and_cancelling_ends_one_request_only(model: NGramGenerator) -> None:
    long = model.submit(Request("the", Sampling(max_tokens=10**9, ignore_eos=True)))
    other = model.submit(Request("the", Sampling(max_tokens=50, ignore_eos=True)))
    assert next(iter(long)).text  # while the rest is still to be written
    assert len(other.completion().tokens) == 50
    long.cancel()
    assert long.completion().finish_reason == "cancelled"


def test_a_conversation_goes_through_the_chat_template(model: NGramGenerator, folder: Path) -> None:
    told = model.submit(Request((Message("user", "the cat"),), Sampling(max_tokens=1)))
    assert list(told.prompt) == model.tokenizer.encode("user: the cat\nassistant:", special=False)
    assert told.completion().prompt_tokens == len(told.prompt)
    bare = NGramGenerator("bare", model.model, Tokenizer.from_folder(folder))
    assert bare.template.note is None


@pytest.mark.parametrize(
    ("prompt", "named"),
    [("", "empty"), ((), "empty"), ((1, 259), "259 is outside the table of unigrams of rhyme, which has 259 rows")],
)
def test_prompts_that_cannot_be_served(model: NGramGenerator, prompt, named: str) -> None:
    with pytest.raises(RequestError, match=named):
        model.submit(Request(prompt))


def test_a_continuation_without_a_token_is_refused(model: NGramGenerator) -> None:
    with pytest.raises(RequestError, match="Request 2: the continuation"):
        model.score([ScoreRequest("a", " b"), ScoreRequest("a", "")])


def test_a_request_that_fails_ends_alone(model: NGramGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = model._logits

    def broken(answer):
        if answer.stream.request.prompt == "broken":
            raise RuntimeError("broken table")
        return logits(answer)

    monkeypatch.setattr(model, "_logits", broken)
    bad, good = (model.submit(Request(prompt, Sampling(max_tokens=5))) for prompt in ("broken", "the cat"))
    with pytest.raises(RuntimeError, match="broken table"):
        bad.completion()
    assert good.completion().text == " that"


def test_a_closed_model_refuses(folder: Path) -> None:
    model = open_model(folder)
    running = model.submit(Request("the", Sampling(max_tokens=10**9, ignore_eos=True)))
    model.close()
    assert running.completion().finish_reason == "cancelled"
    with pytest.raises(FairgroundError, match="closed"):
        model.submit(Request("the"))
    model.close()


def test_a_prompt_in_tokens_and_one_of_order_one(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    counts = fit([tokenizer.encode("eee!", special=False)], tiny.EOS + 1, order=1, bos_id=tiny.BOS, eos_id=tiny.EOS)
    model = NGramGenerator("letters", counts, tokenizer)
    assert model.info.family == "1-gram"
    prompt = tuple(tokenizer.encode("ab!", special=False))
    assert model.submit(Request(prompt, Sampling(max_tokens=3))).completion().text == "eee"
    assert model.score([ScoreRequest("a", "e!")])[0].logprob == pytest.approx(
        model.score([ScoreRequest("!", "!e")])[0].logprob
    )
    model.close()


# Opening a folder.


def test_a_folder_opens_as_what_its_config_says(folder: Path, tmp_path: Path) -> None:
    decoder = open_model(tiny.write_folder(tmp_path / "llama"))
    assert isinstance(decoder, LocalGenerator)
    decoder.close()


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_another_precision_is_refused(folder: Path, precision) -> None:
    with pytest.raises(ConfigError, match=f"leave out #{precision}"):
        open_model(folder, precision=precision)


def test_a_folder_that_is_not_whole_gets_a_sentence(folder: Path, tmp_path: Path) -> None:
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        open_model(tmp_path)
    tiny.write_tokenizer(tmp_path)
    tables = load_file(tmp_path / "model.safetensors")
    save_file(tables | {"tokens.4": np.full_like(tables["tokens.4"], 60_000)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="outside the vocabulary"):
        open_model(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UnknownModel, match=r"config\.json"):
        open_model(tmp_path)
