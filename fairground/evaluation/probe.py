"""Asking for response times: requests of a stated length, so many of them in flight at a time."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import count, islice

from fairground.errors import FairgroundError, RequestError
from fairground.evaluation.energy import Meter
from fairground.evaluation.response_times import Answered, ResponseTimes
from fairground.evaluation.suite import ProbeSettings
from fairground.types import Completion, Generator, Request, Sampling, Stream

PATIENCE = 2  # requests that may fail beyond as many as were answered; then no more are asked

WARM_UP_TOKENS = 8  # that an unmeasured request writes
TEXT = (
    "The town lies where two rivers meet.",
    "A stone bridge from an earlier century joins its two halves, and a market is held beside it on Saturdays.",
    "Farmers bring apples, cheese and honey, and a baker sells dark bread from the back of a cart.",
    "In spring the water rises to the lowest step of the quay, and children measure it with a painted stick.",
    "The library stands on the hill behind the school.",
    "It keeps old maps of the valley, letters from sailors and a clock that nobody has wound for years.",
    "Visitors usually arrive by the morning train and walk along the canal to the mill.",
    "The miller shows them how the wheel turns, how the grain is cleaned and where the flour is weighed.",
    "In the evening the lamps on the square are lit one after another.",
    "Most shops close at six, but the pharmacy and the post office stay open a little longer.",
    "Snow seldom falls before December, and when it does, the road over the pass is closed to heavy carts.",
    "People then take the ferry, which leaves from the north bank every hour until nine.",
)
"""Neutral text, written for this probe."""


def prompt(count_tokens: Callable[[str], int], tokens: int, start: int = 0) -> str:
    """The shortest run of the text's words, from its sentence `start` on, that is at least `tokens` tokens long.

    Past the last sentence they are gone through again, each time with the number itself before the words, so that no
    two beginnings are the same however many prompts are asked for.

    Raises RequestError where no length reaches it, as with a tokenizer that counts nothing.
    """
    words = [word for i in range(len(TEXT)) for word in TEXT[(start + i) % len(TEXT)].split()]
    if start >= len(TEXT):
        words.insert(0, f"{start}.")

    def text(length: int) -> str:
        return " ".join(words[i % len(words)] for i in range(length))

    low, high = 0, tokens
    while count_tokens(text(high)) < tokens:
        low, high = high, 2 * high
        if high > 64 * tokens:
            raise RequestError(f"The probe cannot reach {tokens} tokens, since the model counts too few in any text.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_tokens(text(middle)) < tokens else (low, middle)
    return text(high)


def measure(
    generator: Generator, settings: ProbeSettings, on_done: Callable[[int], None], meter: Meter | None = None
) -> dict[int, ResponseTimes]:
    """What requests took at each of the settings' concurrencies, after unmeasured ones; calls `on_done(1)` for each.

    The load is a closed loop: as many requests as the concurrency says are in flight, and as one ends, the next
    begins, until all are asked (vLLM's `--max-concurrency` with every request there from the start). Every request
    begins with another sentence or number, so that a cache of prompt prefixes cannot answer for the model. A request
    that fails has no times, and is counted; where most fail, no more are asked. `meter` counts energy, if any does.

    Raises RequestError where the model's context is too short, and the first failure where no request was answered at
    the first concurrency.
    """
    needed = settings.prompt_tokens + settings.output_tokens
    limit = generator.info.can.context_length
    if limit is not None and limit < needed:
        raise RequestError(f"The probe needs a context of {needed} tokens, but the model has {limit}; it is left out.")
    sampling = Sampling(temperature=0.0, max_tokens=settings.output_tokens, ignore_eos=True)
    beginnings = (prompt(generator.count_tokens, settings.prompt_tokens, start) for start in count())
    found: dict[int, ResponseTimes] = {}
    for concurrency in settings.concurrencies:
        short = replace(sampling, max_tokens=min(WARM_UP_TOKENS, settings.output_tokens))
        warmup = [Request(text, short) for text in islice(beginnings, settings.warmup_requests(concurrency))]
        asked = [Request(text, sampling) for text in islice(beginnings, settings.requests(concurrency))]
        _Load(generator, concurrency, on_done).run(warmup)
        energy = meter.start() if meter else None
        load = _Load(generator, concurrency, on_done)
        load.run(asked)
        used = energy() if energy else None
        if not load.answered and not found:
            raise load.failures[0]
        load.answered.sort(key=lambda one: one.timing.accepted)
        failures = tuple(map(str, load.failures))
        found[concurrency] = ResponseTimes(concurrency, tuple(load.answered), failures, used)
    return found


class _Load:
    """Requests of which `concurrency` are in flight at a time, each waited for in a thread of its own."""

    def __init__(self, generator: Generator, concurrency: int, on_done: Callable[[int], None]) -> None:
        self.generator, self.concurrency, self.on_done = generator, concurrency, on_done
        self.answered: list[Answered] = []
        self.failures: list[FairgroundError] = []
        self._waiting: deque[Request] = deque()
        self._running: list[Stream] = []
        self._lock = threading.Lock()

    def run(self, requests: Sequence[Request]) -> None:
        """Asks them all. Whatever ends this early cancels what still runs."""
        self._waiting.extend(requests)
        with ThreadPoolExecutor(self.concurrency, "probe") as pool:
            workers = [pool.submit(self._work) for _ in range(min(self.concurrency, len(requests)))]
            try:
                for worker in wait(workers, return_when=FIRST_EXCEPTION).done:
                    worker.result()
            except BaseException:
                with self._lock:
                    self._waiting.clear()
                    for stream in self._running:
                        stream.cancel()
                raise

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or len(self.failures) > len(self.answered) + PATIENCE:
                    return
                request = self._waiting.popleft()
            try:
                # Under the lock, no stream begins unseen by whoever cancels them all.
                with self._lock:
                    stream = self.generator.submit(request)
                    self._running.append(stream)
                try:
                    answer = _timed(stream.completion(), request)
                finally:
                    with self._lock:
                        self._running.remove(stream)
            except FairgroundError as error:
                with self._lock:
                    self.failures.append(error)
                    self.on_done(1)
            else:
                with self._lock:
                    self.answered.append(answer)
                    self.on_done(1)


def _timed(completion: Completion, request: Request) -> Answered:
    """Raises RequestError for an answer with fewer than two tokens whose times can be told apart."""
    timing = completion.timing
    first, each = timing.time_to_first_token, timing.time_per_output_token
    if not (math.isfinite(first) and math.isfinite(each) and each > 0):
        raise RequestError(
            f"The probe asked for {request.sampling.max_tokens} tokens, but {len(timing.tokens)} came with times that "
            "tell them apart, so there is no speed to report."
        )
    return Answered(completion.prompt_tokens, timing)
