"""The OpenAI-compatible API: `create_app` puts generators behind it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from fairground import __version__
from fairground.serving.answers import Echo, Form
from fairground.serving.guard import Guard
from fairground.serving.keys import Gate
from fairground.serving.logprobs import token_level
from fairground.serving.metrics import Metrics
from fairground.serving.refusals import Refusal, install
from fairground.serving.running import Event, Limits, Running, Written, whole
from fairground.serving.schema import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from fairground.types import Breakable, Generator, TokenScore
from fairground.types import Request as Asked

T = TypeVar("T")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def create_app(
    models: Mapping[str, Generator],
    *,
    limits: Limits | None = None,
    hosts: Collection[str] = LOOPBACK,
    gate: Gate | None = None,
) -> FastAPI:
    """An application that serves `models` under their names.

    `gate` says which keys may ask; without one, whoever calls it by one of `hosts` may.

    `app.state.running` is its Running: `drain` and `end` it before the event loop ends.
    """
    limits = limits or Limits()
    running = Running(limits, Metrics())
    app = FastAPI(title="Fairground", version=__version__, docs_url=None, redoc_url=None)
    app.state.running = running
    app.add_middleware(Guard, hosts=hosts, body_bytes=limits.body_bytes, gate=gate, per_minute=limits.per_minute)
    install(app)
    started = int(time.time())

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        """Whether requests are taken in."""
        if running.draining:
            raise Refusal(503, "The server is stopping.")
        for name, model in models.items():
            if isinstance(model, Breakable) and model.broken:
                raise Refusal(503, f"{name}: {model.broken}")
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        """Counters for Prometheus."""
        running.metrics.running.set(running.count)
        return PlainTextResponse(running.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """What can be asked."""
        return {"object": "list", "data": [_about(name, model, started) for name, model in models.items()]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        return _about(name, _named(models, name), started)

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, http: Request) -> Response:
        """Answers a conversation."""
        form = Form(asked.model, _named(models, asked.model), chat=True, logprobs=bool(asked.logprobs))
        return await _answer(asked, http, form, prompts=1)

    @app.post("/v1/completions")
    async def completions(asked: CompletionRequest, http: Request) -> Response:
        """Goes on from texts, and gives them back where that is asked for."""
        form = Form(asked.model, _named(models, asked.model), chat=False, logprobs=asked.logprobs is not None)
        if not asked.echo:
            return await _answer(asked, http, form, prompts=len(asked.prompts()))
        requests = _of(http, asked)
        token_level(form.model)
        running.check(form.model, requests[0].sampling, len(requests))
        done: list[Written] | None = []
        if asked.max_tokens != 0:
            done = await _unless_gone(http, whole(running.follow(form.model, requests), len(requests)))
        if done is None:
            return Response(status_code=499)
        client, stop = http.state.client, threading.Event()
        running.take(client, len(requests))
        try:
            most = running.limits.scored_tokens
            body = await _unless_gone(http, run_in_threadpool(_echoed, form, asked, done, most, stop))
        finally:
            stop.set()
            running.give_back(client, len(requests))
        return Response(status_code=499) if body is None else JSONResponse(body)

    async def _answer(asked: ChatRequest | CompletionRequest, http: Request, form: Form, *, prompts: int) -> Response:
        requests = _of(http, asked)
        events = running.follow(form.model, requests)
        if not asked.stream:
            done = await _unless_gone(http, whole(events, len(requests)))
            if done is None:
                return Response(status_code=499)
            return JSONResponse(await run_in_threadpool(form.whole, done, prompts))
        # The first event is waited for, so that what cannot be served gets a status of its own.
        first = await _unless_gone(http, anext(events))
        if first is None:
            return Response(status_code=499)
        body = form.stream(_again(first, events), len(requests), prompts, with_usage=asked.usage_wanted)
        return EventStream(body, media_type="text/event-stream", headers={"cache-control": "no-cache"})

    @app.post("/tokenize")
    async def tokenize(asked: TokenizeRequest) -> dict[str, Any]:
        """The token ids that a text is read as."""
        model = _named(models, asked.model or next(iter(models)))
        tokens = await run_in_threadpool(token_level(model).encode, asked.prompt, special=asked.add_special_tokens)
        return {"tokens": tokens, "count": len(tokens), "max_model_len": model.info.can.context_length}

    @app.post("/detokenize")
    async def detokenize(asked: DetokenizeRequest) -> dict[str, Any]:
        """The text of token ids."""
        model = token_level(_named(models, asked.model or next(iter(models))))
        return {"prompt": await run_in_threadpool(model.spell, asked.tokens)}

    @app.get("/tokenizer_info")
    async def tokenizer_info(model: str | None = None) -> dict[str, Any]:
        """The tokenizer's special tokens and chat template, of the first model where none is named."""
        return dict(token_level(_named(models, model or next(iter(models)))).tokenizer_info())

    return app


class EventStream(StreamingResponse):
    """Closes what it reads from as soon as the client has gone, wherever that left it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


async def _again(
    first: tuple[int, Event], events: AsyncIterator[tuple[int, Event]]
) -> AsyncIterator[tuple[int, Event]]:
    """`first`, and then the others; closed together with its reader."""
    async with aclosing(events):  # type: ignore[type-var]
        yield first
        async for event in events:
            yield event


def _of(http: Request, asked: ChatRequest | CompletionRequest) -> list[Asked]:
    """What is asked of the model, and for whom."""
    return [replace(request, client=http.state.client) for request in asked.requests()]


def _echoed(
    form: Form, asked: CompletionRequest, done: Sequence[Written], most: int, stop: threading.Event
) -> dict[str, Any]:
    """The body with every prompt's text before what was written, scored where log-probabilities are wanted.

    `stop` ends it early. Raises Refusal for more than `most` tokens to score.
    """
    model, prompts = token_level(form.model), asked.prompts()
    ids = [model.encode(prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    scores: list[list[TokenScore]] = [[] for _ in ids]
    if asked.logprobs is not None:
        if sum(map(len, ids)) > most:
            raise Refusal(
                400, f"The prompts have over {most:,} tokens to score; ask for fewer at once.", param="prompt"
            )
        scores = model.score_tokens(ids, asked.logprobs, stop)
    echoes = [
        Echo(prompt if isinstance(prompt, str) else model.spell(tokens), tokens, own)
        for prompt, tokens, own in zip(prompts, ids, scores, strict=True)
    ]
    return form.echoed(echoes, done, asked.n or 1)


async def _unless_gone(http: Request, work: Awaitable[T]) -> T | None:
    """What `work` gives; None, and the work is cancelled, where the client goes away before."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        gone.cancel()
        working.cancel()


async def _gone(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _named(models: Mapping[str, Generator], name: str) -> Generator:
    if name not in models:
        there = ", ".join(models)
        raise Refusal(
            404, f"There is no model {name!r} here; there are: {there}.", param="model", code="model_not_found"
        )
    return models[name]


def _about(name: str, model: Generator, started: int) -> dict[str, Any]:
    info = model.info
    return {
        "id": name,
        "object": "model",
        "created": started,
        "owned_by": "fairground",
        "max_model_len": info.can.context_length,
        "family": info.family,
        "parameters": info.parameters,
        "precision": info.precision,
        "licence": info.licence,
    }
