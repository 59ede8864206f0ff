"""Counters for Prometheus, under vLLM's names with our prefix."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fairground.types import Completion

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What one server counts, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def histogram(name: str, what: str) -> Histogram:
            return Histogram(f"fairground:{name}", what, ["model_name"], buckets=SECONDS, registry=self._registry)

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"fairground:{name}", what, ["model_name", *labels], registry=self._registry)

        self.running = Gauge(
            "fairground:num_requests_running", "Answers being written or waiting.", registry=self._registry
        )
        self._success = counter("request_success", "Answers that came to their end.", "finished_reason")
        self._prompt = counter("prompt_tokens", "Tokens of prompts.")
        self._written = counter("generation_tokens", "Tokens written.")
        self._first = histogram("time_to_first_token_seconds", "From acceptance to the first token.")
        self._each = histogram("time_per_output_token_seconds", "Between tokens, per answer.")
        self._all = histogram("e2e_request_latency_seconds", "From acceptance to the last token.")

    def finished(self, model: str, completion: Completion) -> None:
        """Counts an answer."""
        timing = completion.timing
        self._success.labels(model, completion.finish_reason).inc()
        self._prompt.labels(model).inc(completion.prompt_tokens)
        self._written.labels(model).inc(len(completion.tokens))
        if timing.tokens:
            self._first.labels(model).observe(timing.time_to_first_token)
            self._all.labels(model).observe(timing.tokens[-1] - timing.accepted)
        if not math.isnan(timing.time_per_output_token):
            self._each.labels(model).observe(timing.time_per_output_token)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)
