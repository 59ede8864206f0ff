"""Direct preference optimisation against TRL's DPOTrainer: tokens, reference, loss, gradients, rewards."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from configurations import CONFIGURATIONS
from peft import LoraConfig as PeftConfig
from test_gradients import published_gradients
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from fairground.errors import ConfigError
from fairground.models.load import load_folder
from fairground.models.lora import adapters_of, attach
from fairground.models.peft_files import read_adapter, read_adapter_config
from fairground.models.tokenizer import Tokenizer
from fairground.training.cross_entropy import token_cross_entropy
from fairground.training.pairs import Pairs, read_pairs, tokenize_pairs
from fairground.training.preference import DirectPreference, answer_log_probabilities, with_references
from fairground.training.tokens import Batch

FAMILIES = ("gpt2", "gpt-neo-local", "gpt-j", "llama", "mistral-window")
PLAIN = [
    {"prompt": "The man was", "chosen": " here, and all that time he had", "rejected": " not there."},
    {"prompt": "", "chosen": "We must go now.", "rejected": "We must"},
    {"prompt": "What has she made? " * 5, "chosen": "A way down.", "rejected": "A way out, only for us two."},
]


def said(*turns: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in (turn.split(": ", 1) for turn in turns)]


CHATS = [
    {
        "prompt": said("user: What is here?"),
        "chosen": said("assistant: A man and his dog."),
        "rejected": said("assistant: Who would"),
    },
    {
        "prompt": said("user: Well?", "assistant: First.", "user: And then?"),
        "chosen": said("assistant: Then time went on and on."),
        "rejected": said("assistant: Then"),
    },
]


def their_model(name: str, vocabulary: int, seed: int) -> PreTrainedModel:
    kind, fields = CONFIGURATIONS[name]
    torch.manual_seed(seed)
    off = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0) if "n_embd" in fields else {}
    config = AutoConfig.for_model(kind, **{**fields, **off, "vocab_size": vocabulary})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    with torch.no_grad():
        for parameter in model.parameters():  # fresh norms and biases are ones and zeros, which would hide a mistake
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def their_trainer(
    model: PreTrainedModel,
    reference: PreTrainedModel | None,
    words: Path,
    rows: Sequence[dict[str, Any]],
    out: Path,
    **settings: Any,
) -> Any:
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    how = DPOConfig(
        output_dir=str(out), beta=0.3, per_device_train_batch_size=len(rows), use_cpu=True, bf16=False, report_to=[],
        gradient_checkpointing=False, max_length=None, train_sampling_strategy="sequential",
    )  # fmt: skip
    return DPOTrainer(
        model, ref_model=reference, args=how, train_dataset=Dataset.from_list(list(rows)),
        processing_class=AutoTokenizer.from_pretrained(words), **settings,
    )  # fmt: skip


def pairs_of(rows: Sequence[dict[str, Any]], words: Path, folder: Path, context: int = 200) -> Pairs:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tokenize_pairs(read_pairs(path), Tokenizer.from_folder(words), "pairs", context=context)


def whole(pairs: Pairs) -> Batch:
    """All pairs, in the data's order."""
    (batch,) = pairs.batches(10**6, 0, 0).whole()
    return batch


@pytest.mark.parametrize("rows", [PLAIN, CHATS], ids=["text", "messages"])
def test_tokens_are_those_of_trl(rows: list[dict[str, Any]], words: Path, tmp_path: Path) -> None:
    vocabulary = Tokenizer.from_folder(words).vocab_size
    models = [their_model("llama", vocabulary, seed) for seed in (0, 1)]
    theirs = their_trainer(*models, words, rows, tmp_path).train_dataset
    pairs = pairs_of(rows, words, tmp_path)
    for number, row in enumerate(theirs):
        for document, answer in ((2 * number, "chosen_ids"), (2 * number + 1, "rejected_ids")):
            span = slice(pairs.starts[document], pairs.starts[document + 1])
            assert pairs.ids[span].tolist() == row["prompt_ids"] + row[answer]
            assert pairs.learned[span].tolist() == [False] * len(row["prompt_ids"]) + [True] * len(row[answer])


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_gradients_equal_those_of_trl(name: str, words: Path, tmp_path: Path) -> None:
    vocabulary = Tokenizer.from_folder(words).vocab_size
    model, reference = their_model(name, vocabulary, 0), their_model(name, vocabulary, 1)
    trainer = their_trainer(model, reference, words, [*PLAIN[:1], *PLAIN], tmp_path / "theirs")
    for folder, weights in (("model", model), ("reference", reference)):
        weights.save_pretrained(tmp_path / folder)
    (batch,) = trainer.get_train_dataloader()
    expected = trainer.compute_loss(trainer.model.train(), batch)
    expected.backward()
    logged = {name: values[-1] for name, values in trainer._metrics["train"].items()}

    pairs, _, kept = with_references(
        load_folder(tmp_path / "reference", "float32").decoder, pairs_of([*PLAIN[:1], *PLAIN], words, tmp_path),
        None, {}, 30,
    )  # fmt: skip
    theirs = trainer.compute_ref_log_probs(trainer.ref_model, batch)
    torch.testing.assert_close(kept["reference"].view(-1, 2), torch.stack(theirs, 1), atol=1e-4, rtol=1e-5)
    ours = load_folder(tmp_path / "model", "float32").decoder.train()
    objective = DirectPreference(beta=0.3)
    total, _ = objective(ours, whole(pairs))
    (total / whole(pairs).count).backward()  # type: ignore[no-untyped-call]
    assert float(total.detach()) / 4 == pytest.approx(float(expected.detach()), abs=1e-4)
    gradients = published_gradients(ours)
    compared = 0
    for weight_name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(gradients[weight_name], weight.grad, atol=1e-4, rtol=0)
        compared += 1
    assert compared == len(gradients)
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 1e-2, "there was something to compare"
    measures = objective.measures()
    assert measures["reward_margin"] == pytest.approx(logged["rewards/margins"], abs=1e-4)
    assert measures["reward_accuracy"] == pytest.approx(logged["rewards/accuracies"])
    assert objective.measures() == {}


@pytest.mark.parametrize("name", FAMILIES)
def test_with_lora_the_reference_is_the_model_without_it(name: str, words: Path, tmp_path: Path) -> None:
    """Loss and gradients of adapters that have learned something, against TRL's trainer of peft's."""
    their_model(name, Tokenizer.from_folder(words).vocab_size, 0).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="eager")
    lora = PeftConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, lora_alpha=6)
    trainer = their_trainer(base, None, words, PLAIN, tmp_path / "theirs", peft_config=lora)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    trainer.model.save_pretrained(tmp_path / "adapter")
    (batch,) = trainer.get_train_dataloader()
    expected = trainer.compute_loss(trainer.model.train(), batch)
    expected.backward()

    ours = load_folder(tmp_path / "base", "float32").decoder
    pairs, _, _ = with_references(ours, pairs_of(PLAIN, words, tmp_path), None, {}, 1000)
    attach(ours.train(), read_adapter(read_adapter_config(tmp_path / "adapter")))
    total, _ = DirectPreference(beta=0.3)(ours, whole(pairs))
    (total / 3).backward()  # type: ignore[no-untyped-call]
    assert float(total.detach()) / 3 == pytest.approx(float(expected.detach()), abs=1e-4)
    assert abs(float(expected.detach()) - 0.693) > 0.01, "the reference is another model"
    own, compared = adapters_of(ours), 0
    for key, weight in trainer.model.named_parameters():
        if weight.requires_grad:
            layer, _, side = key.removeprefix("base_model.model.").removesuffix(".default.weight").rpartition(".lora_")
            gradient = (own[layer].a if side == "A" else own[layer].b).grad
            torch.testing.assert_close(gradient, weight.grad, atol=1e-4, rtol=0)
            compared += 1
    assert compared == 2 * len(own) > 0


def test_parts_of_a_step_add_up_to_it(words: Path, tmp_path: Path) -> None:
    their_model("llama", Tokenizer.from_folder(words).vocab_size, 0).save_pretrained(tmp_path / "model")
    ours = load_folder(tmp_path / "model", "float32").decoder.train()
    pairs, _, _ = with_references(ours, pairs_of([*PLAIN, *CHATS], words, tmp_path), None, {}, 1000)
    batch = whole(pairs)
    gradients = []
    for size, least in ((0, 1), (40, 3)):
        ours.zero_grad()
        pieces = list(batch.parts(size))
        assert len(pieces) >= least
        assert sum(piece.count for piece in pieces) == batch.count
        for part in pieces:
            DirectPreference()(ours, part)[0].backward()  # type: ignore[no-untyped-call]
        gradients.append([weight.grad.clone() for weight in ours.parameters() if weight.grad is not None])
    for at_once, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(at_once, summed, atol=1e-4, rtol=1e-4)


def test_smoothed_labels_are_what_their_formula_says(words: Path, tmp_path: Path) -> None:
    """Mitchell (2023), equation 3, from the answers' log-probabilities."""
    their_model("llama", Tokenizer.from_folder(words).vocab_size, 0).save_pretrained(tmp_path / "model")
    ours = load_folder(tmp_path / "model", "float32").decoder
    batch = whole(pairs_of(PLAIN, words, tmp_path))
    answers, _ = answer_log_probabilities(ours, batch)
    reference = answers.detach() + torch.tensor([[3.0, -2.0], [0.5, 0.0], [-1.0, 4.0]])
    z = 0.1 * torch.tensor([-5.0, -0.5, 5.0])
    expected = -0.8 * z.sigmoid().log() - 0.2 * (-z).sigmoid().log()
    pairs = Pairs(*(getattr(pairs_of(PLAIN, words, tmp_path), name) for name in
                    ("ids", "learned", "starts", "sources", "bytes_of")), reference.flatten().numpy())  # fmt: skip
    total, _ = DirectPreference(label_smoothing=0.2)(ours, whole(pairs))
    assert float(total.detach()) == pytest.approx(float(expected.sum()), rel=1e-4)


def test_a_reference_must_be_known(words: Path, tmp_path: Path) -> None:
    their_model("llama", Tokenizer.from_folder(words).vocab_size, 0).save_pretrained(tmp_path / "model")
    ours = load_folder(tmp_path / "model", "float32").decoder
    with pytest.raises(ConfigError, match="reference"):
        DirectPreference()(ours, whole(pairs_of(PLAIN, words, tmp_path)))


def test_the_margin_begins_at_nothing_in_bfloat16(words: Path, tmp_path: Path) -> None:
    """The reference is rounded as training rounds."""
    their_model("llama", Tokenizer.from_folder(words).vocab_size, 0).save_pretrained(tmp_path / "model")
    ours = load_folder(tmp_path / "model", "bfloat16").decoder
    pairs, _, _ = with_references(ours, pairs_of(PLAIN, words, tmp_path), None, {}, 1000)
    objective = DirectPreference()
    objective(ours.train(), whole(pairs))
    assert objective.measures()["reward_margin"] == 0


@pytest.mark.parametrize("bias", [True, False])
def test_token_cross_entropy_is_torchs(bias: bool) -> None:
    random = torch.Generator().manual_seed(0)
    shapes = ((700, 16), (50, 16), (50,))
    tensors = [torch.randn(shape, generator=random, requires_grad=True) for shape in shapes]
    h, weight, b = tensors
    targets = torch.randint(0, 50, (700,), generator=random)
    weights = torch.randn(700, generator=random)
    results = []
    for compute in (
        lambda: token_cross_entropy(h, weight, b if bias else None, targets),
        lambda: torch.nn.functional.cross_entropy(
            torch.nn.functional.linear(h, weight, b if bias else None), targets, reduction="none"
        ),
    ):
        loss = compute()
        grads = torch.autograd.grad((loss * weights).sum(), tensors if bias else tensors[:2])
        results.append([loss.detach(), *grads])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
