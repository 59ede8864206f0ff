"""One training step against Transformers: loss, every gradient, and AdamW's weights after it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from configurations import CONFIGURATIONS, reference
from transformers import PreTrainedModel

from fairground.models.decoder import Decoder
from fairground.models.families import family_named
from fairground.models.families.family import expand
from fairground.models.load import load_folder
from fairground.models.packed import Packed
from fairground.training.objective import Distillation, LanguageModelling
from fairground.training.optimiser import Masters, Optimiser
from fairground.training.tokens import Batch

ONE_OF_EACH = ("gpt2", "gpt-neo-local", "gpt-j", "llama", "llama-grouped-tied", "mistral-window")
LENGTHS = (40, 7, 33)  # documents of one batch; the window of 24 and the local layers of 9 bite in two of them


def documents() -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return [torch.randint(0, 97, (length + 1,), generator=random) for length in LENGTHS]


def batch() -> Batch:
    texts = documents()
    ids, targets = torch.cat([t[:-1] for t in texts]), torch.cat([t[1:] for t in texts])
    return Batch(ids, targets, torch.ones(len(ids), dtype=torch.bool), Packed.of(LENGTHS), (0, 1, 2))


def both(name: str, folder: Path) -> tuple[PreTrainedModel, Decoder]:
    theirs = reference(name).float()
    theirs.save_pretrained(folder)
    ours = load_folder(folder, "float32").decoder
    return theirs, ours.train()


def their_loss(theirs: PreTrainedModel) -> torch.Tensor:
    """Each document by itself, so that no packing of Transformers' is relied on."""
    total = torch.zeros(())
    for text in documents():
        logits = theirs(text[None, :-1]).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits, text[1:], reduction="sum")
    return total / sum(LENGTHS)


def published_gradients(ours: Decoder) -> dict[str, torch.Tensor]:
    """Our gradients under the family's published names."""
    own = {name: weight.grad for name, weight in ours.named_parameters()}
    found = {}
    for row in expand(family_named(ours.config.family).weights, ours.config.layers):
        parts = [own[name] for name in row.ours if own.get(name) is not None]
        if parts:
            whole = torch.cat(parts)
            found[row.published] = whole.t() if row.transposed else whole
    return found


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_loss_and_gradients_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    theirs, ours = both(name, tmp_path)
    expected = their_loss(theirs)
    expected.backward()
    loss, _ = LanguageModelling()(ours, batch())
    (loss / sum(LENGTHS)).backward()
    assert float(loss.detach()) / sum(LENGTHS) == pytest.approx(float(expected), abs=1e-5)
    gradients = published_gradients(ours)
    compared = 0
    for weight_name, weight in theirs.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(gradients[weight_name], weight.grad, atol=1e-4, rtol=0)
        compared += 1
    assert compared == len(gradients), f"{CONFIGURATIONS[name][0]} has weights that were not compared"


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_step_moves_weights_as_torch_moves_transformers(name: str, tmp_path: Path) -> None:
    theirs, ours = both(name, tmp_path)
    settings = Optimiser(learning_rate=1e-2, weight_decay=0.1, clip=0.5)
    matrices = [p for p in theirs.parameters() if p.dim() > 1]
    vectors = [p for p in theirs.parameters() if p.dim() <= 1]
    adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                              lr=1e-2, betas=(0.9, 0.95))  # fmt: skip
    their_loss(theirs).backward()
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    adamw.step()
    masters = Masters(ours, settings)
    loss, _ = LanguageModelling()(ours, batch())
    (loss / sum(LENGTHS)).backward()
    masters.gather()
    masters.step(1e-2, masters.norm())
    after, _ = LanguageModelling()(ours, batch())
    assert float(after.detach()) / sum(LENGTHS) == pytest.approx(float(their_loss(theirs)), abs=1e-4)


def test_muon_moves_the_matrices_of_blocks_as_torch_moves_transformers(tmp_path: Path) -> None:
    theirs, ours = both("llama", tmp_path)
    inside = [p for name, p in theirs.named_parameters() if ".layers." in name and p.dim() == 2]
    outside = [p for name, p in theirs.named_parameters() if ".layers." not in name and p.dim() == 2]
    muon = torch.optim.Muon(inside, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    vectors = [p for p in theirs.parameters() if p.dim() == 1]
    adamw = torch.optim.AdamW([{"params": outside, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                              lr=1e-2, betas=(0.9, 0.95))  # fmt: skip
    before = float(their_loss(theirs))
    masters = Masters(ours, Optimiser(1e-2, weight_decay=0.1, clip=0.0, method="muon"))
    for _ in range(3):
        theirs.zero_grad()
        their_loss(theirs).backward()
        muon.step()
        adamw.step()
        (LanguageModelling()(ours, batch())[0] / sum(LENGTHS)).backward()
        masters.gather()
        masters.step(1e-2, masters.norm())
    after, _ = LanguageModelling()(ours, batch())
    assert float(after.detach()) / sum(LENGTHS) == pytest.approx(float(their_loss(theirs)), abs=1e-3)
    assert float(their_loss(theirs)) < before - 0.1


def test_distillation_is_what_its_formula_says(tmp_path: Path) -> None:
    """Hinton et al., section 2, from logits that Transformers gave."""
    theirs, student = both("llama", tmp_path / "student")
    teachers, teacher = both("llama-biases", tmp_path / "teacher")
    temperature, alpha = 2.0, 0.7
    expected = torch.zeros(())
    for text in documents():
        given = theirs(text[None, :-1]).logits[0]
        wanted = teachers(text[None, :-1]).logits[0].detach()
        soft = torch.softmax(wanted / temperature, -1)
        kl = (soft * (soft.log() - torch.log_softmax(given / temperature, -1))).sum()
        hard = torch.nn.functional.cross_entropy(given, text[1:], reduction="sum")
        expected = expected + alpha * temperature**2 * kl + (1 - alpha) * hard
    loss, _ = Distillation(teacher.eval(), temperature, alpha)(student, batch())
    loss.backward()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    gradients = published_gradients(student)
    for weight_name, weight in theirs.named_parameters():
        torch.testing.assert_close(gradients[weight_name], weight.grad, atol=1e-3, rtol=1e-4)


def test_what_is_not_learned_gives_no_loss(tmp_path: Path) -> None:
    _, ours = both("gpt2", tmp_path)
    whole = batch()
    learned = torch.arange(len(whole.ids)) % 3 == 0
    some = Batch(whole.ids, whole.targets, learned, whole.packed, whole.documents)
    logits = ours.logits(ours(whole.ids, whole.packed))
    expected = torch.nn.functional.cross_entropy(logits[learned], whole.targets[learned], reduction="sum")
    loss, _ = LanguageModelling()(ours, some)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)


def test_parts_of_a_step_add_up_to_it(tmp_path: Path) -> None:
    _, ours = both("llama", tmp_path)
    gradients = []
    for size in (0, 20):
        ours.zero_grad()
        for part in batch().parts(size):
            LanguageModelling()(ours, part)[0].backward()
        gradients.append([weight.grad.clone() for weight in ours.parameters()])
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, summed, atol=1e-4, rtol=1e-4)
