"""Learning from pairs of answers: direct preference optimisation, whose reference is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fairground.errors import ConfigError
from fairground.models.decoder import Decoder
from fairground.training.cross_entropy import token_cross_entropy
from fairground.training.objective import head
from fairground.training.pairs import Pairs
from fairground.training.tokens import Batch, Tokens


@dataclass(frozen=True, slots=True)
class Compared:
    """What a model makes of some pairs, float32 [pairs] each.

    `loss` in nats; `margin`: the chosen answer's implicit reward minus the rejected one's, β log(π / π_ref) each.
    """

    loss: Tensor
    margin: Tensor


@dataclass
class DirectPreference:
    """−log σ(β (log π(y_w)/π_ref(y_w) − log π(y_l)/π_ref(y_l))) of every pair (Rafailov et al., 2023, equation 7).

    With `label_smoothing` ε, labels are taken to be wrong in that share of pairs: (1 − ε) times that, plus ε times the
    loss of the pair turned around (Mitchell, 2023, "A note on DPO with noisy preferences", equation 3).
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    name: str = "direct preference optimisation"

    def __post_init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._pairs = 0

    def __call__(self, decoder: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """The pairs' summed loss, and the answers' cross-entropy; the batch's reference must be known."""
        answers, ce = answer_log_probabilities(decoder, batch)
        compared = self.compare(answers, batch)
        margin = compared.margin.detach()
        self._pairs += len(margin)
        for name, values in (("reward_margin", margin), ("reward_accuracy", (margin > 0).float())):
            self._sums[name] = self._sums.get(name, 0.0) + float(values.sum())
        return compared.loss.sum(), ce

    def compare(self, answers: Tensor, batch: Batch) -> Compared:
        """Loss and margin of each pair from its answers' log-probabilities, float32 [pairs, 2]."""
        if batch.reference is None:
            raise ConfigError("Preferences are learned against a reference, and none was computed for these pairs.")
        ratios = answers - batch.reference
        margin = self.beta * (ratios[:, 0] - ratios[:, 1])
        loss = -(1 - self.label_smoothing) * F.logsigmoid(margin)
        if self.label_smoothing:
            loss = loss - self.label_smoothing * F.logsigmoid(-margin)
        return Compared(loss, margin)

    def measures(self) -> Mapping[str, float]:
        """Means over the pairs since the last call: their reward margin, and in which share it is above 0."""
        found = {name: total / self._pairs for name, total in self._sums.items()}
        self._sums, self._pairs = {}, 0
        return found

    def held_out(self, decoder: Decoder, pairs: Pairs, batch_tokens: int) -> dict[str, float]:
        """Loss, reward margin and accuracy of pairs that are not learned, without touching `measures`."""
        found = [self.compare(answers, batch) for batch, answers in _answers(decoder, pairs, batch_tokens)]
        loss, margin = (torch.cat([getattr(one, name) for one in found]) for name in ("loss", "margin"))
        return {
            "preference_loss": float(loss.mean()),
            "reward_margin": float(margin.mean()),
            "reward_accuracy": float((margin > 0).float().mean()),
        }


def answer_log_probabilities(decoder: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
    """log π(answer | prompt) of every pair in the batch, float32 [pairs, 2], and minus their sum without graph."""
    hidden = decoder(batch.ids, batch.packed)
    rows = batch.learned.nonzero()[:, 0]
    ce = token_cross_entropy(hidden.index_select(0, rows), *head(decoder), batch.targets[rows])
    lengths = torch.tensor(batch.packed.lengths, device=rows.device)
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=rows.device), lengths)[rows]
    totals = torch.zeros(len(lengths), dtype=torch.float32, device=rows.device).index_add(0, owner, ce)
    return -totals.view(-1, batch.together)[:, -2:], ce.detach().sum()


def with_references(
    decoder: Decoder, pairs: Pairs, measured: Tokens | None, kept: Mapping[str, Tensor], batch_tokens: int
) -> tuple[Pairs, Tokens | None, dict[str, Tensor]]:
    """Both sets of pairs with their answers' log-probabilities before training, and those as a checkpoint keeps them.

    They are what a checkpoint `kept` of them, else computed from the decoder as it is now, before its first step.
    """
    decoder.eval()  # an adapter leaves nothing out
    found: dict[str, Tensor] = {}
    made: list[Tokens | None] = []
    for name, some in (("reference", pairs), ("reference.measured", measured)):
        if isinstance(some, Pairs):
            known = kept.get(name)
            if known is None:
                known = torch.cat([answers for _, answers in _answers(decoder, some, batch_tokens)]).flatten().cpu()
            found[name] = known
            made.append(replace(some, reference=known.numpy()))
        else:
            made.append(some)
    first, second = made
    assert isinstance(first, Pairs)
    return first, second, found


def _answers(decoder: Decoder, pairs: Pairs, batch_tokens: int) -> Iterator[tuple[Batch, Tensor]]:
    """Every batch in the data's order, and its answers' log-probabilities.

    With gradients on, though none is wanted: without them a decoder in bfloat16 rounds less than it does in
    training, and every margin would begin with that difference.
    """
    for batch in pairs.batches(batch_tokens, 0, 0).whole():
        moved = batch.to(decoder.device)
        with torch.enable_grad():
            answers = answer_log_probabilities(decoder, moved)[0].detach()
        yield moved, answers
