"""Many chats at once through HTTP, beside llama.cpp's server; and what our server adds and keeps. In turns, in one run.

    .venv/bin/python benchmarks/serving_against_peers.py [--rounds 5] [--peers DIR]

The chats have 100 to 400 prompt tokens and write 128 each, greedily. Both servers read the same GGUF file, ours in
bfloat16, llama.cpp as it is (Q4_1), and have as many slots as there are chats and two threads. llama.cpp is left out
unless `--peers` names a folder that holds it: pip install --no-deps --target DIR xllamacpp
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from against_transformers import gguf
from circumstances import circumstances

CHATS, WRITTEN = 32, 128
WORDS = (
    "the a river stone over quiet green light walked and under seven small house near old sea wind told her him".split()
)
OURS = """
import sys
from pathlib import Path
from fairground.engine.local import open_model
from fairground.serving.app import create_app
from fairground.serving.server import serve
model = open_model(Path(sys.argv[1]), name="model")
serve(create_app({"model": model}), "127.0.0.1", 0, shutdown_timeout=5, ready=lambda url: print(url, flush=True))
"""
LLAMA = """
import sys, threading
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_parallel, params.n_ctx, params.port = int(sys.argv[2]), int(sys.argv[3]), 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[4])
params.cont_batching, params.warmup = True, True
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
threading.Event().wait()
"""


@contextmanager
def server(side: str, peers: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own, and its address."""
    script, more = (OURS, []) if side == "fairground" else (LLAMA, [CHATS, CHATS * 640, len(os.sched_getaffinity(0))])
    environment = {**os.environ, "PYTHONPATH": peers if side != "fairground" else ""}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(gguf()), *map(str, more)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        while not (url := process.stdout.readline().strip()).startswith("http"):
            assert process.poll() is None, f"{side} did not start"
        yield url, psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def prompts(seed: int) -> list[str]:
    """Chats' texts, each about as many tokens as words."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(70, 370))) for _ in range(CHATS)]


async def chats(url: str, seed: int) -> dict[str, float]:
    """All at once; output tokens per second of all together, and the median time to the first token."""
    import openai

    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)
    begun, firsts, asked, written = time.perf_counter(), [], 0, 0

    async def one(prompt: str) -> None:
        nonlocal asked, written
        stream = await client.chat.completions.create(
            model="model", messages=[{"role": "user", "content": prompt}], max_tokens=WRITTEN, temperature=0,
            stream=True, stream_options={"include_usage": True}, extra_body={"ignore_eos": True},
        )  # fmt: skip
        first = None
        async for chunk in stream:
            if first is None and chunk.choices and chunk.choices[0].delta.content:
                first = time.perf_counter() - begun
            if chunk.usage:
                asked, written = asked + chunk.usage.prompt_tokens, written + chunk.usage.completion_tokens
        firsts.append(first or 0.0)

    async with client:
        await asyncio.gather(*(one(prompt) for prompt in prompts(seed)))
        took = time.perf_counter() - begun
    assert written == CHATS * WRITTEN, f"{written} tokens were written"
    return {"output_tokens_per_s": written / took, "first_token_s": statistics.median(firsts), "prompt_tokens": asked}


async def overhead(url: str, rounds: int) -> dict[str, float]:
    """First tokens of one short chat through HTTP, and of a 1,000-token prompt, new and then read again; in ms."""
    import openai

    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)

    async def first(prompt: list[int]) -> float:
        begun = time.perf_counter()
        stream = await client.completions.create(
            model="model", prompt=prompt, max_tokens=2, temperature=0, stream=True, extra_body={"ignore_eos": True}
        )
        took = None
        async for chunk in stream:  # to the end, so that the next one finds an idle engine
            if took is None and chunk.choices and chunk.choices[0].text:
                took = (time.perf_counter() - begun) * 1000
        return took or (time.perf_counter() - begun) * 1000

    chance = random.Random(0)
    new, again, short = [], [], []
    for _ in range(rounds):
        shared = [chance.randrange(1000, 40_000) for _ in range(1000)]
        new.append(await first([*shared, 1001]))
        again.append(await first([*shared, 1002]))
        short.append(await first([chance.randrange(1000, 40_000) for _ in range(50)]))
    ratio = [b / a for a, b in zip(new, again, strict=True)]
    return {
        "http_first_ms": statistics.median(short), "prefix_new_ms": statistics.median(new),
        "prefix_again_ms": statistics.median(again), "prefix_ratio": statistics.median(ratio),
    }  # fmt: skip


def engine(rounds: int) -> dict[str, float]:
    """The engine's own first token of such a short prompt, and how much of its blocks is filled beside 32 chats."""
    from fairground.engine.local import LocalGenerator, open_model
    from fairground.models.packed import BLOCK
    from fairground.types import Request, Sampling

    model, chance, short = open_model(gguf()), random.Random(0), []
    assert isinstance(model, LocalGenerator)
    for _ in range(rounds):
        prompt = tuple(chance.randrange(1000, 40_000) for _ in range(50))
        stream = model.submit(Request(prompt, Sampling(max_tokens=2, ignore_eos=True)))
        short.append(stream.completion().timing.time_to_first_token * 1000)
    filled, streams = [], []
    for length in range(100, 401, 10):
        prompt = tuple(chance.randrange(1000, 40_000) for _ in range(length))
        streams.append(model.submit(Request(prompt, Sampling(max_tokens=WRITTEN, ignore_eos=True))))
    for _ in streams[-1]:
        jobs, used = list(model._loop._jobs), model._cache.used
        if len(jobs) == len(streams):
            filled.append(1 - sum(job.computed for job in jobs) / (used * BLOCK))
    model.close()
    return {"engine_first_ms": statistics.median(short), "cache_waste": statistics.median(filled)}


async def memory(url: str, process: psutil.Process, requests: int) -> dict[str, float]:
    """Resident memory before and after many requests."""
    import openai

    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)
    chance = random.Random(0)
    gate = asyncio.Semaphore(32)

    async def one() -> None:
        async with gate:
            prompt = [chance.randrange(1000, 40_000) for _ in range(chance.randint(8, 64))]
            await client.completions.create(model="model", prompt=prompt, max_tokens=2, temperature=0)

    sizes = []
    async with client:
        for count in (requests // 10, requests - requests // 10):
            await asyncio.gather(*(one() for _ in range(count)))
            sizes.append(process.memory_info().rss / 1e6)
    return {"memory_after_a_tenth_mb": sizes[0], "memory_after_all_mb": sizes[1], "requests": requests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default="", metavar="DIR", help="where xllamacpp lies")
    parser.add_argument("--requests", type=int, default=10_000, help="of the memory measurement; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "serving.json")
    options = parser.parse_args()
    peers = str(Path(options.peers).resolve()) if options.peers else ""
    rounds: dict[str, list[dict[str, float]]] = {"fairground": []}
    if peers:
        rounds["llama.cpp"] = []
    for number in range(options.rounds):
        for side, results in rounds.items():
            with server(side, peers) as (url, _):
                asyncio.run(chats(url, seed=1000 + number))
                results.append(asyncio.run(chats(url, seed=number)))
            print(number + 1, side, {name: round(value, 2) for name, value in results[-1].items()}, flush=True)
    own: dict[str, Any] = engine(20)
    with server("fairground", peers) as (url, process):
        asyncio.run(overhead(url, 2))
        own |= asyncio.run(overhead(url, 20))
        if options.requests:
            own |= asyncio.run(memory(url, process, options.requests))
    print(own)
    about = {
        "model": "SmolLM2-135M-Instruct, Q4_1 GGUF",
        **circumstances(f"python benchmarks/serving_against_peers.py --rounds {options.rounds} --peers DIR", "torch"),
    }
    if peers:
        sys.path.append(peers)
        about["versions"]["xllamacpp"] = importlib.metadata.version("xllamacpp")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"about": about, "rounds": rounds, "own": own}, indent=1) + "\n")


if __name__ == "__main__":
    main()
