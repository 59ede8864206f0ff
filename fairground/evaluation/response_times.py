"""Response time: what requests at one concurrency took, in the terms of vLLM's serving benchmark.

As `calculate_metrics` in vllm/benchmarks/serve.py defines them, for a request that is accepted at time a and whose n
tokens come at times t_1 … t_n:

    TTFT     t_1 - a                     time to first token
    TPOT     (t_n - t_1) / (n - 1)       time per output token: (latency - ttft) / (output_len - 1)
    ITL      t_(i+1) - t_i               inter-token latency: every gap of every request, pooled
    E2EL     t_n - a                     end to end

Percentiles interpolate linearly (numpy.percentile, as there). Output tokens and requests per second are sums over the
time from the first request's acceptance to the last token of all. A request is good if it meets every target that is
given, and goodput is good requests per second (`--goodput` there). What differs: a request that failed counts here
among those that missed the target, and percentiles that so few values cannot tell from the maximum are not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fairground.errors import RequestError
from fairground.evaluation import intervals
from fairground.evaluation.energy import Energy
from fairground.types import Timing

PERCENTILES = (50, 95, 99)
TARGETS = ("ttft", "tpot", "e2el")
MEASURES = ("ttft_ms", "tpot_ms", "itl_ms", "e2el_ms")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goodput:
    """What a request must keep to, to be a good one: milliseconds at most; None: no such target."""

    ttft: float | None = None
    tpot: float | None = None
    e2el: float | None = None

    @classmethod
    def parse(cls, text: str) -> Goodput:
        """From "ttft=500,tpot=50", in milliseconds. Raises RequestError for what is none."""
        found: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = (piece.strip() for piece in part.partition("="))
            try:
                limit = float(value)
            except ValueError:
                limit = np.nan
            if name not in TARGETS or name in found or not 0 < limit < np.inf:
                raise RequestError(
                    f"The goodput target {text!r} cannot be read at {part.strip()!r}; write milliseconds for one or "
                    "more of ttft, tpot and e2el, each once, such as ttft=500,tpot=50."
                )
            found[name] = limit
        return cls(**found)

    def met_by(self, request: Answered) -> bool:
        """Whether the request keeps to every target."""
        took = {"ttft": request.ttft_ms, "tpot": request.tpot_ms, "e2el": request.e2el_ms}
        return all(took[name] <= limit for name, limit in self.limits().items())

    def limits(self) -> dict[str, float]:
        """The targets that there are, in milliseconds."""
        return {name: limit for name in TARGETS if (limit := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that was answered: how many tokens it had, and when each token of the answer came."""

    prompt_tokens: int
    timing: Timing

    @property
    def output_tokens(self) -> int:
        return len(self.timing.tokens)

    @property
    def ttft_ms(self) -> float:
        return 1000 * self.timing.time_to_first_token

    @property
    def tpot_ms(self) -> float:
        return 1000 * self.timing.time_per_output_token

    @property
    def itl_ms(self) -> list[float]:
        """The gaps between arrivals. Tokens that came together, in one chunk of a server, are one arrival, as in
        vLLM's benchmark."""
        times = self.timing.tokens
        return [1000 * (after - before) for before, after in pairwise(times) if after > before]

    @property
    def e2el_ms(self) -> float:
        return 1000 * (self.timing.tokens[-1] - self.timing.accepted)


@dataclass(frozen=True, slots=True)
class ResponseTimes:
    """What came of the requests at one concurrency, in the order of their acceptance; `failures` says why some failed.

    `energy` is what all of them took; None: not known. Durations are of those that were answered, of which there must
    be one to ask for them.
    """

    concurrency: int
    answered: tuple[Answered, ...]
    failures: tuple[str, ...] = ()
    energy: Energy | None = None

    @property
    def ttft_ms(self) -> tuple[float, ...]:
        return tuple(one.ttft_ms for one in self.answered)

    @property
    def tokens_per_s(self) -> tuple[float, ...]:
        """Of each request's own stream: 1 / TPOT."""
        return tuple(1000 / one.tpot_ms for one in self.answered)

    @property
    def prompt_tokens(self) -> tuple[int, ...]:
        return tuple(one.prompt_tokens for one in self.answered)

    @property
    def output_tokens(self) -> tuple[int, ...]:
        return tuple(one.output_tokens for one in self.answered)

    @property
    def began(self) -> float:
        """When the first request was accepted, on the generator's clock."""
        return min(one.timing.accepted for one in self.answered)

    @property
    def duration_s(self) -> float:
        """From the first request's acceptance to the last token of all."""
        return max(one.timing.tokens[-1] for one in self.answered) - self.began

    def as_json(self, target: Goodput | None) -> Json:
        """What leaderboard.json holds of it; where no request was answered, no more than that."""
        if not self.answered:
            return {"concurrency": self.concurrency, "requests": 0, "failed": len(self.failures)}
        values = {
            "ttft_ms": self.ttft_ms,
            "tpot_ms": [one.tpot_ms for one in self.answered],
            "itl_ms": [gap for one in self.answered for gap in one.itl_ms],
            "e2el_ms": [one.e2el_ms for one in self.answered],
        }
        found: Json = {
            "concurrency": self.concurrency,
            "requests": len(self.answered),
            "failed": len(self.failures),
            "prompt_tokens": _range(self.prompt_tokens),
            "output_tokens": _range(self.output_tokens),
            "duration_s": self.duration_s,
            "output_tokens_per_s": sum(self.output_tokens) / self.duration_s,
            "requests_per_s": len(self.answered) / self.duration_s,
            **{name: distribution(own) for name, own in values.items()},
        }
        if target is not None:
            good = sum(map(target.met_by, self.answered))
            asked = len(self.answered) + len(self.failures)
            found["goodput"] = {
                "target_ms": target.limits(),
                "good": good,
                "asked": asked,
                "share": good / asked,
                "requests_per_s": good / self.duration_s,
            }
        if self.energy is not None:
            found["energy"] = self.energy.as_json(sum(self.output_tokens))
        return found


def percentile_known(percent: float, n: int) -> bool:
    """Whether n values tell this percentile from the maximum: one value at least is expected to lie beyond it."""
    return n * (100 - percent) >= 100


def distribution(values: Sequence[float]) -> Json:
    """n, mean, maximum and percentiles; a percentile that n values cannot tell from the maximum is None."""
    n = len(values)
    if n == 0:
        return {"n": 0, "mean": None, **{f"p{p}": None for p in PERCENTILES}, "max": None}
    percentiles = {
        f"p{p}": float(np.percentile(values, p)) if p == 50 or percentile_known(p, n) else None for p in PERCENTILES
    }
    return {"n": n, "mean": float(np.mean(values)), **percentiles, "max": float(max(values))}


def metrics(times: Mapping[int, ResponseTimes]) -> Json:
    """The leaderboard's columns, all of one request at a time: `ttft_ms`, `tokens_per_s`, and energy where known."""
    if (alone := times.get(1)) is None:
        return {}
    found = {"ttft_ms": _mean(alone.ttft_ms), "tokens_per_s": _mean(alone.tokens_per_s)}
    if alone.energy is not None:
        energy = alone.energy.as_json(sum(alone.output_tokens))
        # No interval: how far an estimate's assumptions or a counter's scope are off is not what repeats show.
        found["energy_j_per_1k_tokens"] = {
            "value": energy["j_per_1k_tokens"],
            "low": None,
            "high": None,
            "n": len(alone.answered),
            "method": energy["source"],
            "estimate": energy["estimate"],
            "concurrency": 1,
        }
    return found


def records(times: Mapping[int, ResponseTimes]) -> list[Json]:
    """A line of times.jsonl for every request: raw values, and for one that failed the reason."""
    found: list[Json] = []
    for concurrency, own in times.items():
        for one in own.answered:
            record: Json = {
                "concurrency": concurrency,
                "prompt_tokens": one.prompt_tokens,
                "output_tokens": one.output_tokens,
                "accepted_s": one.timing.accepted - own.began,
                **{name: getattr(one, name) for name in MEASURES},
            }
            found.append(record)
        found += [{"concurrency": concurrency, "error": reason} for reason in own.failures]
    return found


def failure_sentences(times: Mapping[int, ResponseTimes]) -> list[str]:
    """For the leaderboard: how many requests failed at each concurrency, and why the first did."""
    return [
        f"response_time: {len(own.failures)} of {len(own.failures) + len(own.answered)} requests failed at concurrency "
        f"{concurrency} and have no times; the first: {own.failures[0]}"
        for concurrency, own in times.items()
        if own.failures
    ]


def _mean(values: Sequence[float]) -> Json:
    if len(values) < 2:
        return {"value": values[0], "low": None, "high": None, "n": 1, "method": "none"}
    return intervals.student_t(values).as_json()


def _range(counts: Sequence[int]) -> Json:
    return {"min": min(counts), "max": max(counts), "mean": float(np.mean(counts))}
