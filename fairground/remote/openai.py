"""Any OpenAI-compatible server as a `Generator`, so that it is ranked as a local model is."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from fairground.errors import CapabilityError, FairgroundError, RemoteError, RequestError
from fairground.remote import echo
from fairground.remote.address import parse
from fairground.remote.dialect import Dialect, Endpoint, learn, token_count, tokenize_request, tokenize_url
from fairground.remote.stream import RemoteStream
from fairground.remote.transport import RefusedError, Server, StoppedError
from fairground.remote.workers import Workers
from fairground.types import Capabilities, Message, ModelInfo, Request, Sampling, Score, ScoreRequest, Structure

CHARACTERS_PER_TOKEN = 4  # the rule of thumb for English: platform.openai.com/tokenizer


def open_remote(reference: str, *, concurrency: int = 8, timeout_s: float = 120.0) -> OpenAIGenerator:
    """Opens `openai:MODEL@https://host/v1`, asking the server with a few tiny requests what it can do.

    The key comes from the environment: FAIRGROUND_API_KEY_<HOST> (see fairground.remote.address.Address), else
    OPENAI_API_KEY, else none is sent. `concurrency`: requests at a time. `timeout_s`: seconds that the server may say
    nothing.

    Raises UnknownModel for a malformed reference or a model that the server does not list, RequestError for plain http
    to another machine without FAIRGROUND_ALLOW_HTTP=1, and RemoteError for a server that cannot be reached, refuses the
    key, or does not answer as it should.
    """
    server = Server(parse(reference), timeout_s=timeout_s, connections=concurrency + 1)
    try:
        return OpenAIGenerator(server, learn(server), concurrency=concurrency)
    except BaseException:
        server.close()
        raise


class OpenAIGenerator:
    """See fairground.types.Generator. Made by `open_remote`.

    Text prompts go to /completions, or as one user message to a server that has only /chat/completions. Token ids are
    -1 everywhere. Scores are read from an echoed prompt and equal lm-evaluation-harness's `local-completions`. A
    setting that the server refused when it was opened (a seed, say) is not sent to it.

    `notes` says in sentences what differs from a local model.
    """

    def __init__(self, server: Server, dialect: Dialect, *, concurrency: int) -> None:
        self._server, self._dialect = server, dialect
        self._workers = Workers(concurrency)
        self._closed = threading.Event()
        self._running: set[RemoteStream] = set()
        endpoints = [endpoint for endpoint in (dialect.chat, dialect.completions) if endpoint]
        self.info = ModelInfo(
            name=server.address.reference,
            family="remote",
            parameters=None,
            precision="remote",
            memory_bytes=None,
            can=Capabilities(
                generate=True,
                score=dialect.scores,
                logprobs=all(endpoint.logprobs for endpoint in endpoints),
                chat=dialect.chat is not None,
                context_length=dialect.context_length,
            ),
        )
        self.notes = tuple(_notes(dialect))

    def __repr__(self) -> str:
        return f"OpenAIGenerator({self.info.name!r})"

    def submit(self, request: Request) -> RemoteStream:
        """Starts a request and returns at once.

        Raises RequestError for an empty prompt and CapabilityError for what the protocol or this server cannot express.
        Where the server is not known to honour `ignore_eos`, it is not sent: then an answer may end early, with the
        finish reason "stop" and fewer tokens than were asked for.
        """
        prompt, sampling = request.prompt, request.sampling
        if not prompt:
            raise RequestError("The prompt is empty; give at least one character.")
        self._refuse_inexpressible(sampling)
        endpoint = self._endpoint(prompt)
        if sampling.logprobs is not None and not endpoint.logprobs:
            raise CapabilityError(f"{self.info.name} gives no log-probabilities of what it writes; leave logprobs out.")
        body = endpoint.body(self._server.address.model, prompt, sampling)
        if sampling.ignore_eos and self._dialect.ignores_eos:
            body["ignore_eos"] = True
        if sampling.structure:
            body |= self._structured(sampling.structure, endpoint)
        stream = RemoteStream(request, _estimate(prompt))

        def work() -> None:
            try:
                stream.run(self._server, endpoint.path, body)
            finally:
                self._running.discard(stream)

        self._running.add(stream)
        try:
            self._workers.submit(work)
        except FairgroundError:
            self._running.discard(stream)
            raise
        return stream

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Log-likelihoods by /completions with echo.

        As lm-evaluation-harness does, spaces that end the context belong to the continuation. An empty context is the
        token that the server puts before every text, or `<|endoftext|>` where the model has that as a token.

        Raises CapabilityError for a server that gives no log-probabilities of the prompt, RequestError for one request
        that cannot be scored (too long, an empty continuation, no known beginning), and RemoteError.
        """
        if not self.info.can.score:
            raise CapabilityError(
                f"{self.info.name} gives no log-probabilities of a prompt's tokens, so it cannot score; rank it by "
                "what it writes."
            )
        pairs = [self._pair(request, number) for number, request in enumerate(requests)]
        stop = threading.Event()
        futures = [self._workers.submit(partial(self._score, *pair, stop)) for pair in pairs]
        try:
            return [future.result() for future in futures]
        except (CancelledError, StoppedError):
            raise FairgroundError(f"{self.info.name} was closed before all was scored; open it again.") from None
        finally:
            stop.set()
            for future in futures:
                future.cancel()

    def count_tokens(self, text: str) -> int:
        """The server's own count where it has /tokenize, else an estimate: characters / 4, rounded up.

        Raises RemoteError, or RequestError where the server refuses the text.
        """
        if not text or not self._dialect.tokenizes:
            return _estimate(text)
        url, body = tokenize_url(self._server.address.base), tokenize_request(self._server.address.model, text)
        try:
            count = token_count(self._server.ask("POST", url, body, self._closed))
        except RefusedError as refused:
            raise refused.error from None
        except StoppedError:
            raise FairgroundError(f"{self.info.name} was closed; open it again.") from None
        if count is None:
            raise self._server.nonsense()
        return count

    def close(self) -> None:
        """Cancels running requests and closes the connections, within a few seconds whatever the server does."""
        self._closed.set()
        for stream in list(self._running):
            stream.cancel()
        self._workers.close()
        self._server.close()

    def _refuse_inexpressible(self, sampling: Sampling) -> None:
        neutral = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        for name, value in neutral.items():
            if getattr(sampling, name) != value:
                raise CapabilityError(
                    f"{name} is {getattr(sampling, name)}, which OpenAI's protocol cannot express; leave it at "
                    f"{value:g}."
                )

    def _structured(self, structure: Structure, endpoint: Endpoint) -> dict[str, Any]:
        """The fields that ask for it: vLLM's, or for JSON in a chat OpenAI's. Raises CapabilityError for neither."""
        if self._dialect.structures:
            text = structure.text if structure.kind == "regex" else json.loads(structure.text)
            return {"structured_outputs": {structure.kind: text}}
        if structure.kind == "json" and endpoint.path == "chat/completions":
            form = {"name": "answer", "schema": json.loads(structure.text)}
            return {"response_format": {"type": "json_schema", "json_schema": form}}
        raise CapabilityError(
            f"{self.info.name} is not known to keep an answer to a structure of the kind {structure.kind} here; ask "
            "without one, or for a JSON schema in a chat."
        )

    def _endpoint(self, prompt: str | tuple[Message, ...] | tuple[int, ...]) -> Endpoint:
        chat, completions = self._dialect.chat, self._dialect.completions
        if isinstance(prompt, str):
            endpoint = completions or chat
        else:
            endpoint = chat if isinstance(prompt[0], Message) else completions
        if endpoint is None:
            what = "messages" if chat is None else "token ids"
            raise CapabilityError(f"{self.info.name} does not take {what} as a prompt; give it text.")
        return endpoint

    def _pair(self, request: ScoreRequest, number: int) -> tuple[str, str]:
        context = request.context.rstrip()
        continuation = request.context[len(context) :] + request.continuation
        if not request.continuation:
            raise RequestError("the continuation is empty; give it at least one character.", number)
        if context:
            return context, continuation
        if self._dialect.begin is None:
            raise RequestError(
                f"the context is empty, and {self.info.name} gives a text's first token no log-probability; put some "
                "text before it.",
                number,
            )
        return self._dialect.begin, continuation

    def _score(self, context: str, continuation: str, stop: threading.Event) -> Score:
        if self._closed.is_set():
            raise StoppedError
        address = self._server.address
        body = echo.request(address.model, context + continuation)
        try:
            answer = self._server.ask("POST", f"{address.base}/completions", body, stop)
            return echo.score(echo.read(answer), context, continuation)
        except RefusedError as refused:
            raise refused.error from None
        except echo.UnreadableError as reason:
            raise RemoteError(
                f"{address.host} echoed a prompt, but {reason}, so it was not scored; try again."
            ) from None


def _estimate(prompt: str | Sequence[Message] | Sequence[int]) -> int:
    if isinstance(prompt, str):
        return -(-len(prompt) // CHARACTERS_PER_TOKEN)
    return sum(_estimate(part.content) if isinstance(part, Message) else 1 for part in prompt)


def _notes(dialect: Dialect) -> list[str]:
    notes = []
    if not dialect.tokenizes:
        notes.append(f"The server does not count tokens; counts are estimates, characters / {CHARACTERS_PER_TOKEN}.")
    if dialect.completions is None:
        notes.append("The server has no /completions; text prompts are sent as one user message.")
    if not dialect.ignores_eos:
        notes.append("The server is not known to honour ignore_eos; timed answers may end early.")
    refused = {name for end in (dialect.chat, dialect.completions) if end for name in end.without}
    if "seed" in refused:
        notes.append("The server takes no seed; what it writes may differ from run to run.")
    if "stream_options" in refused:
        notes.append("The server does not report usage; every chunk counts as one token.")
    return notes
