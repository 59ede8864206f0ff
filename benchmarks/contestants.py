"""Those whose training is measured: each takes the same weights and rows, and takes the same steps.

All compute in bfloat16 over float32 weights, clip gradients to length 1, and move weights by torch's fused AdamW with
one rate; matrices decay and vectors do not. Where adapters are trained, it may be in float32. A process of
`training_against_peers.py` runs one of them: whenever it has done as many steps as a turn has, it says how long each
took as a line of JSON, and waits for a line before it goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

RATE, BETAS, EPS, DECAY, CLIP = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0
SEED = 0


@dataclass(frozen=True, slots=True)
class Job:
    """What a contestant is given.

    `folder` holds weights as Hugging Face lays them out and int32 [all_steps times batch, context + 1] in
    `documents.npy`; `rows.npy` has the same in the order in which our loop takes them. `batch`: rows of a step. After
    a step that no turn counts, each of `turns` turns warms up with another one and then takes `steps`. `peers`: where
    packages lie that are not installed here. With a `rank`, adapters in `adapter` are trained in place of the weights.
    """

    folder: str
    shape: str
    vocabulary: int
    context: int
    batch: int
    steps: int
    turns: int
    threads: int
    device: str
    peers: str
    precision: str = "bfloat16"
    rank: int = 0

    @property
    def all_steps(self) -> int:
        return 1 + self.turns * (1 + self.steps)


class Clock:
    """Told of every step's end, it measures turns and keeps the process waiting between them."""

    def __init__(self, job: Job) -> None:
        self.job, self.losses = job, list[float]()  # nats per prediction
        self._begun = 0.0
        self._seconds: list[float] = []
        self._left = 1

    def step(self) -> None:
        if self.job.device != "cpu":
            import torch

            torch.cuda.synchronize()
        self._seconds.append(time.perf_counter() - self._begun)
        self._left -= 1
        if not self._left:
            say({"seconds": self._seconds[1:], "peak_memory_mb": self._peak_mb()})
            sys.stdin.readline()
            self._seconds, self._left = [], 1 + self.job.steps
        self._begun = time.perf_counter()

    def _peak_mb(self) -> float:
        """Until now, so that what comes after the last step is not counted; on a GPU, of its memory."""
        if self.job.device != "cpu":
            import torch

            return float(torch.cuda.max_memory_allocated() / 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


def prepare(job: Job) -> dict[str, Any]:
    """Writes the folder of a job, and says what the shape is and costs."""
    import numpy as np
    import torch

    from fairground.models.assemble import save
    from fairground.training.measure import operations_per_token
    from fairground.training.sizes import new_config
    from fairground.training.start import new_decoder
    from fairground.training.tokens import Batches

    if job.device != "cpu" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU that torch can use here; leave --device out.")
    config = new_config(job.shape, vocab_size=job.vocabulary, context_length=job.context)
    # Rounded, so that weights kept in float32 and in bfloat16 begin as the same numbers.
    decoder = new_decoder(config, SEED).to(torch.bfloat16).float()
    save(decoder, Path(job.folder))
    if job.rank:
        prepare_adapter(decoder, job)
    size = job.all_steps * job.batch, job.context + 1
    documents = np.random.default_rng(SEED).integers(0, job.vocabulary, size, dtype=np.int32)
    np.save(Path(job.folder) / "documents.npy", documents)
    order = Batches(our_tokens(documents), job.batch * job.context, job.context, SEED).order(0)
    np.save(Path(job.folder) / "rows.npy", documents[order])
    return {
        "parameters": config.parameter_count(),
        "width": config.width,
        "layers": config.layers,
        "operations_per_token": operations_per_token(config, job.context, fixed=job.rank > 0),
    }


def prepare_adapter(decoder: Any, job: Job) -> None:
    """Adapters in every linear layer, rounded like the weights, in a folder that both sides read."""
    import torch

    from fairground.models.lora import Adapter, LoraConfig, adapters_of, add_lora
    from fairground.models.peft_files import save_adapter

    lora = LoraConfig(job.rank)
    add_lora(decoder, lora, SEED)
    own = {name: Adapter(x.a.to(torch.bfloat16), x.b, x.scale) for name, x in adapters_of(decoder).items()}
    save_adapter(Path(job.folder) / "adapter", decoder.config, lora, own, base=job.folder, sha256="")


def our_tokens(documents: Any) -> Any:
    import numpy as np

    from fairground.training.tokens import Tokens

    count, length = documents.shape
    starts = np.arange(count + 1, dtype=np.int64) * length
    spelt = np.ones(int(documents.max()) + 1, dtype=np.int32)
    return Tokens(documents.reshape(-1), np.ones(documents.size, dtype=np.bool_), starts, ["random"] * count, spelt)


def fairground(job: Job, clock: Clock) -> None:
    """The loop of `fairground train`, log and all."""
    import numpy as np

    from fairground.models.load import load_folder
    from fairground.models.lora import LoraConfig, attach
    from fairground.models.peft_files import read_adapter, read_adapter_config
    from fairground.training.loop import Step, train
    from fairground.training.objective import LanguageModelling
    from fairground.training.optimiser import Optimiser
    from fairground.training.recipe import Recipe

    decoder = load_folder(Path(job.folder), job.precision).decoder.to(job.device)  # type: ignore[arg-type]
    if job.rank:
        attach(decoder, read_adapter(read_adapter_config(Path(job.folder) / "adapter")))
    recipe = Recipe(
        job.shape,
        tokens=job.all_steps * job.batch * job.context,
        batch_tokens=job.batch * job.context,
        context=job.context,
        seed=SEED,
        precision=job.precision,
        lora=LoraConfig(job.rank) if job.rank else None,
        evaluate_every=0,
        checkpoint_every=0,
        optimiser=Optimiser(
            RATE, "constant", warmup=0, weight_decay=DECAY, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, clip=CLIP
        ),
    )

    def progress(step: Step) -> None:
        clock.losses.append(step.loss)
        clock.step()

    tokens = our_tokens(np.load(Path(job.folder) / "documents.npy"))
    with tempfile.TemporaryDirectory() as out:
        train(decoder, LanguageModelling(), tokens, recipe, Path(out), progress=progress)


def trainer(job: Job, clock: Clock, *, tuned: bool = False) -> None:
    """Transformers' Trainer with `bf16=True`. Tuned, it is compiled and GPT-2's GELU is torch's own, not a formula.

    With adapters, they are peft's, and in bfloat16 the weights, which are fixed, are kept in it.
    """
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Stamp(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step()

    config: dict[str, Any] = {}
    if job.shape.startswith("gpt2"):
        config = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        config |= {"activation_function": "gelu_pytorch_tanh"} if tuned else {}
    narrow = job.precision == "bfloat16"
    kept = torch.bfloat16 if job.rank and narrow else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=kept, attn_implementation="sdpa", **config)
    if job.rank:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(Path(job.folder) / "adapter"), is_trainable=True)
    rows = torch.from_numpy(np.load(Path(job.folder) / "rows.npy").astype(np.int64))
    # Given shifted, every row has as many predictions as the others' rows have.
    data = [{"input_ids": row[:-1], "labels": row[1:], "shift_labels": row[1:]} for row in rows]
    with tempfile.TemporaryDirectory() as out:
        settings: dict[str, Any] = {
            "output_dir": out,
            "max_steps": job.all_steps,
            "per_device_train_batch_size": job.batch,
            "train_sampling_strategy": "sequential",
            "remove_unused_columns": False,
            "use_cpu": job.device == "cpu",
            "bf16": narrow,
            "optim": "adamw_torch_fused",
            "learning_rate": RATE,
            "lr_scheduler_type": "constant",
            "adam_beta1": BETAS[0],
            "adam_beta2": BETAS[1],
            "adam_epsilon": EPS,
            "weight_decay": DECAY,
            "max_grad_norm": CLIP,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "torch_compile": tuned,
        }
        theirs = Trainer(model, TrainingArguments(**settings), train_dataset=data, callbacks=[Stamp()])
        theirs.remove_callback(PrinterCallback)
        theirs.train()
    clock.losses += [row["loss"] for row in theirs.state.log_history if "loss" in row]


def nanogpt(job: Job, clock: Clock, *, compiled: bool = False) -> None:
    """GPT-2 and a loop in nanoGPT's manner."""
    import torch
    from nano_gpt import NanoGPT

    c = published_config(job)
    model = NanoGPT(c["vocab_size"], c["n_positions"], c["n_embd"], c["n_layer"], c["n_head"], c["n_inner"])
    model.take(published_weights(job))
    model.to(job.device)
    plain_loop(job, clock, model, torch.compile(model) if compiled else model)


def litgpt(job: Job, clock: Clock, *, compiled: bool = False) -> None:
    """litgpt's model, and its loss, in the same loop."""
    sys.path += [job.peers] if job.peers else []  # last, so that nothing there takes the place of what is installed
    import torch
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.utils import chunked_cross_entropy

    c = published_config(job)
    model = GPT(
        Config(
            block_size=c["max_position_embeddings"],
            vocab_size=c["vocab_size"],
            padded_vocab_size=c["vocab_size"],
            n_layer=c["num_hidden_layers"],
            n_head=c["num_attention_heads"],
            head_size=c["head_dim"],
            n_embd=c["hidden_size"],
            n_query_groups=c["num_key_value_heads"],
            rotary_percentage=1.0,
            parallel_residual=False,
            bias=False,
            norm_class_name="RMSNorm",
            norm_eps=c["rms_norm_eps"],
            mlp_class_name="LLaMAMLP",
            intermediate_size=c["intermediate_size"],
        )
    )
    model.transformer.wte.weight = model.lm_head.weight
    model.load_state_dict(litgpt_weights(published_weights(job)))
    model.to(job.device)
    run = torch.compile(model) if compiled else model
    plain_loop(job, clock, model, lambda ids, targets: chunked_cross_entropy(run(ids), targets))


def litgpt_weights(published: dict[str, Any]) -> dict[str, Any]:
    """LLaMA's weights under litgpt's names."""
    import torch

    names = {
        "input_layernorm": "norm_1",
        "post_attention_layernorm": "norm_2",
        "self_attn.o_proj": "attn.proj",
        "mlp.gate_proj": "mlp.fc_1",
        "mlp.up_proj": "mlp.fc_2",
        "mlp.down_proj": "mlp.proj",
    }
    found = {
        "lm_head.weight": published.get("lm_head.weight", published["model.embed_tokens.weight"]),
        "transformer.wte.weight": published["model.embed_tokens.weight"],
        "transformer.ln_f.weight": published["model.norm.weight"],
    }
    layers = sum(name.endswith("q_proj.weight") for name in published)
    for layer in range(layers):
        theirs, ours = f"transformer.h.{layer}", f"model.layers.{layer}"
        found |= {f"{theirs}.{new}.weight": published[f"{ours}.{old}.weight"] for old, new in names.items()}
        qkv = [published[f"{ours}.self_attn.{part}_proj.weight"] for part in "qkv"]
        found[f"{theirs}.attn.qkv.weight"] = torch.cat(qkv)
    return found


def published_config(job: Job) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((Path(job.folder) / "config.json").read_text(encoding="utf-8"))
    return config


def published_weights(job: Job) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: w for file in Path(job.folder).glob("*.safetensors") for name, w in load_file(file).items()}


def plain_loop(job: Job, clock: Clock, model: Any, loss_of: Callable[[Any, Any], Any]) -> None:
    """nanoGPT's training loop (train.py), the loss read at every step as the others read theirs."""
    import numpy as np
    import torch

    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS, fused=True)
    rows = torch.from_numpy(np.load(Path(job.folder) / "rows.npy").astype(np.int64))
    model.train()
    for batch in rows.split(job.batch):
        ids, targets = batch[:, :-1].to(job.device), batch[:, 1:].to(job.device)
        with torch.autocast(job.device, torch.bfloat16):
            loss = loss_of(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adamw.step()
        adamw.zero_grad(set_to_none=True)
        clock.losses.append(float(loss.detach()))
        clock.step()


CONTESTANTS: dict[str, Callable[[Job, Clock], None]] = {
    "fairground": fairground,
    "trainer": trainer,
    "trainer_tuned": partial(trainer, tuned=True),
    "nanogpt": nanogpt,
    "nanogpt_compiled": partial(nanogpt, compiled=True),
    "litgpt": litgpt,
    "litgpt_compiled": partial(litgpt, compiled=True),
}


def compete(name: str, job: Job) -> dict[str, Any]:
    """All turns, then all losses, and the rate of matrix products in operations per second."""
    import torch

    torch.set_num_threads(job.threads)
    clock = Clock(job)
    CONTESTANTS[name](job, clock)
    from fairground.models.machine import matrix_rate

    cpu = job.device == "cpu"
    return {
        "losses": clock.losses,
        # Smaller products do not fill a GPU.
        "matrix_rate": matrix_rate(getattr(torch, job.precision), job.device),
        "machine": platform.processor() or platform.machine() if cpu else torch.cuda.get_device_name(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=("prepare", *CONTESTANTS))
    parser.add_argument("job", type=json.loads)
    options = parser.parse_args()
    given = Job(**options.job)
    say(prepare(given) if options.name == "prepare" else compete(options.name, given))
