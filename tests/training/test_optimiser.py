"""Learning rates against the schedules' definitions, and a step in bfloat16."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairground.models.packed import Packed
from fairground.training.objective import LanguageModelling
from fairground.training.optimiser import Masters, Method, Optimiser
from fairground.training.sizes import new_config
from fairground.training.start import new_decoder
from fairground.training.tokens import Batch


def test_cosine_is_torchs() -> None:
    ours = Optimiser(learning_rate=1.0, schedule="cosine", warmup=0.0, final=0.1)
    weight = torch.nn.Parameter(torch.zeros(1))
    adamw = torch.optim.AdamW([weight], lr=1.0)
    theirs = CosineAnnealingLR(adamw, T_max=50, eta_min=0.1)
    for step in range(50):
        assert ours.rate(step, 50) == pytest.approx(adamw.param_groups[0]["lr"], abs=1e-9)
        adamw.step()
        theirs.step()


def test_warm_up_stable_decay() -> None:
    rates = [Optimiser(learning_rate=2.0, warmup=0.1, decay=0.2, final=0.0).rate(step, 100) for step in range(100)]
    assert rates[0] > 0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:81] == [2.0] * 71
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[99] == pytest.approx(2.0 / 20)
    assert math.isclose(rates[90], 1.0)


def test_small_updates_are_not_lost_in_bfloat16() -> None:
    """A bfloat16 weight near 1 cannot move by a thousandth; its float32 master can, again and again."""
    decoder = new_decoder(new_config("llama:60k", vocab_size=320, context_length=64), 0).to(torch.bfloat16)
    masters = Masters(decoder, Optimiser(weight_decay=0.0, clip=0.0))
    before = decoder.norm.weight.detach().clone()
    for _ in range(20):
        for weight in decoder.parameters():
            weight.grad = torch.ones_like(weight)
        masters.gather()
        masters.step(1e-3, masters.norm())
    assert torch.allclose(before.float() - decoder.norm.weight.detach().float(), torch.tensor(0.02), atol=0.005)


@pytest.mark.parametrize("method", ["adamw", "muon"])
def test_a_family_that_does_not_scale_its_scores_learns_as_if_it_did(method: Method) -> None:
    """The scale in its queries' start and steps is the scale in its scores: the same function after every step."""
    gpt2 = new_config("gpt2:60k", vocab_size=320, context_length=64)
    ids = torch.randint(0, 320, (96,), generator=torch.Generator().manual_seed(1))
    batch = Batch(ids, ids.roll(-1), torch.ones(96, dtype=torch.bool), Packed.of([64, 32]), (0, 1))
    losses = []
    for config in (gpt2, replace(gpt2, attention_scale=1.0)):
        decoder = new_decoder(config, 0)
        masters = Masters(decoder, Optimiser(3e-3, clip=0.0, method=method))
        losses.append([])
        for _ in range(10):
            loss, _ = LanguageModelling()(decoder, batch)
            (loss / 96).backward()
            masters.gather()
            masters.step(3e-3, masters.norm())
            losses[-1].append(float(loss.detach()) / 96)
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    assert losses[0][-1] < losses[0][0] - 0.5
