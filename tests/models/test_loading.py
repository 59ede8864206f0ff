"""Loading keeps to its memory and says beforehand what does not fit; saving leaves whole folders or none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import torch
from command import Command, in_this_process
from configurations import reference
from transformers import AutoModelForCausalLM, PreTrainedModel

from fairground.errors import DoesNotFit
from fairground.models import assemble, load
from fairground.models.assemble import Precision, save
from fairground.models.decoder import Decoder
from fairground.models.load import load_folder, memory_needed, open_source
from fairground.models.packed import Packed

pytestmark = pytest.mark.usefixtures("one_thread")
BIG = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "vocab_size": 4096}  # 60M parameters
PEAK = """
import re, sys, torch
from pathlib import Path
from fairground.models.load import load_folder
torch.set_num_threads(1)
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
load_folder(Path(sys.argv[1]), sys.argv[2])
print(before, peak())
"""


def peaks(path: Path, precision: str) -> tuple[int, int]:
    """The most memory that a process held before and after loading, in bytes."""
    done = subprocess.run([sys.executable, "-c", PEAK, path, precision], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    return before, after


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from Linux's /proc")
def test_peak_memory(tmp_path: Path) -> None:
    """A loader that held a whole second copy would go beyond the tighter bound."""
    row = torch.linspace(-0.1, 0.1, 1024)
    shapes = tiny.shapes(tiny.CONFIG | BIG)
    tensors = {
        name: row.repeat(-(-int(np.prod(shape)) // 1024))[: int(np.prod(shape))] for name, shape in shapes.items()
    }
    tensors = {name: tensors[name].view(shape) for name, shape in shapes.items()}
    assert 55e6 < sum(tensor.numel() for tensor in tensors.values()) < 65e6
    folder = tiny.write_folder(tmp_path / "big", BIG, tensors)
    fields = {"llama.embedding_length": 1024, "llama.feed_forward_length": 2816, "llama.block_count": 4}
    halves = {name: t.astype(np.float16) for name, t in tiny.gguf_tensors(tensors, 2, 2).items()}
    gguf = tiny.write_gguf(tmp_path / "big.gguf", tiny.GGUF_FIELDS | fields, halves)
    config = open_source(folder).config
    largest = 4 * max(tensor.numel() for tensor in tensors.values())
    cases: list[tuple[Path, Precision]] = [(folder, "bfloat16"), (folder, "int4"), (gguf, "bfloat16")]

    def least(case: tuple[Path, Precision]) -> tuple[int, int]:
        """Of three runs the leanest: what the allocator keeps of freed memory varies, and only adds."""
        return min((peaks(*case) for _ in range(3)), key=lambda found: found[1] - found[0])

    with ThreadPoolExecutor(2) as pool:
        for (path, precision), (before, after) in zip(cases, pool.map(least, cases), strict=True):
            weights = memory_needed(config, precision)
            assert after < weights + largest + 500e6, (path.name, precision, before / 1e6, after / 1e6)
            # Fitting int4 takes several float32 copies of one tensor.
            copies = 11 if precision == "int4" else 6
            assert after - before < weights + copies * largest + 30e6, (path.name, precision, before / 1e6, after / 1e6)


# What does not fit.


def with_free(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    monkeypatch.setattr(load.psutil, "virtual_memory", lambda: SimpleNamespace(available=available))


@pytest.fixture
def seven_billion(tmp_path: Path) -> Path:
    """The config of LLaMA 7B beside weights that are never read."""
    fields = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    return tiny.write_folder(tmp_path / "seven", fields | {"num_attention_heads": 32})


@pytest.mark.parametrize(
    ("precision", "free", "needed", "advice"),
    [
        ("float32", 20e9, "27.5", "add #bfloat16 to its name"),
        ("bfloat16", 9e9, "14.0", "add #int8 to its name"),
        ("bfloat16", 6e9, "14.0", "add #int4 to its name"),
        ("int8", 6e9, "7.3", "add #int4 to its name"),
        ("int4", 2e9, "4.8", "free some memory or choose a smaller model"),
    ],
)
def test_what_does_not_fit(
    seven_billion: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, free: float, needed: str, advice: str
) -> None:
    with_free(monkeypatch, int(free))
    with pytest.raises(DoesNotFit) as refused:
        load_folder(seven_billion, precision)
    assert f"needs {needed} GB of memory in {precision}, and {free / 1e9:.1f} GB are free" in str(refused.value)
    assert advice in str(refused.value)


def test_the_command_says_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command: Command = in_this_process(tmp_path, monkeypatch, capfd)
    tiny.write_folder(Path("model"))
    with_free(monkeypatch, 1_000_000)
    command("chat", "./model", "-p", "hi").refused("needs 0.5 GB", "0.0 GB are free")


def test_what_fits_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(tiny.write_folder(tmp_path))
    room = memory_needed(source.config, "bfloat16") + load.ROOM_TO_WORK
    with_free(monkeypatch, room)
    source.load("bfloat16")
    with_free(monkeypatch, room - 1)
    with pytest.raises(DoesNotFit):
        source.load("bfloat16")


# Saving.


@pytest.fixture(scope="module")
def theirs() -> PreTrainedModel:
    return reference("llama-grouped-tied")


@pytest.fixture(scope="module")
def folder(theirs: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published")
    theirs.save_pretrained(path)
    return path


@torch.inference_mode()
def logits(decoder: Decoder) -> torch.Tensor:
    return decoder.logits(decoder(torch.arange(40), Packed.of([40]), exact=True), exact=True)


@pytest.mark.parametrize(("precision", "said"), [("float32", "f32"), ("bfloat16", "bf16")])
def test_a_saved_folder_carries_its_precision(folder: Path, tmp_path: Path, precision: Precision, said: str) -> None:
    decoder = load_folder(folder, precision).decoder
    save(decoder, tmp_path, tokens={"bos_token_id": 3, "eos_token_id": [4, 5]})
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["torch_dtype"], config["bos_token_id"], config["eos_token_id"]) == (precision, 3, [4, 5])
    again = load_folder(tmp_path, precision)
    assert again.precision == said
    assert torch.equal(logits(again.decoder), logits(decoder))
    assert AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").dtype == decoder.dtype


def test_a_sharded_folder(
    theirs: PreTrainedModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = load_folder(folder, "float32").decoder
    monkeypatch.setattr(assemble, "SHARD_BYTES", 60_000)
    save(decoder, tmp_path)
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(shards) > 3
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    assert all((tmp_path / shard).stat().st_size < 70_000 for shard in shards)
    assert torch.equal(logits(load_folder(tmp_path, "float32").decoder), logits(decoder))
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").float().eval()
    tokens = torch.arange(40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(again(tokens).logits, theirs(tokens).logits, atol=1e-6, rtol=0)


def test_saving_over_a_folder_leaves_nothing_of_the_old_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (load_folder(folder, "float32").decoder for _ in range(2))
    with torch.no_grad():
        new.norm.weight.mul_(2)
    monkeypatch.setattr(assemble, "SHARD_BYTES", 60_000)
    save(old, tmp_path)
    monkeypatch.setattr(assemble, "SHARD_BYTES", 10**9)
    save(new, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    monkeypatch.setattr(assemble, "SHARD_BYTES", 60_000)
    save(old, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert torch.equal(logits(load_folder(tmp_path, "float32").decoder), logits(old))


class KilledError(BaseException):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize("owner", ["save_file", "replace", "unlink"])
@pytest.mark.parametrize("before", [False, True], ids=["new folder", "over another model"])
def test_an_interrupted_save_is_never_taken_for_a_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, before: bool
) -> None:
    """Killed before each writing, renaming and removing: the old model or none, and never one of two halves."""
    old, new = (load_folder(folder, "float32").decoder for _ in range(2))
    with torch.no_grad():
        new.norm.weight.mul_(2)
    monkeypatch.setattr(assemble, "SHARD_BYTES", 100_000)
    where: Any = assemble if owner == "save_file" else Path
    deed, ended = getattr(where, owner), 0
    for step in range(20):
        place, done = tmp_path / str(step), iter(range(20))
        if before:
            save(old, place)

        def dies(*arguments: Any, done: Iterator[int] = done, step: int = step, **more: Any) -> Any:
            if next(done) == step:
                raise KilledError
            return deed(*arguments, **more)

        monkeypatch.setattr(where, owner, dies)
        try:
            save(new, place)
        except KilledError:
            ended += 1
        else:
            break
        finally:
            monkeypatch.setattr(where, owner, deed)
        if (place / "config.json").exists():
            assert before
            assert torch.equal(logits(load_folder(place, "float32").decoder), logits(old))
        save(new, place)
        assert torch.equal(logits(load_folder(place, "float32").decoder), logits(new))
    assert ended > 2 or (owner, before) == ("unlink", False)


def test_a_killed_process_leaves_no_config(tmp_path: Path) -> None:
    folder = tiny.write_folder(tmp_path / "model")
    script = """
import os, signal, sys
from pathlib import Path
from fairground.models import assemble, load
assemble.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
assemble.save(load.load_folder(Path(sys.argv[1])).decoder, Path(sys.argv[2]))
"""
    done = subprocess.run([sys.executable, "-c", script, folder, tmp_path / "saved"], check=False)
    assert done.returncode == -9
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["model.safetensors"]
