"""An n-gram model as a `Generator`: the floor of the field's past, ranked and talked to like any other model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fairground.engine.answer import Answer, LocalStream
from fairground.engine.compute import compute
from fairground.engine.reading import Reading, Tokenized
from fairground.errors import ConfigError, FairgroundError
from fairground.models.assemble import Precision
from fairground.models.load import read_config
from fairground.models.ngram import MODEL_TYPE, NGram, load
from fairground.models.tokenizer import Tokenizer
from fairground.types import Capabilities, ModelInfo, Request, Score, ScoreRequest, TokenScore


class NGramGenerator(Tokenized):
    """See fairground.types.Generator. Made by `open_ngram`, or from a model that was just fitted.

    Running requests take turns, a token each. The context has no limit, but only its last order - 1 tokens count, so no
    score is ever of a truncated one.
    """

    def __init__(self, name: str, model: NGram, tokenizer: Tokenizer, *, licence: str | None = None) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._reading = Reading(name, tokenizer, "table of unigrams", model.vocab_size, None)
        self.template = self._reading.template
        self._waiting: queue.SimpleQueue[LocalStream | None] = queue.SimpleQueue()
        self._running: list[Answer] = []
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False
        self.info = ModelInfo(
            name=name,
            family=f"{model.order}-gram",
            parameters=model.parameters,
            precision="int8",
            memory_bytes=model.memory_bytes,
            licence=licence,
            can=Capabilities(chat=not self.template.fallback),
        )

    def submit(self, request: Request) -> LocalStream:
        """Starts a request and returns at once. Raises RequestError for one that cannot be served."""
        stream = self._reading.stream(request)
        with self._starting:
            if self._closed:
                raise FairgroundError("The model was closed; load it again to use it.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fairground-ngram", daemon=True)
                self._thread.start()
            self._waiting.put(stream)
        return stream

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Log-likelihoods as lm-evaluation-harness defines them; see `Reading.pair` for what is scored after what.

        Raises RequestError for an empty continuation.
        """
        pairs = self._reading.pairs(requests)
        return [self._score(context, continuation) for context, continuation in pairs]

    def _score(self, context: list[int], continuation: list[int]) -> Score:
        seen = self.model.order - 1
        context = context[max(0, len(context) - seen) :]
        whole = [*context, *continuation]
        logprob = float(self.model.score(whole)[len(context) :].sum())
        # `all` stops at the first token that is not the likeliest, so few whole distributions are looked at.
        greedy = all(
            int(self.model.log_probs(whole[max(0, at - seen) : at]).argmax()) == token
            for at, token in enumerate(continuation, len(context))
        )
        return Score(logprob, greedy, len(continuation))

    def score_tokens(
        self, prompts: Sequence[Sequence[int]], alternatives: int = 0, stop: threading.Event | None = None
    ) -> list[list[TokenScore]]:
        """Every token's log-probability; see fairground.types.TokenLevel."""
        return [
            [] if stop and stop.is_set() else self._score_tokens(self._reading.tokens(prompt, number), alternatives)
            for number, prompt in enumerate(prompts)
        ]

    def _score_tokens(self, prompt: list[int], alternatives: int) -> list[TokenScore]:
        seen, scored = self.model.order - 1, self.model.score(prompt)
        found = [TokenScore(prompt[0], None)]
        for at, token in enumerate(prompt[1:], 1):
            beside: tuple[tuple[int, float], ...] = ()
            if alternatives:
                logprobs = self.model.log_probs(prompt[max(0, at - seen) : at])
                best = np.argsort(-logprobs, kind="stable")[:alternatives]
                beside = tuple(zip(best.tolist(), logprobs[best].tolist(), strict=True))
            found.append(TokenScore(token, float(scored[at]), beside))
        return found

    def close(self) -> None:
        """Cancels running requests and ends the thread."""
        with self._starting:
            self._closed = True
            self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while self._admit():
            compute(self._step)
        for answer in self._running:
            answer.end("cancelled")

    def _admit(self) -> bool:
        """Takes waiting requests in, blocking where nothing else is to do. False: closed."""
        while True:
            try:
                stream = self._waiting.get(block=not self._running)
            except queue.Empty:
                return True
            if stream is None:
                return False
            self._running.append(Answer(stream, self.tokenizer, self.model.vocab_size))

    def _step(self) -> None:
        """Every running request's next token. One that raises ends with that error, and the others go on."""
        for answer in list(self._running):
            try:
                reason = "cancelled" if answer.stream.cancelled.is_set() else answer.add(self._logits(answer))
            except Exception as error:
                self._running.remove(answer)
                answer.stream.put(error)
            else:
                if reason:
                    self._running.remove(answer)
                    answer.end(reason)

    def _logits(self, answer: Answer) -> torch.Tensor:
        seen = self.model.order - 1
        context = [*answer.stream.prompt[-seen:], *answer.tokens[-seen:]] if seen else []
        return torch.from_numpy(self.model.log_probs(context).astype(np.float32))


def holds_ngram(path: Path) -> bool:
    """Whether this is the folder of an n-gram model. Raises UnknownModel for a folder without a readable config."""
    return path.is_dir() and read_config(path).get("model_type") == MODEL_TYPE


def open_ngram(
    path: Path, *, name: str, precision: Precision = "bfloat16", licence: str | None = None
) -> NGramGenerator:
    """Loads an n-gram model's folder: config.json, model.safetensors and a tokenizer's files.

    Raises ConfigError for a precision other than the one that stands for none (an n-gram model has only its own);
    a ModelError for files that are missing or damaged.
    """
    if precision != "bfloat16":
        raise ConfigError(f"{path} is an n-gram model and has no other precision than its own; leave out #{precision}.")
    model = load(path)
    return NGramGenerator(name, model, Tokenizer.from_folder(path), licence=licence)
