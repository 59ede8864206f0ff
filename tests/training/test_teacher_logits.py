"""Distillation from stored logits: its formula, what it has in common with the full one, and the store on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fairground.errors import TrainingError
from fairground.models.decoder import Decoder
from fairground.models.packed import Packed
from fairground.training import teacher_logits as stored
from fairground.training.objective import Distillation, StoredDistillation
from fairground.training.sizes import config
from fairground.training.start import new_decoder
from fairground.training.teacher_logits import TeacherLogits, teacher_logits, weights_digest
from fairground.training.tokens import Batches, Place, Tokens
from fairground.training.top_k_loss import TopK, top_k_loss

VOCABULARY, WIDTH, COUNT = 50, 16, 23


def written_out(logits: Tensor, teacher: TopK, temperature: float) -> Tensor:
    """D of every row, from probabilities as the formula has them, in float64."""
    q = (logits[:, : teacher.vocabulary].double() / temperature).softmax(-1)
    p, r = teacher.log_p.double().exp(), teacher.log_rest.double().exp()
    chosen = q.gather(-1, teacher.ids)
    found = (p * (p / chosen).log()).sum(-1)
    if not bool(r.any()):
        return found
    return found + r * (r / (1 - chosen.sum(-1))).log()


def likeliest(logits: Tensor, k: int, temperature: float, vocabulary: int) -> TopK:
    log_p = (logits[:, :vocabulary] / temperature).log_softmax(-1)
    best = log_p.topk(k)
    rest = torch.full((len(log_p),), -torch.inf)
    if k < vocabulary:
        rest = torch.log1p(-best.values.exp().sum(-1))
    return TopK(best.indices, best.values, rest, vocabulary)


def problem(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    h = torch.randn(COUNT, WIDTH, generator=random).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=random).mul(0.5).to(dtype).requires_grad_()
    bias = torch.randn(VOCABULARY, generator=random).to(dtype).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (COUNT,), generator=random)
    counts = (torch.arange(COUNT) % 4 != 0).float()
    return h, weight, bias, targets, counts, torch.randn(COUNT, VOCABULARY, generator=random) * 2


@pytest.mark.parametrize("chunk", [7 * VOCABULARY, 1 << 20])
@pytest.mark.parametrize(("temperature", "alpha", "k", "known"), [
    (1.0, 0.5, 5, VOCABULARY), (1.0, 1.0, 5, VOCABULARY), (2.0, 0.7, 5, VOCABULARY), (1.0, 0.5, 5, VOCABULARY - 4),
    (3.0, 0.9, VOCABULARY, VOCABULARY), (1.0, 0.0, 1, VOCABULARY),
])  # fmt: skip
def test_the_loss_and_its_gradients_are_what_the_formula_says(
    temperature: float, alpha: float, k: int, known: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairground.training.top_k_loss.CHUNK", chunk)
    h, weight, bias, targets, counts, wanted = problem()
    teacher = likeliest(wanted, k, temperature, known)
    loss, own = top_k_loss(h, weight, bias, targets, counts, teacher, temperature, alpha)
    (2 * loss).backward()
    found = [x.grad for x in (h, weight, bias)]
    for x in (h, weight, bias):
        x.grad = None
    logits = torch.nn.functional.linear(h, weight, bias)
    ce = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    expected = (counts * (alpha * temperature**2 * written_out(logits, teacher, temperature) + (1 - alpha) * ce)).sum()
    (2 * expected).backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(own) == pytest.approx(float((counts * ce).sum().detach()), rel=1e-5)
    for gradient, x in zip(found, (h, weight, bias), strict=True):
        assert gradient is not None
        torch.testing.assert_close(gradient, x.grad, atol=2e-5, rtol=1e-4)


def test_a_certain_student_has_a_finite_loss() -> None:
    """Where nothing is left for the others, their sum is no logarithm of nothing."""
    h, weight, bias, targets, counts, wanted = problem()
    sure = torch.zeros(VOCABULARY)
    sure[0] = 1000.0
    loss, _ = top_k_loss(h, weight, bias + sure, targets, counts, likeliest(wanted, 3, 1.0, VOCABULARY), 1.0, 0.5)
    loss.backward()
    assert torch.isfinite(loss)
    assert h.grad is not None
    assert torch.isfinite(h.grad).all()


def decoders() -> tuple[Decoder, Decoder]:
    student = new_decoder(config("llama", 32, 1, VOCABULARY, 16), 0)
    teacher = new_decoder(config("gpt2", 64, 2, VOCABULARY, 16), 1).eval()
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.mul_(4)  # a teacher that is not sure of nothing
    return teacher, student


def text(lengths: tuple[int, ...] = (9, 40, 3, 17)) -> Tokens:
    ids = np.random.default_rng(0).integers(0, VOCABULARY, sum(lengths)).astype(np.int32)
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    learned = np.arange(len(ids)) % 5 != 0
    return Tokens(ids, learned, starts, [str(n) for n in range(len(lengths))], np.ones(VOCABULARY, np.int32))


def opened(folder: Path, k: int = 4, tokens: Tokens | None = None, **changed: object) -> TeacherLogits:
    given = {"k": k, "temperature": 2.0, "context": 16, "vocabulary": VOCABULARY, **changed}
    return teacher_logits(decoders()[0], tokens or text(), folder, **given)  # type: ignore[arg-type]


def test_with_the_whole_vocabulary_it_is_the_full_distillation(tmp_path: Path) -> None:
    """Loss and gradients of a batch, up to the half precision of what is stored."""
    teacher, student = decoders()
    kept = opened(tmp_path / "kept", VOCABULARY)
    batch = next(iter(Batches(text(), 100, 16, 0).whole()))
    found = []
    for objective in (Distillation(teacher, 2.0, 0.7), StoredDistillation(kept, 2.0, 0.7)):
        student.zero_grad()
        loss, ce = objective(student, batch)
        loss.backward()
        found.append(
            (float(loss.detach()), float(ce), [p.grad.clone() for p in student.parameters() if p.grad is not None])
        )
    (full, full_ce, theirs), (ours, our_ce, own) = found
    assert ours == pytest.approx(full, rel=1e-4)
    assert our_ce == pytest.approx(full_ce, rel=1e-5)
    assert len(own) == len(theirs) > 5
    for a, b in zip(own, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3 * float(b.abs().max()), rtol=0)


def test_every_prediction_has_what_the_teacher_says_after_its_stretch(tmp_path: Path) -> None:
    """Documents longer than the context are cut, and batches come in any order and in parts of stretches."""
    teacher, _ = decoders()
    tokens, kept = text(), opened(tmp_path / "kept")
    batch, _ = Batches(tokens, 30, 16, 7).at(Place(0, 1, 2))
    said = kept.at(batch.index)  # type: ignore[arg-type]
    for row, index in enumerate(batch.index.tolist()):  # type: ignore[union-attr]
        document = int(np.searchsorted(tokens.starts, index, "right")) - 1
        first = index - (index - int(tokens.starts[document])) % 16
        ids = torch.from_numpy(tokens.ids[first : index + 1].astype(np.int64))
        with torch.no_grad():
            log_p = (teacher.logits(teacher(ids, Packed.of([len(ids)])))[-1] / 2.0).log_softmax(-1)
        best = log_p.topk(4)
        assert said.ids[row].tolist() == best.indices.tolist()
        torch.testing.assert_close(said.log_p[row], best.values, atol=5e-3, rtol=0)
        assert float(said.log_rest[row]) == pytest.approx(float((1 - best.values.exp().sum()).log()), abs=5e-3)
    total = said.log_p.exp().sum(-1) + said.log_rest.exp()
    torch.testing.assert_close(total, torch.ones_like(total))


def test_a_store_that_was_cut_short_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "BATCH", 20)
    monkeypatch.setattr(stored, "KEPT_EVERY", 0.0)
    opened(tmp_path / "whole")
    rows, seen = stored._rows, []

    def breaking(*given: object) -> object:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return rows(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(stored, "_rows", breaking)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path / "cut")
    assert not (tmp_path / "cut" / stored.ROWS).exists()
    opened(tmp_path / "cut")
    batches = len(list(Batches(text(), 20, 16, 0).whole()))
    assert len(seen) == 3 + batches - 2, "two batches were not read again"
    assert (tmp_path / "cut" / stored.ROWS).read_bytes() == (tmp_path / "whole" / stored.ROWS).read_bytes()
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {stored.ROWS, stored.ABOUT}
    opened(tmp_path / "cut")
    assert len(seen) == 1 + batches, "a whole store needs no teacher"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"k": 5}, "k 4 instead of 5"),
        ({"temperature": 1.0}, "temperature"),
        ({"tokens": text((9, 40))}, "another text"),
    ],
)
def test_the_logits_of_another_run_are_refused(tmp_path: Path, changed: dict[str, object], named: str) -> None:
    opened(tmp_path)
    with pytest.raises(TrainingError, match=named):
        opened(tmp_path, **changed)  # type: ignore[arg-type]


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    whole = (tmp_path / stored.ROWS).read_bytes()
    (tmp_path / stored.ROWS).write_bytes(whole[:-1])
    with pytest.raises(TrainingError, match="damaged"):
        opened(tmp_path)
    (tmp_path / stored.ABOUT).write_text("{")
    with pytest.raises(TrainingError, match="damaged"):
        opened(tmp_path)


def test_a_disk_without_room_is_refused_before_the_teacher_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored.shutil, "disk_usage", lambda _: stored.shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(TrainingError, match="--top-k"):
        opened(tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_teacher_has_another_digest() -> None:
    teacher, student = decoders()
    assert weights_digest(teacher) == weights_digest(decoders()[0])
    before = weights_digest(student)
    with torch.no_grad():
        student.norm.weight[0] += 1e-3  # type: ignore[index, operator]
    assert weights_digest(student) != before
