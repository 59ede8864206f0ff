"""What names a remote model, and keys: found, sent, and never said."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

import pytest
from fake_server import KEY, FakeServer, Fault

from fairground.errors import FairgroundError, RemoteError, RequestError, UnknownModel
from fairground.remote.address import parse
from fairground.remote.openai import OpenAIGenerator, open_remote
from fairground.types import Message, Request, Sampling, ScoreRequest

Serve = Callable[..., FakeServer]
Connect = Callable[..., OpenAIGenerator]
CHAT = Request((Message("system", "Be brief."), Message("user", "Count.")), Sampling(max_tokens=5))
TEXT = Request("Count:", Sampling(max_tokens=5))


def one_sentence(error: BaseException) -> bool:
    text = str(error)
    return text.endswith(".") and "\n" not in text and len(text) < 500


@pytest.mark.parametrize(
    ("reference", "model", "base"),
    [
        ("openai:m@https://host/v1", "m", "https://host/v1"),
        ("openai:@cf/meta/llama-3@https://host:8443/a/v1/", "@cf/meta/llama-3", "https://host:8443/a/v1"),
        ("openai:org/m:free@http://localhost:8000/v1", "org/m:free", "http://localhost:8000/v1"),
        ("openai:m@http://[::1]:1/v1", "m", "http://[::1]:1/v1"),
    ],
)
def test_references(reference: str, model: str, base: str) -> None:
    address = parse(reference)
    assert (address.model, address.base) == (model, base)


@pytest.mark.parametrize(
    "reference",
    [
        "openai:", "openai:m", "openai:@https://host/v1", "openai:m@ftp://host/v1", "openai:m@https://",
        "openai:m@https:///v1", "openai:m@https://host:99999/v1", "openai:m@https://[::1/v1", "m@https://host/v1",
        f"openai:m@https://{KEY}@host/v1", f"openai:m@https://u:{KEY}@host/v1", f"openai:m@https://host/v1?key={KEY}",
        f"openai:m@https://host/v1#{KEY}", "openai:m@https://ho st/v1", "openai:m@https://h\x00st/v1",
    ],
)  # fmt: skip
def test_malformed_references(reference: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        open_remote(reference)
    assert one_sentence(caught.value)
    assert KEY not in str(caught.value)


def test_plain_http_is_for_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="FAIRGROUND_ALLOW_HTTP=1"):
        parse("openai:m@http://example.org/v1")
    with pytest.raises(RequestError):
        parse("openai:m@http://127.0.0.1.example.org/v1")
    monkeypatch.setenv("FAIRGROUND_ALLOW_HTTP", "1")
    assert parse("openai:m@http://example.org/v1").host == "example.org"


def test_the_key_is_sent_and_never_said(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(key=KEY)
    generator = connect(server)
    completion = generator.submit(TEXT).completion()
    assert server.seen[0][2]["Authorization"] == f"Bearer {KEY}"
    server.faults = [Fault(400, message=f"You sent {KEY}, {KEY}."), *[Fault(500, message=KEY)] * 4]
    said = [repr(generator), str(generator), repr(generator.info), repr(completion), repr(generator._server)]
    for _ in range(2):
        with pytest.raises(FairgroundError) as caught:
            generator.submit(TEXT).completion()
        said += [*traceback.format_exception(caught.value), repr(caught.value)]
    server.key = "another"
    with pytest.raises(RemoteError, match="refused the key in OPENAI_API_KEY") as caught:
        generator.score([ScoreRequest("a", " b")])
    said += [*traceback.format_exception(caught.value), caplog.text, *capsys.readouterr()]
    assert not any(KEY in text for text in said)
    assert any("[key]" in text for text in said)


def test_refused_and_missing_keys(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(key="another")
    with pytest.raises(RemoteError, match=r"refused the key in OPENAI_API_KEY \(error 401") as caught:
        open_remote(server.reference)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(RemoteError, match=r"asks for a key .*FAIRGROUND_API_KEY_127_0_0_1 or OPENAI_API_KEY"):
        open_remote(server.reference)
    monkeypatch.setenv("OPENAI_API_KEY", "two\nlines")
    with pytest.raises(RemoteError, match="characters that no key has") as caught:
        open_remote(server.reference)
    assert "lines" not in str(caught.value)


def test_a_host_may_have_its_own_key_or_none(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    for own, sent in (("for-this-host", "Bearer for-this-host"), ("", None)):
        server.seen.clear()
        monkeypatch.setenv("FAIRGROUND_API_KEY_127_0_0_1", own)
        open_remote(server.reference).close()
        assert {headers.get("Authorization") for _, _, headers in server.seen} == {sent}
