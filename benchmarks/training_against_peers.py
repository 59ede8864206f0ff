"""Training speed and peak memory of our loop beside Transformers, litgpt and a loop like nanoGPT's, in one run.

    .venv/bin/python benchmarks/training_against_peers.py [--rounds 5] [--peers DIR] [--device cuda]

Every contestant is a process of its own (contestants.py says what it does) and they take turns: while one trains, the
others wait. On a GPU, whose memory they would share, each turn is a fresh process. litgpt is left out unless `--peers`
names a folder that has it:

    .venv/bin/pip install --no-deps --target DIR \\
        litgpt==0.5.13 lightning lightning_utilities torchmetrics jsonargparse
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from contestants import Job

HERE = Path(__file__).parent
SAME_LOSS = 5e-3  # nats; bfloat16's rounding moves a first loss by a tenth of that


@dataclass(frozen=True, slots=True)
class Shape:
    """`FAMILY:SIZE`, tokens it knows, tokens of a row, rows of a step, steps that a turn counts."""

    name: str
    vocabulary: int
    context: int
    batch: int
    steps: int


SHAPES = {
    "cpu": (Shape("gpt2:2m", 4096, 512, 16, 4), Shape("llama:8m", 4096, 512, 16, 2)),
    "cuda": (Shape("llama:1b", 32000, 2048, 8, 10),),
}


class Contestant:
    """A process that trains when it is told to; `script NAME JOB` is one."""

    script = HERE / "contestants.py"

    def __init__(self, name: str, job: Job) -> None:
        """Returns when it is ready for its first turn."""
        self.name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(self.script), name, json.dumps(asdict(job))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(job.threads), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        self._answer()

    def go_on(self) -> dict[str, Any]:
        """What it says after its next turn, or, after its last one, of all."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        self._errors.seek(0)
        raise SystemExit(f"{self.name} ended before it was measured:\n{self._errors.read()[-3000:]}")


@contextmanager
def started(names: Sequence[str], job: Job, kind: type[Contestant] = Contestant) -> Iterator[list[Contestant]]:
    """One after another, so that none is in another's way while it compiles."""
    running: list[Contestant] = []
    try:
        for name in names:
            running.append(kind(name, job))
            print(f"{job.shape}: {name} is ready", flush=True)
        yield running
    finally:
        for contestant in running:
            contestant.close()


def contestants(shape: Shape, litgpt: bool, compiled: bool) -> list[str]:
    """Those that know the shape's family, if litgpt is there."""
    family = shape.name.partition(":")[0]
    plain = {"gpt2": ["nanogpt"], "llama": ["litgpt"] if litgpt else []}[family]
    if not compiled:
        return ["fairground", "trainer", *plain]
    return ["fairground", "trainer", "trainer_tuned", *(each for one in plain for each in (one, f"{one}_compiled"))]


def race(
    job: Job, names: Sequence[str], kind: type[Contestant] = Contestant
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    """Each contestant's turns, and what it said at the end."""
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    ends: dict[str, dict[str, Any]] = {}

    def turn(contestant: Contestant) -> None:
        said = contestant.go_on()
        turns[contestant.name].append(said)
        speed = job.batch * job.context * job.steps / sum(said["seconds"])
        print(
            f"{job.shape} {len(turns[contestant.name])} {contestant.name}: {speed:.0f} tokens/s, "
            f"{said['peak_memory_mb']:.0f} MB",
            flush=True,
        )

    if job.device == "cpu":
        with started(names, job, kind) as running:
            for _ in range(job.turns):
                for contestant in running:
                    turn(contestant)
            ends = {contestant.name: contestant.go_on() for contestant in running}
    else:
        for _ in range(job.turns):
            for name in names:
                with started([name], replace(job, turns=1), kind) as (alone,):
                    turn(alone)
                    ends[name] = alone.go_on()
    return turns, ends


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(shape: Shape, names: Sequence[str], job: Job) -> dict[str, Any]:
    """A shape's part of the results. Exits if a contestant's first loss is not ours."""
    with tempfile.TemporaryDirectory() as folder:
        job = replace(job, folder=folder)
        done = subprocess.run(
            [sys.executable, str(HERE / "contestants.py"), "prepare", json.dumps(asdict(job))],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{shape.name} could not be made, for the reason above.")
        about = json.loads(done.stdout)
        turns, ends = race(job, names)
    first = {name: end["losses"][0] for name, end in ends.items()}
    for name, loss in first.items():
        if abs(loss - first["fairground"]) > SAME_LOSS:
            raise SystemExit(
                f"At the first step {name} found a loss of {loss:.4f} and we one of {first['fairground']:.4f}, so they "
                "do not compute the same and were not compared."
            )
    tokens = shape.batch * shape.context * shape.steps
    speeds = {name: [tokens / sum(turn["seconds"]) for turn in rows] for name, rows in turns.items()}
    # The best of what they measured: some measure while others are still ending.
    rate = max(end["matrix_rate"] for end in ends.values())
    summary = {
        name: {
            "tokens_per_s": spread(speeds[name]),
            "ours_over_theirs": spread([a / b for a, b in zip(speeds["fairground"], speeds[name], strict=True)]),
            "share_of_matrix_rate": statistics.median(speeds[name]) * about["operations_per_token"] / rate,
            "peak_memory_mb": spread([turn["peak_memory_mb"] for turn in turns[name]]),
        }
        for name in names
    }
    return {
        **about,
        **asdict(shape),
        "matrix_rate": rate,
        "machine": ends["fairground"]["machine"],
        "first_losses": first,
        "summary": summary,
        "turns": turns,
        "ends": ends,
    }


def version(name: str, peers: str) -> str | None:
    """Of a package that is installed here or lies among the peers."""
    path = [*sys.path, peers] if peers else sys.path
    found = next(iter(importlib.metadata.distributions(name=name, path=path)), None)
    return found.version if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=tuple(SHAPES), default="cpu")
    parser.add_argument("--peers", default="", metavar="DIR", help="where litgpt lies")
    parser.add_argument("--no-compile", action="store_true", help="leave out what torch.compile compiles")
    parser.add_argument("--shapes", nargs="+", metavar="FAMILY:SIZE", help="instead of the device's own")
    for name in ("vocabulary", "context", "batch", "steps"):
        parser.add_argument(f"--{name}", type=int, help="instead of the shapes' own")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    options = parser.parse_args()
    out = options.out or HERE / "results" / ("training.json" if options.device == "cpu" else "training_cuda.json")
    shapes: Sequence[Shape] = SHAPES[options.device]
    if options.shapes:
        shapes = [next((s for s in shapes if s.name == name), replace(shapes[0], name=name)) for name in options.shapes]
    given = {n: v for n in ("vocabulary", "context", "batch", "steps") if (v := getattr(options, n)) is not None}
    peers = str(Path(options.peers).resolve()) if options.peers else ""
    litgpt = version("litgpt", peers) is not None
    if not litgpt:
        print("litgpt is left out, because it lies neither here nor in --peers; --help says how to get it.")
    compiled = not options.no_compile
    if compiled and shutil.which("g++") is None:
        print("What torch.compile compiles is left out, because there is no g++.")
        compiled = False
    results = {}
    for shape in (replace(shape, **given) for shape in shapes):
        job = Job(
            "", shape.name, shape.vocabulary, shape.context, shape.batch, shape.steps,
            options.rounds, options.threads, options.device, peers,
        )  # fmt: skip
        results[shape.name] = measure(shape, contestants(shape, litgpt, compiled), job)
    packages = ("fairground", "torch", "transformers", "accelerate", *(["litgpt"] if litgpt else []))
    about = {
        "device": options.device,
        "threads": options.threads,
        "rounds": options.rounds,
        "versions": {name: version(name, peers) for name in packages},
        "command": f"python benchmarks/training_against_peers.py {' '.join(sys.argv[1:])}".strip(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"about": about, "shapes": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
