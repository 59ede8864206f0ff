"""One step with LoRA against peft: loss, and the gradient of every A and B."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapters import FAMILIES, base_folder, with_peft
from peft import PeftModel
from test_gradients import LENGTHS, batch, their_loss

from fairground.models.decoder import Decoder
from fairground.models.load import load_folder
from fairground.models.lora import adapters_of, attach
from fairground.models.peft_files import read_adapter, read_adapter_config
from fairground.training.objective import LanguageModelling


def both(name: str, folder: Path, **settings: object) -> tuple[PeftModel, Decoder]:
    """peft's model and ours, with the same adapters."""
    theirs = with_peft(name, **settings)
    theirs.save_pretrained(str(folder / "adapter"))
    ours = load_folder(base_folder(name, folder / "base"), "float32").decoder.train()
    attach(ours, read_adapter(read_adapter_config(folder / "adapter")))
    return theirs, ours


def compare(theirs: PeftModel, ours: Decoder) -> None:
    expected = their_loss(theirs)
    expected.backward()
    loss, _ = LanguageModelling()(ours, batch())
    (loss / sum(LENGTHS)).backward()
    assert float(loss.detach()) / sum(LENGTHS) == pytest.approx(float(expected.detach()), abs=1e-5)
    own = adapters_of(ours)
    compared = 0
    for key, weight in theirs.named_parameters():
        if not weight.requires_grad:
            continue
        name, _, side = key.removeprefix("base_model.model.").removesuffix(".default.weight").rpartition(".lora_")
        adapter = own[name].a if side == "A" else own[name].b
        assert weight.grad is not None
        assert adapter.grad is not None
        assert float(weight.grad.abs().max()) > 0, key
        torch.testing.assert_close(adapter.grad, weight.grad, atol=1e-4, rtol=0)
        compared += 1
    assert compared == 2 * len(own)
    assert [n for n, w in ours.named_parameters() if w.grad is not None and not (".a." in n or ".b." in n)] == []


@pytest.mark.parametrize("name", list(FAMILIES))
def test_loss_and_gradients_equal_those_of_peft(name: str, tmp_path: Path) -> None:
    compare(*both(name, tmp_path))


@pytest.mark.parametrize("name", list(FAMILIES))
def test_of_some_layers(name: str, tmp_path: Path) -> None:
    compare(*both(name, tmp_path, target_modules=FAMILIES[name], use_rslora=True))
