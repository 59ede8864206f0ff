"""A tiny model that really scores and writes: a character bigram with add-one smoothing, plus ways to break it."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from fairground.errors import CapabilityError, RequestError
from fairground.types import Capabilities, Completion, ModelInfo, Request, Score, ScoreRequest, Timing, TokenEvent

TEXT = (
    "The nurse went to the school and then to the market. After that she came home, because the rain had begun. "
    "She then said that the heart and the brain were the answer. Question and answer, input and output. "
) * 3
START = "\n"


class Bigram:
    """Characters are tokens. `can` limits it; `context_length` is enforced, as a real model would."""

    def __init__(self, name: str = "bigram", *, can: Capabilities | None = None, text: str = TEXT) -> None:
        self.pairs = Counter(zip(START + text, text, strict=False))
        self.firsts = Counter(START + text)
        self.info = ModelInfo(name, "bigram", 65536, "float64", 1_500_000, "Apache-2.0", can or Capabilities())
        self.calls: list[int] = []
        self.prompts: list[object] = []
        self.closed = False
        self.running = 0
        self.lock = threading.Lock()

    def submit(self, request: Request) -> Stream:
        if not self.info.can.generate:
            raise CapabilityError("This model cannot generate.")
        self.prompts.append(request.prompt)
        return Stream(self, request)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        if not self.info.can.score:
            raise CapabilityError("This model cannot score.")
        self.calls.append(len(requests))
        limit = self.info.can.context_length
        for request in requests:
            length = len(request.context) + len(request.continuation)
            if limit is not None and length > limit:
                raise RequestError(f"The prompt has {length} tokens, but the context is {limit}; shorten it.")
        return [self._score(request) for request in requests]

    def _score(self, request: ScoreRequest) -> Score:
        total, before = 0.0, (request.context or START)[-1]
        for character in request.continuation:
            total += math.log((self.pairs[before, character] + 1) / (self.firsts[before] + 256))
            before = character
        return Score(total, False, len(request.continuation))

    def count_tokens(self, text: str) -> int:
        return len(text)

    def close(self) -> None:
        self.closed = True


class Stream:
    def __init__(self, model: Bigram, request: Request) -> None:
        self.model, self.request, self.accepted = model, request, time.perf_counter()
        self.cancelled = False

    def __iter__(self) -> Iterator[TokenEvent]:
        return iter(())

    def completion(self) -> Completion:
        prompt = self.request.prompt
        text = prompt if isinstance(prompt, str) else "".join(getattr(part, "content", "") for part in prompt)
        before, written, times = text[-1:] or START, "", []
        while len(written) < self.request.sampling.max_tokens:
            following = {b: n for (a, b), n in self.model.pairs.items() if a == before} or {" ": 1}
            before = max(sorted(following), key=lambda character: following[character])
            written += before
            times.append(time.perf_counter())
        return Completion(written, tuple(map(ord, written)), "length", len(text), Timing(self.accepted, tuple(times)))

    def cancel(self) -> None:
        self.cancelled = True
