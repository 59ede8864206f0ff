"""Speed and peak memory of learning preferences, beside TRL's DPOTrainer, in one run.

    .venv/bin/python benchmarks/dpo_against_trl.py [--rounds 5] [--precisions bfloat16 float32]

Both take the same weights and the same pairs in the same order, as many in every step, and move weights by torch's
fused AdamW. Each is a process of its own, and they take turns: while one trains, the other waits. TRL's is there twice:
with its reference computed before training, as ours is, and as it comes, with a second model in the loop.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from circumstances import circumstances
from contestants import BETAS, CLIP, DECAY, EPS, SEED, Clock, Job, say
from training_against_peers import Contestant, race, spread

HERE = Path(__file__).parent
RATE, BETA = 1e-4, 0.1
SAME = 0.03  # of a first gradient's length; bfloat16's rounding moves it by a third of that

Lengths = Sequence[tuple[int, int, int]]
LENGTHS: dict[str, Lengths] = {
    "equal": [(128, 64, 64)] * 8,
    "mixed": [(96, 40, 120), (160, 64, 32), (32, 88, 88), (224, 16, 64), (64, 120, 48), (128, 64, 64), (192, 48, 96),
              (128, 72, 32)],
}  # fmt: skip
"""Tokens of prompt, chosen and rejected answer of the pairs of a step; every step has these, in another order."""


@dataclass(frozen=True, slots=True)
class PairJob(Job):
    """A job whose `batch` are pairs and whose `context` is the predictions of a pair, both answers together."""

    lengths: str = "equal"
    precision: str = "bfloat16"


class Rival(Contestant):
    """One that this script runs."""

    script = Path(__file__)


def predictions(lengths: Lengths) -> int:
    """Tokens that are predicted in a step, with the prompt counted for both answers and padding not at all."""
    return sum(2 * prompt + chosen + rejected - 2 for prompt, chosen, rejected in lengths)


def rows(job: PairJob, vocabulary: int) -> list[dict[str, list[int]]]:
    """Random pairs for all steps, in the order in which they are taken."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    made = []
    for _ in range(job.all_steps):
        for number in rng.permutation(job.batch):
            parts = zip(("prompt_ids", "chosen_ids", "rejected_ids"), LENGTHS[job.lengths][number], strict=True)
            made.append({name: rng.integers(0, vocabulary, length).tolist() for name, length in parts})
    return made


def prepare(job: PairJob) -> dict[str, Any]:
    """Writes weights and a tokenizer, and says what the model is."""
    import torch

    from fairground.models.assemble import save
    from fairground.models.tokenizer import Tokenizer
    from fairground.training.sizes import new_config
    from fairground.training.start import new_decoder

    words = Tokenizer.from_folder(HERE.parent / "fairground" / "hub" / "commons" / "commons-llama-4m")
    config = new_config(job.shape, vocab_size=words.vocab_size, context_length=512)
    words.save(job.folder)
    save(new_decoder(config, SEED).to(torch.bfloat16).float(), Path(job.folder))
    return {"parameters": config.parameter_count(), "width": config.width, "layers": config.layers}


def fairground(job: PairJob, clock: Clock) -> list[float]:
    """The loop of `fairground train --objective dpo`, log and all."""
    import numpy as np

    from fairground.models.load import load_folder
    from fairground.training.loop import Step, train
    from fairground.training.optimiser import Optimiser
    from fairground.training.pairs import Pairs
    from fairground.training.preference import DirectPreference
    from fairground.training.recipe import Recipe

    decoder = load_folder(Path(job.folder), job.precision).decoder
    made = rows(job, job.vocabulary)
    order = np.random.default_rng((SEED, 0)).permutation(len(made))  # which pair our loop takes when
    placed = [made[at] for at in np.argsort(order)]
    documents = [row["prompt_ids"] + row[answer] for row in placed for answer in ("chosen_ids", "rejected_ids")]
    prompts = [len(row["prompt_ids"]) for row in placed for _ in range(2)]
    starts = np.concatenate(([0], np.cumsum([len(row) for row in documents])))
    learned = [np.arange(len(row)) >= prompt for row, prompt in zip(documents, prompts, strict=True)]
    pairs = Pairs(
        np.concatenate(documents).astype(np.int32), np.concatenate(learned), starts, ["random"] * len(documents),
        np.ones(job.vocabulary, np.int32),
    )  # fmt: skip
    size = job.batch * job.context
    recipe = Recipe(
        job.folder, tokens=job.all_steps * size, batch_tokens=size, context=512, seed=SEED, objective="dpo",
        precision=job.precision, evaluate_every=0, checkpoint_every=0,
        optimiser=Optimiser(
            RATE, "constant", warmup=0, weight_decay=DECAY, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, clip=CLIP
        ),
    )  # fmt: skip
    norms: list[float] = []

    def progress(step: Step) -> None:
        clock.losses.append(step.loss)
        norms.append(step.gradient_norm)
        clock.step()

    with tempfile.TemporaryDirectory() as out:
        train(decoder, DirectPreference(BETA), pairs, recipe, Path(out), progress=progress)
    return norms


def trl(job: PairJob, clock: Clock, *, before: bool) -> list[float]:
    """DPOTrainer on the same tokens; `before`: its reference is computed before training."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class Tokenized(DPOTrainer):  # type: ignore[misc]
        """Takes tokens as they are."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    class Stamp(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step()

    model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32, attn_implementation="sdpa")
    data = Dataset.from_list([{"prompt": "", "chosen": "", "rejected": "", **row} for row in rows(job, job.vocabulary)])
    with tempfile.TemporaryDirectory() as out:
        settings = DPOConfig(
            output_dir=out, beta=BETA, max_length=None, precompute_ref_log_probs=before, max_steps=job.all_steps,
            per_device_train_batch_size=job.batch, train_sampling_strategy="sequential", use_cpu=True,
            bf16=job.precision == "bfloat16", gradient_checkpointing=False, optim="adamw_torch_fused",
            learning_rate=RATE, lr_scheduler_type="constant", adam_beta1=BETAS[0], adam_beta2=BETAS[1],
            adam_epsilon=EPS, weight_decay=DECAY, max_grad_norm=CLIP, logging_steps=1, save_strategy="no",
            report_to=[], disable_tqdm=True,
        )  # fmt: skip
        words = AutoTokenizer.from_pretrained(job.folder)
        theirs = Tokenized(model, args=settings, train_dataset=data, processing_class=words, callbacks=[Stamp()])
        theirs.remove_callback(PrinterCallback)
        theirs.train()
    logged = [row for row in theirs.state.log_history if "loss" in row]
    clock.losses += [row["loss"] for row in logged]
    return [row["grad_norm"] for row in logged]


CONTESTANTS: dict[str, Callable[[PairJob, Clock], list[float]]] = {
    "fairground": fairground,
    "trl": partial(trl, before=True),
    "trl_default": partial(trl, before=False),
}


def compete(name: str, job: PairJob) -> dict[str, Any]:
    """All turns, and then losses and gradients' lengths of every step."""
    import torch

    torch.set_num_threads(job.threads)
    clock = Clock(job)
    norms = CONTESTANTS[name](job, clock)
    return {"losses": clock.losses, "gradient_norms": norms}


def measure(job: PairJob) -> dict[str, Any]:
    """One part of the results. Exits if a contestant's first gradient is not as long as ours."""
    from dataclasses import replace

    with tempfile.TemporaryDirectory() as folder:
        job = replace(job, folder=folder)
        done = subprocess.run(
            [sys.executable, __file__, "prepare", json.dumps(asdict(job))],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{job.shape} could not be made, for the reason above.")
        turns, ends = race(job, list(CONTESTANTS), Rival)
    first = {name: end["gradient_norms"][0] for name, end in ends.items()}
    for name, norm in first.items():
        if abs(norm / first["fairground"] - 1) > SAME:
            raise SystemExit(
                f"At the first step {name} found a gradient of length {norm:.4f} and we one of "
                f"{first['fairground']:.4f}, so they do not compute the same and were not compared."
            )
    tokens = job.batch * job.context * job.steps
    speeds = {name: [tokens / sum(turn["seconds"]) for turn in made] for name, made in turns.items()}
    summary = {
        name: {
            "tokens_per_s": spread(speeds[name]),
            "ours_over_theirs": spread([a / b for a, b in zip(speeds["fairground"], speeds[name], strict=True)]),
            "peak_memory_mb": spread([turn["peak_memory_mb"] for turn in turns[name]]),
        }
        for name in CONTESTANTS
    }
    told = {"shape": job.shape, "lengths": job.lengths, "precision": job.precision, "batch": job.batch}
    return {
        **json.loads(done.stdout), **told, "predictions": job.batch * job.context, "first_gradients": first,
        "summary": summary, "turns": turns, "ends": ends,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="that a turn counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shapes", nargs="+", default=["llama:8m"], metavar="FAMILY:SIZE")
    parser.add_argument("--lengths", nargs="+", default=list(LENGTHS), choices=list(LENGTHS))
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32"], choices=["bfloat16", "float32"])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "dpo.json", metavar="FILE.json")
    options = parser.parse_args()
    parts = []
    for shape in options.shapes:
        for precision in options.precisions:
            for lengths in options.lengths:
                batch = len(LENGTHS[lengths])
                each, rest = divmod(predictions(LENGTHS[lengths]), batch)
                assert not rest, "a step has as many predictions as its pairs have on average"
                job = PairJob(
                    "", shape, 4096, each, batch, options.steps, options.rounds, options.threads, "cpu", "",
                    lengths=lengths, precision=precision,
                )  # fmt: skip
                parts.append(measure(job))
    command = f"python benchmarks/dpo_against_trl.py {' '.join(sys.argv[1:])}".strip()
    about = {**circumstances(command, "torch", "transformers", "trl"), "rounds": options.rounds}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"about": about, "parts": parts}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in ("prepare", *CONTESTANTS):
        given = PairJob(**json.loads(sys.argv[2]))
        say(prepare(given) if sys.argv[1] == "prepare" else compete(sys.argv[1], given))
    else:
        main()
