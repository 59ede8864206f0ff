"""Clients that we did not write, and our own, get what the model says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from openai import OpenAI
from pydantic import BaseModel, ConfigDict
from scripted import Served

from fairground.remote.openai import open_remote
from fairground.types import Message, Request, Sampling

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say ab."}]
GREEDY = {"temperature": 0, "max_tokens": 6}


def expected(served: Served, *turns: str, **settings: object) -> str:
    roles = ("system", "user")
    messages = tuple(Message(role, text) for role, text in zip(roles, turns, strict=True))  # type: ignore[arg-type]
    return served.local.submit(Request(messages, Sampling(**settings))).completion().text  # type: ignore[arg-type]


def test_chat(served: Served) -> None:
    answer = served.client().chat.completions.create(model="tiny", messages=ASKED, **GREEDY)  # type: ignore[call-overload]
    assert answer.choices[0].message.content == expected(served, "Be brief.", "Say ab.", max_tokens=6)
    assert answer.choices[0].finish_reason == "length"
    prompt = served.local.prompt_tokens(Request((Message("system", "Be brief."), Message("user", "Say ab."))))
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.usage.total_tokens == len(prompt) + 6


def test_an_answer_goes_into_the_next_turn(served: Served) -> None:
    client = served.client()
    said = client.chat.completions.create(model="tiny", messages=ASKED, **GREEDY).choices[0].message  # type: ignore[call-overload]
    more = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    for earlier in (said, said.model_dump()):
        again = client.chat.completions.create(model="tiny", messages=[*ASKED[1:], earlier, more], **GREEDY)  # type: ignore[call-overload]
        turns = (Message("user", "Say ab."), Message("assistant", said.content), Message("user", "ab"))
        own = served.local.submit(Request(turns, Sampling(max_tokens=6))).completion()
        assert again.choices[0].message.content == own.text


def test_a_streamed_chat_is_the_same(served: Served) -> None:
    client = served.client()
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="tiny", messages=ASKED, stream=True, stream_options=options, **GREEDY)  # type: ignore[call-overload]
    )
    whole = client.chat.completions.create(model="tiny", messages=ASKED, **GREEDY)  # type: ignore[call-overload]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_completions_of_texts_and_of_token_ids(served: Served) -> None:
    client = served.client()
    texts = ["ab", "xyz ab", "0"]
    both = client.completions.create(model="tiny", prompt=texts, n=2, **GREEDY)  # type: ignore[call-overload]
    assert [choice.index for choice in both.choices] == list(range(6))
    for number, text in enumerate(texts):
        own = served.local.submit(Request(text, Sampling(max_tokens=6))).completion()
        assert both.choices[2 * number].text == both.choices[2 * number + 1].text == own.text
    lengths = [len(served.local.prompt_tokens(Request(text))) for text in texts]
    assert both.usage.prompt_tokens == sum(lengths)
    assert both.usage.completion_tokens == 36
    ids = [served.local.prompt_tokens(Request(text)) for text in texts]
    again = client.completions.create(model="tiny", prompt=ids, **GREEDY)  # type: ignore[call-overload]
    assert [choice.text for choice in again.choices] == [choice.text for choice in both.choices[::2]]


def test_seeds(served: Served) -> None:
    client = served.client()

    def texts(**settings: object) -> list[str]:
        made = client.completions.create(model="tiny", prompt="ab", max_tokens=12, temperature=1.5, **settings)  # type: ignore[call-overload]
        return [choice.text for choice in made.choices]

    four = texts(seed=7, n=4)
    assert four == texts(seed=7, n=4)
    assert len(set(four)) > 1
    assert texts(seed=8) == four[1:2]
    assert texts() != texts()


def test_stop_strings(served: Served) -> None:
    client = served.client()
    whole = client.completions.create(model="tiny", prompt="ab", **GREEDY).choices[0].text  # type: ignore[call-overload]
    made = client.completions.create(model="tiny", prompt="ab", stop=[whole[3:5]], **GREEDY).choices[0]  # type: ignore[call-overload]
    assert made.text == whole[: whole.index(whole[3:5])]
    assert made.finish_reason == "stop"


def test_models(served: Served) -> None:
    client = served.client()
    assert [model.id for model in client.models.list()] == ["tiny", "scripted"]
    assert client.models.retrieve("tiny").max_model_len == 64  # type: ignore[attr-defined]


def test_our_own_remote_model(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    remote = open_remote(f"openai:tiny@{served.url}/v1")
    try:
        messages = (Message("system", "Be brief."), Message("user", "Say ab."))
        theirs = remote.submit(Request(messages, Sampling(max_tokens=6))).completion()
        assert theirs.text == expected(served, "Be brief.", "Say ab.", max_tokens=6)
        assert len(theirs.tokens) == 6
        assert remote.count_tokens("ab xyz é") == served.local.count_tokens("ab xyz é")
    finally:
        remote.close()


def test_a_busy_server_is_tried_again(served: Served) -> None:
    """The client's own retry gets through as soon as there is room."""
    running = served.app.state.running
    running.count = 8
    seen = []

    class Watched(OpenAI):
        def _sleep_for_retry(self, **about: object) -> None:  # type: ignore[override]
            seen.append(about)
            running.count = 0

    client = Watched(base_url=f"{served.url}/v1", api_key="none", max_retries=1)
    answer = client.chat.completions.create(model="tiny", messages=ASKED, **GREEDY)  # type: ignore[call-overload]
    assert len(seen) == 1
    assert answer.choices[0].message.content == expected(served, "Be brief.", "Say ab.", max_tokens=6)


def test_structured_output(served: Served) -> None:
    """By the client's own parsing into a pydantic model, and by vLLM's additional field."""

    class Answer(BaseModel):
        model_config = ConfigDict(extra="forbid")
        sure: bool
        city: Literal["Rome", "Oslo"]

    client = served.client()
    asked = client.chat.completions.parse(
        model="tiny", messages=ASKED[1:], response_format=Answer, max_tokens=60, seed=1
    )
    parsed = asked.choices[0].message.parsed
    assert isinstance(parsed, Answer)
    assert asked.choices[0].finish_reason == "stop"
    thing = client.chat.completions.create(
        model="tiny", messages=ASKED[1:], response_format={"type": "json_object"}, max_tokens=30, logit_bias={}
    )
    assert thing.choices[0].message.content.startswith("{")
    chosen = client.completions.create(
        model="tiny", prompt="a", extra_body={"structured_outputs": {"choice": ["left", "right"]}}, max_tokens=20
    )
    assert chosen.choices[0].text in ("left", "right")


def test_what_was_read_again_is_told(served: Served) -> None:
    client = served.client()
    prompt = "a prompt that is long enough for blocks"
    ask = lambda: client.completions.create(model="tiny", prompt=prompt, max_tokens=2).usage  # noqa: E731
    first, second = ask(), ask()
    assert second.prompt_tokens == first.prompt_tokens
    assert second.prompt_tokens_details.cached_tokens == (first.prompt_tokens - 1) // 16 * 16 > 0


def test_llm(served: Served, tmp_path: Path) -> None:
    """simonw's command line, told of the server in its own file."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: ours\n  model_name: tiny\n  api_base: {served.url}/v1\n  can_stream: true\n"
    )
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}
    told = [
        sys.executable,
        "-m",
        "llm",
        "-m",
        "ours",
        "-o",
        "max_tokens",
        "5",
        "-o",
        "temperature",
        "0",
        "--key",
        "none",
    ]
    for more in ([], ["--no-stream"]):
        done = subprocess.run([*told, *more, "a"], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        ours = served.client().chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "a"}], max_tokens=5, temperature=0
        )
        assert done.stdout.strip() == ours.choices[0].message.content.strip()
