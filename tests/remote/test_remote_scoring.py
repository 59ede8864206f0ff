"""Scores from an echoed prompt, and servers that cannot give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_server import FakeServer, is_best, logprob, pieces

from fairground.errors import CapabilityError, RequestError
from fairground.remote import echo
from fairground.remote.openai import OpenAIGenerator
from fairground.types import Message, Request, Sampling, ScoreRequest

Serve = Callable[..., FakeServer]
Connect = Callable[..., OpenAIGenerator]
CHAT = Request((Message("system", "Be brief."), Message("user", "Count.")), Sampling(max_tokens=5))
TEXT = Request("Count:", Sampling(max_tokens=5))


@pytest.mark.parametrize(
    "switches", [{}, {"bos": None}, {"token_pieces": False}, {"token_pieces": False, "bos": None}, {"usage": False}]
)
def test_scores_are_sums_over_the_continuation(serve: Serve, connect: Connect, switches: dict[str, Any]) -> None:
    generator = connect(serve(**switches))
    assert generator.info.can.score
    requests = [
        ScoreRequest("Question: who?\nAnswer:", " The cat sat"),
        ScoreRequest("Question: who? ", "aa"),  # the space goes with the continuation
        ScoreRequest("é – 今日は", " naïve"),
    ]
    scores = generator.score(requests)
    for found, text in zip(scores, [" The cat sat", " aa", " naïve"], strict=True):
        assert found.logprob == pytest.approx(sum(map(logprob, pieces(text))))
        assert found.tokens == len(pieces(text))
        assert found.greedy == all(map(is_best, pieces(text)))
    assert generator.score(requests[::-1]) == scores[::-1]
    assert {found.greedy for found in scores} == {True, False}


@pytest.mark.parametrize("bos", ["<s>", "", None])
def test_an_empty_context_is_where_a_text_begins(serve: Serve, connect: Connect, bos: str | None) -> None:
    (found,) = connect(serve(bos=bos)).score([ScoreRequest("", "The cat sat")])
    assert found.tokens == 3
    assert found.logprob == pytest.approx(sum(map(logprob, ["The", " cat", " sat"])))


def test_an_empty_context_is_refused_where_nothing_begins_a_text(serve: Serve, connect: Connect) -> None:
    generator = connect(serve(bos=None, end_is_token=False))
    assert generator.score([ScoreRequest("The", " cat")])[0].tokens == 1
    with pytest.raises(RequestError, match="Request 1: the context is empty"):
        generator.score([ScoreRequest("", "The cat")])


def test_requests_that_cannot_be_scored(serve: Serve, connect: Connect) -> None:
    generator = connect(serve())
    with pytest.raises(RequestError, match="Request 1: the continuation is empty"):
        generator.score([ScoreRequest("a", "")])
    with pytest.raises(RequestError, match="no token of its own"):
        generator.score([ScoreRequest("a wor", "d")])
    with pytest.raises(RequestError, match="maximum context length"):
        generator.score([ScoreRequest("a", " b"), ScoreRequest("word " * 10_000, " b")])
    assert generator.score([]) == []


@pytest.mark.parametrize("switches", [{"echo": False}, {"echo_written_only": True}, {"completions": False}])
def test_a_server_that_cannot_score_says_so(serve: Serve, connect: Connect, switches: dict[str, Any]) -> None:
    generator = connect(serve(**switches))
    assert not generator.info.can.score
    assert generator.info.can.generate
    with pytest.raises(CapabilityError, match="cannot score"):
        generator.score([ScoreRequest("a", " b")])


def echoed(tokens: list[str], offsets: list[int], first: float | None = None) -> echo.Echo:
    """An echo whose token number i has the logprob -i."""
    logprobs = (first, *(-float(i) for i in range(1, len(tokens))))
    return echo.Echo(tuple(tokens), logprobs, logprobs, tuple(offsets))


@pytest.mark.parametrize(
    ("tokens", "offsets", "places"),
    [
        (["a", " b", " c"], [0, 1, 3, 5], [1, 2]),
        (["<s>", "a", " b", " c"], [0, 3, 4, 6, 8], [2, 3]),  # offsets count the beginning, as vLLM's do
        (["<s>", "a", " b", " c"], [0, 0, 1, 3, 5], [2, 3]),  # and these do not
        (["a", "", " b", " c"], [0, 1, 1, 3, 5], [1, 2, 3]),  # a part of a character has no text of its own
        (["a", "bytes:\\x20", "b", " c"], [0, 1, 2, 3, 5], [1, 2, 3]),  # as OpenAI spells one
        (["<s>", "▁a", "▁b", "▁c"], [0, 3, 4, 6, 8], [2, 3]),
        (["a ", "b", " c"], [0, 2, 3, 5], [1, 2]),  # a straddling token is the context's
        (["<s>", "a ", "b", " c"], [0, 3, 5, 6, 8], [2, 3]),
    ],
)
def test_where_the_continuation_begins(tokens: list[str], offsets: list[int], places: list[int]) -> None:
    found = echo.score(echoed(tokens, offsets), "a", " b c")
    assert (found.tokens, found.logprob) == (len(places), -sum(places))


@pytest.mark.parametrize(("tokens", "offsets"), [(["a", "�", "c"], [0, 1, 2, 9]), (["a", "�", "c"], [])])
def test_an_echo_that_is_not_the_prompt_is_not_scored(tokens: list[str], offsets: list[int]) -> None:
    with pytest.raises(echo.UnreadableError):
        echo.score(echoed(tokens, offsets), "a", " b c")


@pytest.mark.parametrize("answer", [None, [], {}, {"choices": []}, {"choices": [{"logprobs": None}]}, {"choices": 3}])
def test_an_answer_without_logprobs_is_not_read(answer: object) -> None:
    with pytest.raises(echo.UnreadableError):
        echo.read(answer)


@pytest.mark.parametrize("width", [0, 5])
def test_a_whole_text_whose_tokens_are_parts_of_characters(width: int) -> None:
    """The server's own first token is no part of it, whether its offsets count that token's width or not."""
    tokens, logprobs = ("<|e|>", "\ufffd", "\ufffd", "n"), (None, -1.0, -2.0, -3.0)
    offsets = (0, width, width, width + 1, width + 2)
    assert echo.score(echo.Echo(tokens, logprobs, logprobs, offsets), "", "én").logprob == -6.0
