"""Past one process: the same run under `torchrun`, with everything copied in each process or split over them.

Every process knows the whole step and takes its stretches of it, so that a run's batches, checkpoints and weights do
not depend on how many processes there are, but for the rounding of sums. Copied (data-parallel), each holds the whole
model and gradients are added up once a step. Split (FSDP2, torch's `fully_shard`; after Zhao et al., 2023), each holds
a share of every weight, gradient and moment, and a block's weights are gathered while it computes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fairground.errors import TrainingError
from fairground.models.decoder import Decoder
from fairground.models.packed import Packed
from fairground.training.tokens import Batch

LONGEST_WAIT = timedelta(days=7)  # for the first process, which may have a teacher read a library


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of a run; `split`: whether they share one copy of the model."""

    rank: int = 0
    count: int = 1
    on_this_machine: int = 1
    split: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Returns when all are here."""
        if self.count > 1:
            dist.barrier()

    def leave(self) -> None:
        """Returns when all are here, and parts from them."""
        if self.count > 1:
            dist.barrier()
            dist.destroy_process_group()

    def agree(self, what: Any) -> None:
        """Raises TrainingError, in all of them, where a process has something else than the first."""
        if self.count == 1:
            return
        everybody: list[Any] = [None] * self.count
        dist.all_gather_object(everybody, what)
        different = [rank for rank, theirs in enumerate(everybody) if theirs != everybody[0]]
        if different:
            raise TrainingError(
                f"Process {different[0]} has another recipe, text or model than process 0, so nothing was learned; "
                "give all machines the same command, files and version."
            )

    def added(self, numbers: Sequence[float]) -> list[float]:
        """Each of these, summed over the processes."""
        if self.count == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=_device())
        dist.all_reduce(total)
        return total.tolist()

    def add_gradients(self, weights: Sequence[Tensor]) -> None:
        """Makes every gradient the sum of all processes'. Where they are split, torch has done it."""
        if self.count == 1 or self.split:
            return
        waiting = []
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            waiting.append(dist.all_reduce(weight.grad, async_op=True))
        for handle in waiting:
            assert handle is not None
            handle.wait()

    def parts(self, batch: Batch, size: int) -> Iterator[Batch]:
        """This process's parts of the batch, in parts of about `size` predictions.

        Where the model is split, all get equally many, so that they gather weights together; who has none left gets one
        that counts nothing.
        """
        if self.count == 1:
            yield from batch.parts(size)
            return
        everybody = [list(share.parts(size)) if share else [] for share in shares(batch, self.count)]
        mine = everybody[self.rank]
        yield from mine
        if self.split:
            for _ in range(max(map(len, everybody)) - len(mine)):
                yield idle(batch)


def shares(batch: Batch, count: int) -> list[Batch | None]:
    """The batch's stretches in order, cut where the predictions so far are nearest to each process's share.

    A prompt and its two answers stay together.
    """
    starts = batch.packed.starts
    total, places = starts[-1], range(0, len(starts), batch.together)
    cuts = [min(places, key=lambda s: abs(starts[s] - total * n / count)) for n in range(count + 1)]
    return [batch.only(first, last) if last > first else None for first, last in pairwise(cuts)]


def idle(batch: Batch) -> Batch:
    """A part of one prediction that does not count."""
    index = None if batch.index is None else batch.index[:1]
    nothing = torch.zeros(1, dtype=torch.bool)
    return Batch(batch.ids[:1], batch.targets[:1], nothing, Packed.of([1]), batch.documents[:1], index=index)


def join(split: bool, device: str) -> Processes:
    """Joins the others that torchrun started, if it did; gloo on CPUs and NCCL on GPUs.

    Raises TrainingError for `split` without torchrun.
    """
    if count() == 1:
        if split:
            raise TrainingError(
                "Only several processes can split a model; start them with torchrun --nproc-per-node 2 --no-python "
                "fairground train …, or leave --split out."
            )
        return Processes()
    if device != "cpu":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("gloo" if device == "cpu" else "nccl", timeout=LONGEST_WAIT)
    return Processes(dist.get_rank(), count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1")), split)


def count() -> int:
    """Processes that torchrun started together with this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def placed(decoder: Decoder, precision: torch.dtype, device: str, together: Processes) -> Decoder:
    """A float32 decoder on its device and in its precision, split where the processes are to share it."""
    if not together.split:
        return decoder.to(device=device, dtype=precision)
    split(decoder.to(device), precision)
    return decoder


def split(decoder: Decoder, precision: torch.dtype) -> None:
    """Splits a float32 decoder over the processes, in place: blocks one by one, then what is around them.

    Products are done in `precision`, from weights that are rounded when they are gathered; gradients are added up in
    float32. The decoder's own weights are gathered by its forward pass and stay so until the way back is over, because
    the head is used in between.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    # It fears that the decoder's output, a view, is changed in place; nobody does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in decoder.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(decoder, mp_policy=policy, reshard_after_forward=False)
    for module in decoder.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # sums, as everywhere here, and no means
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other


def let_go(decoder: nn.Module) -> None:
    """Has each process keep its share alone again, after a pass without a way back."""
    reshard = getattr(decoder, "reshard", None)
    if callable(reshard):
        reshard()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be split. Every process must call it."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def split_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, split as another one is; as it is where that one is not, or has another shape."""
    if not hasattr(other, "placements") or tensor.shape != other.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)


def gathered(decoder: Decoder, precision: torch.dtype, together: Processes) -> Decoder:
    """The decoder with all its weights in every process. Every process must call it."""
    if not together.split:
        return decoder
    let_go(decoder)
    weights = {name: whole(weight.detach()).to(precision) for name, weight in decoder.named_parameters()}
    with torch.device("meta"):
        made = Decoder(decoder.config)
    if decoder.config.tied_head:
        weights["head.weight"] = weights["embed.weight"]
    made.load_state_dict(weights, assign=True)
    if decoder.config.tied_head and isinstance(made.head, nn.Linear):
        made.head.weight = made.embed.weight
    return made.eval()


def _device() -> str:
    return "cpu" if dist.get_backend() == "gloo" else "cuda"
