"""What cannot be served gets OpenAI's error object with the right status, and the server goes on."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from scripted import LIMITS, Served, serving, until

from fairground.errors import FairgroundError, TemplateError
from fairground.serving.app import create_app

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
JSON = {"content-type": "application/json"}
USER = [{"role": "user", "content": "ab"}]


def post(
    served: Served, path: str, body: bytes, **headers: str
) -> tuple[int, dict[str, Any], http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=10)
    try:
        connection.request("POST", path, body, JSON | headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer
    finally:
        connection.close()


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "tiny", "messages": USER, **fields}).encode()


def text(**fields: Any) -> bytes:
    return json.dumps({"model": "tiny", "prompt": "ab", **fields}).encode()


def schema(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": of}}


EXPLODING = {"type": "string", "pattern": "^(" + "|".join(f"(a?){{{n}}}b*c{n}" for n in range(50, 400)) + "){1,5000}$"}
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://192.0.2.1/a.png"}}]}]
BAD = {
    "n beyond all bounds": (CHAT, chat(n=10**9), 400, "n", "n is 1000000000"),
    "n over the limit": (CHAT, chat(n=9), 400, "n", "9 answers"),
    "n of nothing": (CHAT, chat(n=0), 400, "n", "n is 0"),
    "negative max_tokens": (CHAT, chat(max_tokens=-1), 400, "max_tokens", "max_tokens is -1"),
    "endless max_tokens": (
        CHAT,
        b'{"model": "tiny", "messages": [], "max_tokens": 1e999}',
        400,
        "max_tokens",
        "finite",
    ),
    "many max_tokens": (TEXT, text(model="scripted", max_tokens=10**6), 400, "max_tokens", "max_tokens is 1,000,000"),
    "not a number": (CHAT, chat(temperature=float("nan")), 400, "temperature", "finite"),
    "hot": (CHAT, chat(temperature=-1), 400, "temperature", "temperature is -1"),
    "log-probabilities": (CHAT, chat(logprobs=True, top_logprobs=10**6), 400, "logprobs", "logprobs is 1000000"),
    "a bias beyond all bounds": (CHAT, chat(logit_bias={"3": 1e9}), 400, "logit_bias", "from -100 to 100"),
    "a bias of no token": (CHAT, chat(logit_bias={"a": 1}), 400, "logit_bias", "logit_bias"),
    "ten thousand prompts": (TEXT, text(prompt=["a"] * 10**4), 400, "n", "for 10,000 prompts"),
    "many prompts many times": (TEXT, text(prompt=["a"] * 1000, n=60_000), 400, "n", "for 1,000 prompts"),
    "many wrong prompts": (TEXT, text(prompt=[{}] * 10**4), 400, "prompt", "prompt"),
    "a prompt of no kind": (TEXT, text(prompt=5), 400, "prompt", "prompt is not right"),
    "an echo of everything": (TEXT, text(echo=True, max_tokens=0, logprobs=10**6), 400, "logprobs", "from 0 to 20"),
    "an echo of less": (TEXT, text(echo=True, max_tokens=0, logprobs=-1), 400, "logprobs", "from 0 to 20"),
    "a streamed echo": (TEXT, text(echo=True, max_tokens=0, stream=True), 400, "echo", "echo is not streamed"),
    "an echo without tokens": (TEXT, text(model="scripted", echo=True), 400, None, "does not tell its tokens"),
    "no prompt": (TEXT, text(prompt=[]), 400, "prompt", "prompt is empty"),
    "an empty prompt": (TEXT, text(prompt=""), 400, None, "prompt is empty"),
    "token ids that there are not": (TEXT, text(prompt=[10**30]), 400, None, "outside the embedding"),
    "a prompt beyond the context": (TEXT, text(prompt="x" * 100), 400, None, "sees 64"),
    "half a character": (TEXT, b'{"model": "tiny", "prompt": "\\ud800"}', 400, None, "surrogate"),
    "stops": (CHAT, chat(stop=["a"] * 5), 400, "stop", "5 strings"),
    "an empty stop": (CHAT, chat(stop=""), 400, "stop", "stop"),
    "an image": (CHAT, chat(messages=IMAGE), 400, "messages", "'image_url'"),
    "tools": (CHAT, chat(tools=[]), 400, "tools", "tools is not supported"),
    "no schema": (CHAT, chat(response_format={"type": "json_schema"}), 400, "response_format", "where its type is"),
    "a wrong schema": (CHAT, chat(response_format=schema({"type": 5})), 400, "response_format", "cannot be kept to"),
    "a wrong expression": (CHAT, chat(structured_outputs={"regex": "("}), 400, "structured_outputs", "kept to"),
    "no expression": (CHAT, chat(structured_outputs={}), 400, "structured_outputs", "exactly one"),
    "a template smuggled in": (CHAT, chat(chat_template_kwargs={"a": 1}), 400, "chat_template_kwargs", "not supported"),
    "an unknown role": (CHAT, chat(messages=[{"role": "tool", "content": "a"}]), 400, "messages", "role"),
    "no message": (CHAT, chat(messages=[]), 400, "messages", "messages is empty"),
    "no messages at all": (CHAT, b'{"model": "tiny"}', 400, "messages", "messages is missing"),
    "an unknown model": (CHAT, chat(model="gpt-9"), 404, "model", "there are: tiny, scripted"),
    "no JSON": (CHAT, b"{oops", 400, None, "not JSON"),
    "deep JSON": (CHAT, b"[" * 90_000, 400, None, "JSON"),
    "a list": (CHAT, b"[]", 400, None, "the body"),
    "nothing": (CHAT, b"", 400, None, "the body is missing"),
    "a long body": (CHAT, b"x" * 100_001, 413, None, "over 100,000 bytes"),
    "no such address": ("/v1/nothing", b"{}", 404, None, "nothing at this address"),
    "no such method": ("/v1/models", b"{}", 405, None, "another method"),
}


@pytest.fixture
def good(served: Served) -> Any:
    """After whatever happened, the server answers."""
    yield
    status, body, _ = post(served, TEXT, text(max_tokens=2))
    assert status == 200, body
    until(lambda: served.app.state.running.count == 0)


@pytest.mark.parametrize("case", list(BAD))
def test_bad_requests(served: Served, good: None, case: str) -> None:
    path, body, status, param, said = BAD[case]
    given, answer, _ = post(served, path, body)
    assert given == status, answer
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert said in answer["error"]["message"]
    assert answer["error"]["message"].endswith(".")
    assert answer["error"]["param"] == param
    assert answer["error"]["type"] == "invalid_request_error"


def test_a_long_body_that_does_not_say_so(served: Served, good: None) -> None:
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=10)
    connection.request("POST", CHAT, iter([b"x" * 60_000] * 2), JSON, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413
    assert "100,000 bytes" in json.loads(answer.read())["error"]["message"]
    connection.close()


def test_a_body_that_does_not_say_what_it_is(served: Served, good: None) -> None:
    status, answer, _ = post(served, CHAT, chat(), **{"content-type": "text/plain"})
    assert status == 400
    assert "content-type: application/json" in answer["error"]["message"]


def test_an_exploding_schema(served: Served, good: None) -> None:
    """Written to as far as the tokens go, or refused; and at once."""
    status, answer, _ = post(served, CHAT, chat(response_format=schema(EXPLODING), max_tokens=5))
    assert status in (200, 400), answer


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.verify)])
def test_many_schemas(served: Served, good: None, count: int) -> None:
    """What is kept of them is bounded (tests/engine/test_constraint.py)."""
    for number in range(count):
        of = schema({"type": "object", "properties": {f"field{number}": {"type": "integer"}}})
        status, answer, _ = post(served, CHAT, chat(response_format=of, max_tokens=1))
        assert status == 200, answer


@pytest.fixture
def defaults(served: Served) -> Any:
    """The same models under the limits that a server has where nobody sets any."""
    with serving(create_app({"tiny": served.local})) as url:
        yield replace(served, url=url)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (text(prompt=["a"] * 10**5), 400, "for 100,000 prompts"),
        (b'{"model": ' + b"[" * 10**5, 400, "JSON"),
        (chat(messages=[{"role": "user", "content": "a" * 3_900_000}]), 400, "sees 64"),
        (b"x" * 4_000_001, 413, "over 4,000,000 bytes"),
    ],
    ids=["prompts", "deep", "long", "longer"],
)
def test_limits_that_nobody_set(defaults: Served, body: bytes, status: int, said: str) -> None:
    begun = time.monotonic()
    got, answer, _ = post(defaults, TEXT if b'"prompt"' in body[:40] else CHAT, body)
    assert got == status, answer
    assert said in answer["error"]["message"]
    assert time.monotonic() - begun < 10
    assert post(defaults, TEXT, text(max_tokens=1))[0] == 200


def test_a_body_that_says_it_is_endless(defaults: Served) -> None:
    """Refused by its length alone; nothing of the 200 MB is waited for."""
    connection = http.client.HTTPConnection(urlsplit(defaults.url).netloc, timeout=10)
    connection.putrequest("POST", CHAT)
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(200 * 10**6))
    connection.endheaders(b"{")
    answer = connection.getresponse()
    assert answer.status == 413
    assert "4,000,000 bytes" in json.loads(answer.read())["error"]["message"]
    connection.close()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]", "[::1]:8000"])
def test_a_name_of_this_machine(served: Served, host: str) -> None:
    status, answer, _ = post(served, TEXT, text(max_tokens=1), host=host)
    assert status == 200, answer


def test_a_foreign_host(served: Served, good: None) -> None:
    status, answer, _ = post(served, CHAT, chat(), host="evil.example")
    assert status == 400
    assert "evil.example" in answer["error"]["message"]


def test_a_full_server(served: Served, good: None) -> None:
    running = served.app.state.running
    running.count = LIMITS.running
    status, answer, http_answer = post(served, CHAT, chat())
    assert status == 429
    assert answer["error"]["type"] == "rate_limit_error"
    assert int(http_answer.getheader("retry-after") or 0) >= 1
    running.count = 0


def test_a_model_that_fails(served: Served, good: None) -> None:
    served.scripted.fails = FairgroundError("The model was closed; load it again to use it.")
    served.scripted.permits.release()
    status, answer, _ = post(served, CHAT, chat(model="scripted", max_tokens=2))
    assert status == 503
    assert "model was closed" in answer["error"]["message"]
    served.scripted.fails = TemplateError("The chat template refuses this: roles must alternate.")
    served.scripted.permits.release()
    status, answer, _ = post(served, CHAT, chat(model="scripted", max_tokens=2))
    assert status == 400
    served.scripted.fails = ZeroDivisionError("a secret of the inside")
    served.scripted.permits.release()
    status, answer, _ = post(served, CHAT, chat(model="scripted", max_tokens=2))
    assert status == 500
    assert "secret" not in answer["error"]["message"]


def test_a_model_that_fails_in_the_middle(served: Served, good: None) -> None:
    def lines() -> Any:
        connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=10)
        connection.request("POST", CHAT, chat(model="scripted", max_tokens=3, stream=True), JSON)
        yield from (line.decode().removeprefix("data: ").strip() for line in connection.getresponse() if line.strip())

    served.scripted.permits.release()
    got = lines()
    assert json.loads(next(got))["choices"][0]["delta"]["role"] == "assistant"
    assert json.loads(next(got))["choices"][0]["delta"]["content"] == "word "
    served.scripted.fails = FairgroundError("The model was closed; load it again to use it.")
    served.scripted.permits.release()
    assert "model was closed" in json.loads(next(got))["error"]["message"]
    assert next(got) == "[DONE]"


def test_settings_that_underflow_harm_nobody(served: Served, good: None) -> None:
    """One request's arithmetic is its own: it is answered, and so are those that are computed beside it."""
    strange = [{"temperature": 1e-300, "top_p": 0.9}, {"temperature": 1e-37, "min_p": 0.5}, {"temperature": 5e-324}]
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(post, served, TEXT, text(max_tokens=20, **settings)) for settings in [*strange, {}, {}]]
    assert [answer.result()[0] for answer in sent] == [200] * 5
    plain = post(served, TEXT, text(max_tokens=20, temperature=0))[1]["choices"][0]["text"]
    assert all(answer.result()[1]["choices"][0]["text"] == plain for answer in sent[:3])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away(served: Served, good: None, stream: bool) -> None:
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=10)
    connection.request("POST", CHAT, chat(model="scripted", max_tokens=900, stream=stream, n=2), JSON)
    until(lambda: len(served.scripted.streams) == 2)
    served.scripted.permits.release(2)
    assert connection.sock is not None
    connection.sock.close()
    connection.close()
    # A server hears of it when it writes, so it is given something to write.
    until(lambda: served.scripted.permits.release() or all(s.cancelled.is_set() for s in served.scripted.streams))
    until(lambda: served.app.state.running.count == 0)
    assert all(stream.written < 900 for stream in served.scripted.streams)
