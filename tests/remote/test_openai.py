"""Remote generators: what is sent and read, what is said of the model, and a ranking over one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_server import KEY, WORDS, FakeServer, logprob, pieces

from fairground.errors import CapabilityError, RemoteError
from fairground.evaluation import Entrant, UniformGuesser, load_suite, rank
from fairground.remote.openai import OpenAIGenerator, open_remote
from fairground.remote.stream import spread
from fairground.types import Generator, Message, Request, Sampling, Structure

Serve = Callable[..., FakeServer]
Connect = Callable[..., OpenAIGenerator]
CHAT = Request((Message("system", "Be brief."), Message("user", "Count.")), Sampling(max_tokens=5))
TEXT = Request("Count:", Sampling(max_tokens=5))


@pytest.mark.parametrize(("request_", "path"), [(CHAT, "/v1/chat/completions"), (TEXT, "/v1/completions")])
def test_an_answer_is_streamed(serve: Serve, connect: Connect, request_: Request, path: str) -> None:
    server = serve()
    generator: Generator = connect(server)
    stream = generator.submit(request_)
    events = list(stream)
    assert "".join(event.text for event in events) == " one two three four five"
    assert [event.token for event in events] == [-1] * 5
    assert [event.at for event in events] == sorted(event.at for event in events)
    completion = stream.completion()
    assert (completion.text, completion.finish_reason) == (" one two three four five", "length")
    assert completion.tokens == (-1,) * 5
    assert completion.timing.tokens == tuple(event.at for event in events)
    assert 0 < completion.timing.time_to_first_token < 5
    assert completion.prompt_tokens == (5 if request_ is CHAT else 2)
    assert list(stream) == []  # what is over stays over
    assert [where for where, _, _ in server.seen] == [path]


def test_settings_are_sent_and_neutral_ones_are_not(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server)
    generator.submit(TEXT).completion()
    warm = Sampling(temperature=0.7, top_p=0.9, seed=7, stop=("x", "y"), max_tokens=3, ignore_eos=True)
    generator.submit(Request(CHAT.prompt, warm)).completion()
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    cold = {"model": "counter", "prompt": "Count:", "max_tokens": 5, "temperature": 0.0, "seed": 0, **stream}
    assert server.bodies("/v1/completions") == [cold]
    (body,) = server.bodies("/v1/chat/completions")
    assert [m["role"] for m in body.pop("messages")] == ["system", "user"]
    assert body == {
        "model": "counter", "max_tokens": 3, "temperature": 0.7, "seed": 7, "top_p": 0.9, "stop": ["x", "y"],
        "ignore_eos": True, **stream,
    }  # fmt: skip


@pytest.mark.parametrize("setting", [{"top_k": 5}, {"min_p": 0.1}, {"repetition_penalty": 1.1}])
def test_what_the_protocol_cannot_express_is_refused(serve: Serve, connect: Connect, setting: dict[str, Any]) -> None:
    server = serve()
    generator = connect(server)
    with pytest.raises(CapabilityError, match=next(iter(setting))):
        generator.submit(Request("Count:", Sampling(**setting)))
    assert server.seen == []


def test_ignore_eos_goes_only_where_it_is_known(serve: Serve, connect: Connect) -> None:
    long = Request("Count:", Sampling(max_tokens=8, ignore_eos=True))
    known, other = serve(stops_after=3), serve(stops_after=3, owner="somebody")
    completion = connect(known).submit(long).completion()
    assert (len(completion.tokens), completion.finish_reason) == (8, "length")
    generator = connect(other)
    completion = generator.submit(long).completion()
    assert (len(completion.tokens), completion.finish_reason) == (3, "stop")
    assert "ignore_eos" not in other.bodies("/v1/completions")[0]
    assert any("ignore_eos" in note for note in generator.notes)


@pytest.mark.parametrize(
    ("sent", "meant"), [("stop", "stop"), ("length", "length"), ("content_filter", "stop"), ("eos_token", "stop")]
)
def test_finish_reasons(serve: Serve, connect: Connect, sent: str, meant: str) -> None:
    assert connect(serve(finish=sent)).submit(TEXT).completion().finish_reason == meant


def test_a_server_that_ends_with_an_error_gives_no_answer(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server)
    server.finish = "error"
    with pytest.raises(RemoteError, match="ended its answer with an error"):
        generator.submit(TEXT).completion()


def test_without_completions_text_is_one_user_message(serve: Serve, connect: Connect) -> None:
    server = serve(completions=False)
    generator = connect(server)
    assert generator.submit(TEXT).completion().text == " one two three four five"
    assert [body["messages"] for body in server.bodies("/v1/chat/completions")] == [
        [{"role": "user", "content": "Count:"}]
    ]
    assert server.bodies("/v1/completions") == []
    assert not generator.info.can.score
    with pytest.raises(CapabilityError, match="token ids"):
        generator.submit(Request((1, 2), TEXT.sampling))


def test_without_chat_messages_are_refused(serve: Serve, connect: Connect) -> None:
    generator = connect(serve(chat=False))
    assert not generator.info.can.chat
    assert generator.submit(TEXT).completion().text
    with pytest.raises(CapabilityError, match="messages"):
        generator.submit(CHAT)


def test_a_structure_is_asked_for_as_the_server_has_it_or_refused(serve: Serve, connect: Connect) -> None:
    schema = {"type": "object"}
    kinds = {"json": schema, "regex": "a|b", "choice": ["a", "b"]}

    def asked(owner: str, kind: str, request: Request) -> dict[str, Any]:
        server = serve(owner=owner)
        text = kinds[kind] if kind == "regex" else json.dumps(kinds[kind])
        structure = Structure(kind, text)  # type: ignore[arg-type]
        connect(server).submit(replace(request, sampling=Sampling(max_tokens=3, structure=structure))).completion()
        (body,) = server.bodies("/v1/chat/completions") + server.bodies("/v1/completions")
        return body

    for kind, value in kinds.items():
        for request in (CHAT, TEXT):
            assert asked("vllm", kind, request)["structured_outputs"] == {kind: value}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert asked("somebody", "json", CHAT)["response_format"] == form
    for kind, request in (("regex", CHAT), ("choice", CHAT), ("json", TEXT)):
        with pytest.raises(CapabilityError, match="structure"):
            asked("somebody", kind, request)


def test_fields_that_the_server_refuses_are_left_out(serve: Serve, connect: Connect) -> None:
    server = serve(refuses=("max_tokens", "seed", "logprobs", "stream_options"), completions=False, owner="somebody")
    generator = connect(server)
    assert len(generator.submit(CHAT).completion().tokens) == 5
    (body,) = server.bodies("/v1/chat/completions")
    assert set(body) == {"model", "max_completion_tokens", "temperature", "messages", "stream"}
    assert not generator.info.can.logprobs
    with pytest.raises(CapabilityError, match="log-probabilities"):
        generator.submit(Request("Count:", Sampling(logprobs=0)))
    assert {word for note in generator.notes for word in ("seed", "usage") if word in note} == {"seed", "usage"}


@pytest.mark.parametrize("prompt", [CHAT.prompt, TEXT.prompt])
def test_logprobs_of_what_is_written(serve: Serve, connect: Connect, prompt: Any) -> None:
    generator = connect(serve(per_chunk=2))
    assert generator.info.can.logprobs
    stream = generator.submit(Request(prompt, Sampling(max_tokens=4, logprobs=2)))
    events = list(stream)
    assert [event.text for event in events] == ["", " one two", "", " three four"]
    assert [event.logprob for event in events] == [logprob(word) for word in pieces(WORDS)[:4]]
    assert all([token for token, _ in event.alternatives] == [-1, -1] for event in events)
    assert stream.completion().logprobs == tuple(logprob(word) for word in pieces(WORDS)[:4])


def test_a_server_without_logprobs_says_so(serve: Serve, connect: Connect) -> None:
    assert not connect(serve(logprobs=False)).info.can.logprobs


def test_speed_is_by_the_tokens_that_the_server_counts(serve: Serve, connect: Connect) -> None:
    request = Request("Count:", Sampling(max_tokens=12))
    completion = connect(serve(per_chunk=4)).submit(request).completion()
    assert len(completion.tokens) == len(completion.timing.tokens) == 12
    assert len(set(completion.timing.tokens)) == 3
    unknown = connect(serve(per_chunk=4, usage=False)).submit(request).completion()
    assert len(unknown.timing.tokens) == 3
    assert unknown.prompt_tokens == 2  # "Count:" has 6 characters


def test_shown_reasoning_counts_as_written(serve: Serve, connect: Connect) -> None:
    completion = connect(serve(reasoning=3)).submit(CHAT).completion()
    assert completion.text == " one two three four five"
    assert len(completion.tokens) == len(completion.timing.tokens) == 8


def test_times_are_spread() -> None:
    assert spread([1.0, 2.0, 3.0], 5) == (1.0, 1.0, 2.0, 3.0, 3.0)
    assert spread([1.0, 2.0, 3.0], 2) == (1.0, 3.0)
    assert spread([1.0, 2.0], 1) == (1.0,)
    assert spread([], 4) == ()


def test_counting(serve: Serve, connect: Connect) -> None:
    exact, estimated = connect(serve()), connect(serve(tokenize=False))
    assert exact.count_tokens("one two three") == 3
    assert exact.count_tokens("") == 0
    assert not any("estimates" in note for note in exact.notes)
    assert estimated.count_tokens("one two three") == 4
    assert any("estimates" in note for note in estimated.notes)


def test_info(serve: Serve, connect: Connect) -> None:
    server = serve()
    info = connect(server).info
    assert (info.name, info.family, info.precision) == (server.reference, "remote", "remote")
    assert info.parameters is info.memory_bytes is None
    assert info.can.context_length == 4096


def test_ranking_a_remote_model(serve: Serve) -> None:
    server = serve(key=KEY)
    run = rank(
        [Entrant("remote", lambda: open_remote(server.reference)), Entrant("uniform", UniformGuesser)],
        load_suite("house"),
        limit=2,
        scorer=Entrant("scorer", lambda: open_remote(server.reference)),
    )
    remote = next(entry for entry in run.leaderboard["models"] if entry["model"] == "remote")
    assert remote["errors"] == []
    assert {"accuracy", "coherence", "relevance", "ttft_ms", "tokens_per_s"} <= set(remote["metrics"])
    assert all(math.isfinite(found["value"]) for found in remote["metrics"].values())
    assert (remote["family"], remote["precision"]) == ("remote", "remote")
    assert KEY not in repr(run)
