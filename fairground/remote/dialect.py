"""What a server can do, found out by asking it. Nothing is believed because of a model's or a host's name."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from fairground.errors import FairgroundError, RemoteError, RequestError, UnknownModel
from fairground.remote import echo
from fairground.remote.stream import RemoteStream
from fairground.remote.transport import GaveUpError, RefusedError, Server
from fairground.types import Message, Request, Sampling

Path = Literal["chat/completions", "completions"]
_MISSING = {404, 405, 410, 501}
_REFUSED = {400, 404, 405, 410, 413, 422, 501}
# What /models calls the owner of models where a field beyond OpenAI's protocol is known.
_IGNORES_EOS = {"vllm", "sglang", "llamacpp", "fairground"}
_STRUCTURES = {"vllm", "fairground"}
_OPTIONAL = ("logprobs", "stream_options", "seed")
_BEGIN = "<|endoftext|>"  # begins and ends texts in GPT-2's vocabulary and its many heirs
_SAMPLE = ("Good morning,", " everyone.")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way to have text written. `without`: fields that the server refuses, which are left out."""

    path: Path
    without: frozenset[str] = frozenset()

    @property
    def logprobs(self) -> bool:
        """Whether log-probabilities of what is written can be asked for."""
        return "logprobs" not in self.without

    def less(self, field: str) -> Endpoint:
        """The same without a field."""
        fields = {"logprobs", "top_logprobs"} if field == "logprobs" else {field}
        return replace(self, without=self.without | fields)

    def body(self, model: str, prompt: str | Sequence[int] | Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        """A streamed request. Settings that do nothing are not sent: some servers refuse what they do not know."""
        limit = "max_completion_tokens" if "max_tokens" in self.without else "max_tokens"
        body: dict[str, Any] = {"model": model, limit: sampling.max_tokens, "temperature": sampling.temperature}
        if self.path == "completions":
            body["prompt"] = prompt if isinstance(prompt, str) else list(prompt)
        elif isinstance(prompt, str):
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["messages"] = [{"role": m.role, "content": m.content} for m in prompt if isinstance(m, Message)]
        body |= {"stream": True, "stream_options": {"include_usage": True}, "seed": sampling.seed}
        if sampling.top_p != 1:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.logit_bias:
            body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
        if sampling.logprobs is not None:
            # At least 1, because some servers take a 0 of /completions to mean none at all.
            chat = {"logprobs": True, "top_logprobs": sampling.logprobs}
            body |= chat if self.path == "chat/completions" else {"logprobs": max(1, sampling.logprobs)}
        return {name: value for name, value in body.items() if name not in self.without}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What was found out. `begin`: the text to put where a text begins; None: not known."""

    chat: Endpoint | None
    completions: Endpoint | None
    scores: bool
    begin: str | None
    tokenizes: bool
    ignores_eos: bool
    structures: bool
    context_length: int | None


def learn(server: Server) -> Dialect:
    """Asks for the list of models, one written token from each endpoint, one echo (two at most) and one tokenization.

    Raises RemoteError for a server that cannot be reached, refuses the key or writes nothing; UnknownModel where its
    list lacks the model too.
    """
    model, stop = server.address.model, threading.Event()
    listed = _models(server, stop)
    own: dict[str, Any] = next((entry for entry in listed if entry.get("id") == model), {})
    chat, why = _endpoint(server, "chat/completions")
    completions, _ = _endpoint(server, "completions")
    if chat is None and completions is None:
        names = [str(entry.get("id")) for entry in listed]
        if names and not own:
            near = get_close_matches(model, names, n=1) or sorted(names)[:5]
            known = server.quote(", ".join(near))
            raise UnknownModel(f"{server.address.host} has no model {model!r}; it has, among others, {known}.")
        raise RemoteError(str(why))
    scores, begin = _scores(server, stop) if completions else (False, None)
    owner = str(own.get("owned_by", "")).lower()
    length = own.get("max_model_len") or own.get("context_length")
    return Dialect(
        chat,
        completions,
        scores,
        begin,
        _tokenizes(server, stop),
        owner in _IGNORES_EOS,
        owner in _STRUCTURES,
        length if isinstance(length, int) and length > 0 else None,
    )


def tokenize_url(base: str) -> str:
    """vLLM's endpoint for counting, which stands beside /v1."""
    return f"{base.removesuffix('/v1')}/tokenize"


def tokenize_request(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "prompt": text, "add_special_tokens": False}


def token_count(answer: Any) -> int | None:
    """How many tokens /tokenize counted; None for an answer that does not say."""
    count = answer.get("count") if isinstance(answer, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _models(server: Server, stop: threading.Event) -> list[dict[str, Any]]:
    """The list of models; empty where the server does not give one, as some keys may not ask for it."""
    try:
        answer = server.ask("GET", f"{server.address.base}/models", None, stop)
    except GaveUpError as error:
        if error.status is None:
            raise
        return []
    except (RefusedError, RemoteError):
        return []
    found = answer.get("data") if isinstance(answer, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _endpoint(server: Server, path: Path) -> tuple[Endpoint | None, FairgroundError | None]:
    """The endpoint as this server takes it, or why it does not.

    What the server's refusal names is left out and asked again: older and newer models of one provider disagree on
    max_tokens, and some refuse a seed. Temperature is 1 here, because some models take no other.
    """
    endpoint = Endpoint(path)
    request = Request("Hello", Sampling(temperature=1.0, max_tokens=1, logprobs=1))
    while True:
        stream = RemoteStream(request, 0)
        try:
            stream.ask(server, path, endpoint.body(server.address.model, "Hello", request.sampling))
        except RefusedError as refused:
            if refused.status not in _REFUSED:
                raise refused.error from None
            if "output limit was reached" in refused.said:
                return endpoint.less("logprobs"), None  # it wrote: one token was too few for its reasoning
            name = None if refused.status in _MISSING else _named(refused.said, endpoint)
            if name is None:
                return None, refused.error
            endpoint = endpoint.less(name)
        else:
            return endpoint if stream.completion().logprobs else endpoint.less("logprobs"), None


def _named(said: str, endpoint: Endpoint) -> str | None:
    """The field that a refusal is about, if it is one that can be left out."""
    if "max_completion_tokens" in said and "max_tokens" not in endpoint.without:
        return "max_tokens"
    return next((name for name in _OPTIONAL if name in said and name not in endpoint.without), None)


def _scores(server: Server, stop: threading.Event) -> tuple[bool, str | None]:
    """Whether prompts can be scored, and what begins a text: "" where the server puts a token there by itself."""
    context, continuation = _SAMPLE
    prompt = context + continuation
    try:
        found = _echo(server, prompt, stop)
        echo.score(found, context, continuation)
    except (RefusedError, echo.UnreadableError, RequestError):
        return False, None
    except GaveUpError as error:
        # Some servers fail on echo instead of refusing it; they do answer otherwise.
        if error.status is None or error.status == 429:
            raise
        return False, None
    if echo.begins_with_its_own(found, prompt):
        return True, ""
    try:
        known = _echo(server, _BEGIN + prompt, stop).tokens[0] == _BEGIN
    except (RefusedError, echo.UnreadableError):
        known = False
    return True, _BEGIN if known else None


def _echo(server: Server, prompt: str, stop: threading.Event) -> echo.Echo:
    url = f"{server.address.base}/completions"
    return echo.read(server.ask("POST", url, echo.request(server.address.model, prompt), stop))


def _tokenizes(server: Server, stop: threading.Event) -> bool:
    body = tokenize_request(server.address.model, "".join(_SAMPLE))
    try:
        return bool(token_count(server.ask("POST", tokenize_url(server.address.base), body, stop)))
    except (RefusedError, RemoteError):
        return False
