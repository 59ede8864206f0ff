"""What goes wrong between here and a server, cancelling, closing, and many requests at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
from fake_server import FakeServer, Fault

from fairground.errors import FairgroundError, RemoteError, RequestError, UnknownModel
from fairground.remote import transport
from fairground.remote.openai import OpenAIGenerator, open_remote
from fairground.types import Message, Request, Sampling, ScoreRequest

Serve = Callable[..., FakeServer]
Connect = Callable[..., OpenAIGenerator]
CHAT = Request((Message("system", "Be brief."), Message("user", "Count.")), Sampling(max_tokens=5))
TEXT = Request("Count:", Sampling(max_tokens=5))


def one_sentence(error: BaseException) -> bool:
    text = str(error)
    return text.endswith(".") and "\n" not in text and len(text) < 500


def test_busy_and_failing_servers_are_asked_again(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server)
    server.faults = [Fault(429, {"retry-after": "0.05"}), Fault(503, {"retry-after": formatdate(time.time() - 9)})]
    began = time.perf_counter()
    completion = generator.submit(TEXT).completion()
    assert completion.text == " one two three four five"
    assert len(server.seen) == 3
    assert completion.timing.accepted - began >= 0.05  # our waiting is not the model's


def test_patience_ends(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server)
    server.faults = [Fault(500)] * 3
    assert generator.submit(TEXT).completion().text
    server.faults = [Fault(500)] * transport.ATTEMPTS
    with pytest.raises(RemoteError, match=r"4 attempts \(error 500: out of order\)") as caught:
        generator.submit(TEXT).completion()
    assert one_sentence(caught.value)
    assert server.faults == []


def test_too_long_a_wait_is_not_waited_for(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server)
    server.faults = [Fault(429, {"retry-after": "86400"})]
    with pytest.raises(RemoteError, match="asks to wait 86400 s"):
        generator.submit(TEXT).completion()
    assert len(server.seen) == 1


def test_a_cut_before_the_first_token_is_mended_and_a_later_one_is_not(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server)
    server.faults = [Fault(cut_after=0)]
    assert generator.submit(CHAT).completion().text == " one two three four five"
    assert len(server.seen) == 2
    server.faults = [Fault(cut_after=2)]
    stream = generator.submit(CHAT)
    with pytest.raises(RemoteError, match="in the middle of an answer") as caught:
        list(stream)
    assert one_sentence(caught.value)
    assert len(server.seen) == 3
    with pytest.raises(RemoteError):
        stream.completion()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(end_after=2), "ended its answer in the middle"),
        (Fault(raw="data: {not json\n\n"), "not a chunk"),
        (Fault(raw='data: {"choices": [{"delta": {"content": 7}}]}\n\n'), "not a chunk"),
        (Fault(raw="data: [1]\n\n"), "not a chunk"),
        (Fault(raw="data: " + "[" * 100_000 + "\n\n"), "not a chunk"),
        (Fault(raw='data: {"error": {"message": "CUDA out of memory"}}\n\n'), "CUDA out of memory"),
    ],
)
def test_half_a_stream_and_garbage(serve: Serve, connect: Connect, fault: Fault, said: str) -> None:
    server = serve()
    generator = connect(server)
    server.faults = [fault]
    with pytest.raises(RemoteError, match=said) as caught:
        generator.submit(CHAT).completion()
    assert one_sentence(caught.value)
    assert generator.submit(CHAT).completion().text  # the next one is served


@pytest.mark.parametrize("fault", [Fault(silent=True), Fault(stall_after=2)])
def test_a_server_that_says_nothing(serve: Serve, connect: Connect, fault: Fault) -> None:
    server = serve()
    generator = connect(server, timeout_s=0.3)
    server.faults = [fault]
    with pytest.raises(RemoteError, match=r"sent nothing for 0\.3 s"):
        generator.submit(TEXT).completion()
    assert len(server.seen) == 1  # it may still be working on it, so it is not asked again


def test_nobody_there() -> None:
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1:9 did not answer in 4 attempts") as caught:
        open_remote("openai:counter@http://127.0.0.1:9/v1")
    assert one_sentence(caught.value)


def test_another_kind_of_server(serve: Serve) -> None:
    server = serve(chat=False, completions=False)
    with pytest.raises(RemoteError, match="usually /v1"):
        open_remote(server.reference)


def test_an_unknown_model_names_the_nearest(serve: Serve) -> None:
    with pytest.raises(UnknownModel, match="has no model 'countr'; it has, among others, counter"):
        open_remote(serve().reference.replace("counter", "countr"))


def test_a_prompt_that_is_refused(serve: Serve, connect: Connect) -> None:
    generator = connect(serve())
    with pytest.raises(RequestError, match="maximum context length"):
        generator.submit(Request("word " * 10_000)).completion()
    with pytest.raises(RequestError, match="empty"):
        generator.submit(Request(""))


def test_cancelling_closes_the_connection(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server, concurrency=1)
    server.delay_s = 0.01
    stream = generator.submit(Request("Count:", Sampling(max_tokens=400)))
    events = iter(stream)
    next(events)
    stream.cancel()
    completion = stream.completion()
    assert completion.finish_reason == "cancelled"
    assert completion.text.startswith(" one")
    assert server.broken_pipes.wait(2)
    server.delay_s = 0
    assert generator.submit(TEXT).completion().text  # its place is free again
    stream.cancel()  # too late, and harmless


def test_cancelling_and_closing_do_not_wait_for_the_server(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server, concurrency=2)
    server.faults = [Fault(stall_after=0), Fault(stall_after=1)]
    streams = [generator.submit(TEXT) for _ in range(4)]
    while server.running < 2:
        time.sleep(0.005)
    began = time.perf_counter()
    generator.close()
    assert time.perf_counter() - began < 1
    assert [stream.completion().finish_reason for stream in streams] == ["cancelled"] * 4
    for call in (lambda: generator.submit(TEXT), lambda: generator.score([ScoreRequest("a", " b")])):
        with pytest.raises(FairgroundError, match="closed"):
            call()


def test_a_wait_between_attempts_ends_with_cancel(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server)
    server.faults = [Fault(429, {"retry-after": "30"})]
    stream = generator.submit(TEXT)
    while not server.seen:
        time.sleep(0.005)
    stream.cancel()
    assert stream.completion().finish_reason == "cancelled"
    began = time.perf_counter()
    generator.close()
    assert time.perf_counter() - began < 1


def test_no_more_requests_at_a_time_than_allowed(serve: Serve, connect: Connect) -> None:
    server = serve()
    generator = connect(server, concurrency=3)
    server.delay_s = 0.01
    server.most_running = 0
    streams = [generator.submit(TEXT) for _ in range(12)]
    with ThreadPoolExecutor(4) as readers:
        completions = list(readers.map(lambda stream: stream.completion(), streams))
    assert {completion.text for completion in completions} == {" one two three four five"}
    assert server.most_running == 3
