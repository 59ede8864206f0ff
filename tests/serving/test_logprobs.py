"""Log-probabilities, echo, biases and tokens through the API are the model's own, and lm-eval's."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Iterator

import lm_eval.models.openai_completions as harness
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
from openai import BadRequestError
from scripted import Served

from fairground.engine.local import open_model
from fairground.hub.catalogue import COMMONS
from fairground.types import Message, Request, Sampling, ScoreRequest

TEXT = "ab xyz ab"


def own_logprobs(served: Served, ids: list[int]) -> torch.Tensor:
    """What plain arithmetic on the decoder's logits says: [T, V]."""
    from fairground.models.packed import Packed

    decoder = served.local.decoder
    with torch.no_grad():
        return decoder.logits(decoder(torch.tensor(ids), Packed.of([len(ids)]))).log_softmax(-1)


def test_an_echo_with_log_probabilities(served: Served) -> None:
    made = served.client().completions.create(
        model="tiny", prompt=TEXT, echo=True, logprobs=3, max_tokens=0, temperature=0
    )
    ids = served.local.encode(TEXT)
    logprobs = own_logprobs(served, ids)
    choice = made.choices[0]
    assert choice.text == TEXT
    found = choice.logprobs
    assert found.tokens == [served.local.spell([token]) for token in ids]
    assert found.token_logprobs[0] is None
    assert found.top_logprobs[0] is None
    for at, token in enumerate(ids[1:], 1):
        assert found.token_logprobs[at] == pytest.approx(float(logprobs[at - 1, token]), abs=1e-4)
        best = logprobs[at - 1].topk(3)
        assert max(found.top_logprobs[at].values()) == pytest.approx(float(best.values[0]), abs=1e-4)
    assert made.usage.prompt_tokens == len(ids)
    assert made.usage.completion_tokens == 0


def test_an_echo_goes_on(served: Served) -> None:
    client = served.client()
    settings = {"model": "tiny", "max_tokens": 3, "temperature": 0}
    echoed = client.completions.create(prompt=[TEXT, "0"], n=2, echo=True, logprobs=1, **settings)
    alone = client.completions.create(prompt=[TEXT, "0"], n=2, logprobs=1, **settings)
    for number, choice in enumerate(echoed.choices):
        prompt = (TEXT, "0")[number // 2]
        assert choice.text == prompt + alone.choices[number].text
        length = len(served.local.encode(prompt))
        assert choice.logprobs.token_logprobs[length:] == alone.choices[number].logprobs.token_logprobs
    assert echoed.usage == alone.usage


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_of_a_chat(served: Served, stream: bool) -> None:
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "ab"}], "temperature": 0, "max_tokens": 4}
    made = served.client().chat.completions.create(**asked, logprobs=True, top_logprobs=2, stream=stream)
    choices = [chunk.choices[0] for chunk in made] if stream else made.choices
    content = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    assert len(content) == 4
    for token in content:
        assert len(token.top_logprobs) == 2
        assert token.logprob == max(top.logprob for top in token.top_logprobs)
        assert token.token == (
            bytes(token.bytes).decode() if max(token.bytes) < 128 else f"bytes:\\x{token.bytes[0]:02x}"
        )


def test_tokens_that_are_parts_of_characters(served: Served) -> None:
    text = "é ab🍣a"
    made = served.client().completions.create(model="tiny", prompt=text, echo=True, logprobs=0, max_tokens=0, n=2)
    for choice in made.choices:
        found = choice.logprobs
        assert found.tokens[:3] == ["bytes:\\xc3", "bytes:\\xa9", " "]
        assert found.text_offset[0] == 0
        letters = [text[at] for at, token in zip(found.text_offset, found.tokens, strict=True) if len(token) == 1]
        assert letters == [" ", "a"]
        assert text[found.text_offset[3] :].startswith("ab🍣")


def test_a_bias_decides(served: Served) -> None:
    token = served.local.encode("z")[-1]
    made = served.client().completions.create(
        model="tiny", prompt="ab", temperature=0, max_tokens=3, logit_bias={str(token): 100}
    )
    assert made.choices[0].text == "zzz"
    own = served.local.submit(Request("ab", Sampling(max_tokens=3, logit_bias=((token, 100.0),)))).completion()
    assert own.tokens == (token,) * 3


def test_tokens(served: Served) -> None:
    def post(path: str, **body: object) -> dict[str, object]:
        data = json.dumps({"model": "tiny", **body}).encode()
        request = urllib.request.Request(served.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    found = post("/tokenize", prompt=TEXT)
    assert found == {"tokens": served.local.encode(TEXT), "count": len(served.local.encode(TEXT)), "max_model_len": 64}
    assert post("/detokenize", tokens=found["tokens"])["prompt"] == TEXT


def test_what_has_no_tokens_to_tell(served: Served) -> None:
    client = served.client()
    with pytest.raises(BadRequestError, match="does not tell its tokens"):
        client.completions.create(model="scripted", prompt="a", logprobs=1)
    with pytest.raises(BadRequestError, match="top_logprobs is given without logprobs"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a"}], top_logprobs=2)
    with pytest.raises(BadRequestError, match="sees 64 in all"):
        client.completions.create(model="tiny", prompt="a" * 90, echo=True, logprobs=1, max_tokens=0)


def test_lm_eval_scores_through_http_what_the_model_scores(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness's own client, with token ids from its own tokenizer, on our API."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    folder = served.local_folder
    client = harness.LocalCompletionsAPI(
        base_url=f"{served.url}/v1/completions", model="tiny", tokenizer=str(folder), tokenizer_backend="huggingface",
        max_length=64,
    )  # fmt: skip
    pairs = [("ab", " xyz"), ("xyz ab", "ab"), ("0 1 2", " 3"), ("a", "b" * 9)]
    instances = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    theirs = client.loglikelihood(instances, disable_tqdm=True)
    ours = served.local.score([ScoreRequest(*pair) for pair in pairs])
    for (logprob, greedy), score in zip(theirs, ours, strict=True):
        assert logprob == pytest.approx(score.logprob, abs=1e-3)
        assert greedy == score.greedy


def test_lm_eval_with_our_tokenizer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its remote tokenizer, which asks for /tokenizer_info, /tokenize and /detokenize without naming a model."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    client = harness.LocalCompletionsAPI(
        base_url=f"{served.url}/v1/completions", model="tiny", tokenizer_backend="remote", max_length=64
    )
    pair = ("xyz ab", " 3")
    got = client.loglikelihood([Instance("loglikelihood", {}, pair, 0)], disable_tqdm=True)
    assert got[0][0] == pytest.approx(served.local.score([ScoreRequest(*pair)])[0].logprob, abs=1e-3)


def test_lm_eval_chats(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    client = harness.LocalChatCompletion(base_url=f"{served.url}/v1/chat/completions", model="tiny", max_length=64)
    asked = JsonChatStr(json.dumps([{"role": "user", "content": "ab"}]))
    settings = {"until": ["zz"], "max_gen_toks": 6, "temperature": 0}
    got = client.generate_until([Instance("generate_until", {}, (asked, settings), 0)], disable_tqdm=True)
    request = Request((Message("user", "ab"),), Sampling(max_tokens=6, stop=("zz",)))
    assert got == [served.local.submit(request).completion().text]


@pytest.fixture(scope="module")
def five_gram() -> Iterator[object]:
    model = open_model(COMMONS / "commons-5gram", name="commons-5gram")
    yield model
    model.close()


def test_an_ngram_tells_its_tokens_too(five_gram: object) -> None:
    ids = five_gram.encode("Once upon a time")  # type: ignore[attr-defined]
    (scores,) = five_gram.score_tokens([ids], 2)  # type: ignore[attr-defined]
    (whole,) = five_gram.score([ScoreRequest("", "Once upon a time")])  # type: ignore[attr-defined]
    assert math.fsum(score.logprob or 0.0 for score in scores) == pytest.approx(whole.logprob, abs=1e-6)
    for score in scores[1:]:
        assert score.alternatives[0][1] >= score.alternatives[1][1]
        assert score.logprob <= score.alternatives[0][1] + 1e-9
