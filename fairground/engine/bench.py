"""How fast a model runs here, beside what this machine's memory and arithmetic allow.

The limit of a forward pass is the larger of two times: reading every weight and every key and value once, and doing
every multiplication (the roofline of Williams, Waterman and Patterson, 2009). A fraction of the limit is that time over
the time it took.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from fairground.engine.compute import compute
from fairground.engine.local import LocalGenerator
from fairground.errors import RequestError
from fairground.models.assemble import memory_bytes
from fairground.models.config import DecoderConfig
from fairground.models.machine import matrix_rate, read_rate
from fairground.types import Completion, Request, Sampling

BATCHES = (8, 32)
LEAST_CONTEXT = 64  # tokens, below which nothing that is measured here would fit


@dataclass(frozen=True, slots=True)
class Work:
    """What a forward pass takes at least."""

    operations: float
    bytes: float

    def seconds(self, limits: Mapping[str, float]) -> float:
        """The time below which this machine cannot do it."""
        return max(self.operations / limits["matmul_gflop_per_s"], self.bytes / limits["read_gb_per_s"]) / 1e9


def work(c: DecoderConfig, weight_bytes: int, number_bytes: int, rows: int, length: float, logits: int) -> Work:
    """Of `rows` tokens that see `length` tokens each, of which `logits` go through the head."""
    head = c.vocab_size * c.width
    body = c.parameter_count() - head * (1 if c.tied_head else 2)
    seen = sum(min(length, window or length) for window in c.windows)
    cached = 2 * seen * c.kv_heads * c.head_dim * number_bytes
    unread = 0 if c.tied_head else head * number_bytes  # an embedding of its own is looked up, not read through
    return Work(
        2 * body * rows + 2 * head * logits + 4 * seen * c.heads * c.head_dim * rows,
        weight_bytes - unread + cached * (rows if rows == logits else 1),
    )


def bench(
    load: Callable[[], LocalGenerator],
    *,
    prompt_tokens: int = 512,
    output_tokens: int = 64,
    repeats: int = 3,
    said: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Loads a model and measures it; medians of `repeats`, as `bench --json` gives them.

    Prompts and answers are cut to what the model sees. Raises RequestError for one that sees fewer than 64 tokens.
    """
    said("loading")
    begun = time.perf_counter()
    model = load()
    try:
        load_s = time.perf_counter() - begun
        return {"model": model.info.name, "precision": model.info.precision, "load_s": load_s} | _measure(
            model, prompt_tokens, output_tokens, repeats, said
        )
    finally:
        model.close()


def _measure(
    model: LocalGenerator, prompt_tokens: int, output_tokens: int, repeats: int, said: Callable[[str], None]
) -> dict[str, Any]:
    config = model.decoder.config
    if config.context_length < LEAST_CONTEXT:
        raise RequestError(
            f"{model.info.name} sees {config.context_length} tokens, too few to be measured; give another."
        )
    prompt = min(prompt_tokens, config.context_length // 2)
    short, written = min(prompt, 32), min(output_tokens, config.context_length // 4)
    _answers(model, 1, prompt, 4)  # what happens only once
    said("measuring this machine")
    size, dtype = memory_bytes(model.decoder), model.decoder.dtype
    device = str(model.decoder.device)
    limits = {
        "read_gb_per_s": compute(read_rate, size, device) / 1e9,
        "matmul_gflop_per_s": compute(matrix_rate, dtype, device) / 1e9,
    }
    said("reading prompts")
    firsts = [_answers(model, 1, prompt, 1, seed)[0].timing.time_to_first_token for seed in range(repeats)]
    first = statistics.median(firsts)
    rates: dict[int, float] = {}
    for rows in (1, *BATCHES):
        said(f"writing {rows} at a time")
        rates[rows] = statistics.median(_rate(_answers(model, rows, short, written, seed)) for seed in range(repeats))
    said("answering while others are answered")
    loaded = statistics.median(_under_load(model, short, prompt, written, seed) for seed in range(repeats))
    number = torch.empty((), dtype=dtype).element_size()
    prefill = work(config, size, number, prompt, prompt / 2, 1).seconds(limits)
    fractions: dict[str, Any] = {"prefill": prefill / first}
    for rows, rate in rates.items():
        pass_ = work(config, size, number, rows, short + written / 2, rows).seconds(limits)
        fractions["decode" if rows == 1 else str(rows)] = pass_ * rate / rows
    return {
        "prompt_tokens": prompt,
        "output_tokens": written,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "prefill_tokens_per_s": prompt / first,
        "decode_tokens_per_s": rates[1],
        "batched": {str(rows): rates[rows] for rows in BATCHES},
        "ttft_ms": {"alone": first * 1e3, f"beside_{BATCHES[0]}": loaded * 1e3},
        "memory_mb": psutil.Process().memory_info().rss / 1e6,
        "limits": limits,
        "fraction_of_limit": fractions,
    }


def _request(model: LocalGenerator, prompt: int, written: int, seed: int) -> Request:
    """Random tokens, so that no prompt shares a beginning with another."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, model.tokenizer.vocab_size, (prompt,), generator=random)
    return Request(tuple(tokens.tolist()), Sampling(max_tokens=written, ignore_eos=True))


def _answers(model: LocalGenerator, rows: int, prompt: int, written: int, seed: int = 0) -> list[Completion]:
    requests = [_request(model, prompt, written, 1000 * seed + row) for row in range(rows)]
    streams = [model.submit(request) for request in requests]
    return [stream.completion() for stream in streams]


def _rate(answers: list[Completion]) -> float:
    """Tokens per second of all answers together, from when the last has begun to when the first has ended."""
    begin = max(answer.timing.tokens[0] for answer in answers)
    end = min(answer.timing.tokens[-1] for answer in answers)
    return sum(sum(begin < at <= end for at in answer.timing.tokens) for answer in answers) / (end - begin)


def _under_load(model: LocalGenerator, short: int, prompt: int, written: int, seed: int) -> float:
    """Seconds to the first token of a prompt that comes while eight other answers are being written."""
    others = [model.submit(_request(model, short, written, 1000 * seed + row)) for row in range(BATCHES[0])]
    for stream in others:
        next(iter(stream))
    mine = model.submit(_request(model, prompt, 1, 1000 * seed + BATCHES[0])).completion()
    for stream in others:
        stream.completion()
    return mine.timing.time_to_first_token
