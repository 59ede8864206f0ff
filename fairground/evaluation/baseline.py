"""The floor: a generator that knows nothing, so that every number has something to stand on."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Iterator, Sequence

from fairground.errors import RequestError
from fairground.types import Capabilities, Completion, ModelInfo, Request, Score, ScoreRequest, Timing, TokenEvent

_TEXT = """
a and apple before bird blue book bread bring by clear cloud cold come corner day door early eat evening field
find fish for garden give glass go good green hand hear high home hour in is it keep lake late leaf letter
light line long make market middle morning near new night of old on open or paper path people place rain read
river road room run sea see seven short sing sky slow small snow some song stone street sun table take tell
the then there to tree two under walk wall warm water white wind window winter with wood word work year yellow
young
"""
WORDS = tuple(_TEXT.split())


class UniformGuesser:
    """Scores at random and writes random words, the same for the same seed and text.

    A score is the logarithm of a number drawn uniformly from (0, 1) by the SHA-256 of seed, context and continuation,
    so every choice is as likely to win as every other. Its `count_tokens` counts words.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.info = ModelInfo(
            name="uniform",
            family="baseline",
            parameters=0,
            precision="none",
            memory_bytes=0,
            licence="Apache-2.0",
            can=Capabilities(),
        )

    def submit(self, request: Request) -> _Written:
        """Writes all words at once, each stamped with its real time; raises RequestError for an empty prompt."""
        accepted = time.perf_counter()
        prompt = request.prompt
        if not prompt or (isinstance(prompt, str) and not prompt.strip()):
            raise RequestError("The prompt is empty, so there is nothing to answer; write one.")
        if isinstance(prompt, str):
            length = self.count_tokens(prompt)
        else:
            length = sum(1 if isinstance(part, int) else self.count_tokens(part.content) for part in prompt)
        sampling = request.sampling
        rng = random.Random(f"{self._seed} {sampling.seed} {prompt!r}")
        logprob = -math.log(len(WORDS)) if sampling.logprobs is not None else None
        drawn: list[tuple[int, float]] = []
        text = ""
        cut: int | None = None
        while len(drawn) < sampling.max_tokens and cut is None:
            token = rng.randrange(len(WORDS))
            text += " " + WORDS[token] if drawn else WORDS[token]
            drawn.append((token, time.perf_counter()))
            cut = min((at for stop in sampling.stop if (at := text.find(stop)) >= 0), default=None)
        text = text[:cut]
        events: list[TokenEvent] = []
        written = 0
        for token, when in drawn:
            end = written + len(WORDS[token]) + (1 if events else 0)
            events.append(TokenEvent(token, text[written:end], when, logprob))
            written = end
        completion = Completion(
            text=text,
            tokens=tuple(event.token for event in events),
            finish_reason="length" if cut is None else "stop",
            prompt_tokens=length,
            timing=Timing(accepted, tuple(event.at for event in events)),
            logprobs=() if logprob is None else (logprob,) * len(events),
        )
        return _Written(events, completion)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """One score a request; none depends on the others."""
        return [Score(self._logprob(r), False, max(1, self.count_tokens(r.continuation))) for r in requests]

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        """Nothing is held."""

    def _logprob(self, request: ScoreRequest) -> float:
        # The lengths keep ("ab", "c") and ("a", "bc") apart.
        key = f"{self._seed} {len(request.context)} {request.context}{request.continuation}"
        drawn = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:7], "big")
        return math.log((drawn + 0.5) / 2**56)


class _Written:
    """A stream whose tokens have all been written already."""

    def __init__(self, events: list[TokenEvent], completion: Completion) -> None:
        self._events = events
        self._completion = completion

    def __iter__(self) -> Iterator[TokenEvent]:
        return iter(self._events)

    def completion(self) -> Completion:
        return self._completion

    def cancel(self) -> None:
        """Too late: everything is written."""
