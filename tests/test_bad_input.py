"""What damaged models get from the command itself: one clear sentence, exit status 2, nothing written, no traceback."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models as tiny
import torch
from command import Command, in_this_process

Damage = Callable[[Path], object]
NORM, UP = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


# Damaging a safetensors file.


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def with_header(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        header, data = header_of(folder / "model.safetensors")
        change(header)
        tiny.write_safetensors(folder / "model.safetensors", header, data)

    return damage


def with_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = tiny.weights()
        change(tensors)
        tiny.save_file(tensors, folder / "model.safetensors")

    return damage


def cut(name: str, keep: int) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def named_twice(folder: Path) -> None:
    header, data = header_of(folder / "model.safetensors")
    text = json.dumps(header)
    entry = json.dumps({NORM: header[NORM]})[1:-1]
    tiny.write_safetensors(folder / "model.safetensors", f"{text[:-1]}, {entry}}}".encode(), data)


def claiming(length: int) -> Damage:
    return lambda folder: tiny.write_safetensors(folder / "model.safetensors", {}, length=length)


def with_config(**fields: Any) -> Damage:
    return lambda folder: tiny.write_json(folder / "config.json", tiny.CONFIG | fields)


FOLDERS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "truncated": (cut("model.safetensors", -100), ("model.safetensors", "outside the file", "truncated")),
    "truncated header": (cut("model.safetensors", 300), ("model.safetensors", "header claims")),
    "empty file": (cut("model.safetensors", 0), ("model.safetensors", "0 bytes")),
    "header claims more": (claiming(5_000), ("header claims 5000 bytes",)),
    "header claims 2**63": (claiming(2**63), (f"header claims {2**63} bytes",)),
    "header not JSON": (lambda f: tiny.write_safetensors(f / "model.safetensors", b"{not JSON"), ("not JSON",)),
    "overlap": (with_header(lambda h: h[NORM].update(data_offsets=[0, 64])), ("overlaps",)),
    "gap": (with_header(lambda h: h.pop(UP)), ("gap",)),
    "bytes left over": (with_header(lambda h: h.pop(NORM)), ("64 bytes after its last tensor",)),
    "out of range": (with_header(lambda h: h[NORM].update(data_offsets=[10**9, 10**9 + 64])), (NORM, "outside")),
    "backwards": (with_header(lambda h: h[NORM].update(data_offsets=[64, 0])), (NORM,)),
    "negative size": (with_header(lambda h: h[NORM].update(shape=[-32])), (NORM,)),
    "shape of text": (with_header(lambda h: h[NORM].update(shape=["x", 10**12])), (NORM,)),
    "unknown dtype": (with_header(lambda h: h[NORM].update(dtype="F13")), (NORM,)),
    "duplicate": (named_twice, (NORM, "twice")),
    "missing": (with_tensors(lambda t: t.pop(NORM)), (NORM, "lacks")),
    "extra": (with_tensors(lambda t: t.update(extra=torch.ones(2))), ("'extra'", "does not have")),
    "misshapen": (with_tensors(lambda t: t.update({UP: t[UP].t().contiguous()})), (UP, "[32, 48]", "[48, 32]")),
    "NaN": (with_tensors(lambda t: t[UP][3].fill_(torch.nan)), (UP, "NaN")),
    "infinity": (with_tensors(lambda t: t[UP][:, 1].fill_(torch.inf)), (UP, "infinity")),
    "not floats": (with_tensors(lambda t: t.update({NORM: torch.ones(32, dtype=torch.int32)})), (NORM, "i32")),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ("no weights",)),
    "no config": (lambda f: (f / "config.json").unlink(), ("config.json",)),
    "broken config": (cut("config.json", 40), ("config.json",)),
    "unknown architecture": (with_config(architectures=["MambaForCausalLM"]), ("MambaForCausalLM",)),
    "an architecture that paints": (with_config(architectures=["a\n\x1b[31mb"]), (r"a\n\x1b[31mb",)),
    "unknown rotary scaling": (with_config(rope_scaling={"rope_type": "longrope", "factor": 2.0}), ("longrope",)),
    "field not understood": (with_config(attention_sinks=4), ("attention_sinks",)),
    "a billion layers": (with_config(num_hidden_layers=10**9), ("num_hidden_layers", "1000000000")),
    "more layers than weights": (with_config(num_hidden_layers=2_000), ("2000 layers",)),
    "a width with 400 digits": (with_config(hidden_size=10**400), ("hidden_size",)),
    "tied head that differs": (with_config(tie_word_embeddings=True), ("lm_head.weight", "tied")),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ("tokenizer.json",)),
    "broken tokenizer": (cut("tokenizer.json", 100), ("tokenizer.json",)),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_damaged_folders(command: Command, case: str) -> None:
    damage, named = FOLDERS[case]
    damage(tiny.write_folder(Path("model")))
    Path("pairs.jsonl").write_text('{"context": "a", "continuation": "b"}\n')
    command("chat", "./model", "-p", "hi").refused(*named)
    command("score", "./model#int4", "pairs.jsonl").refused(*named)
    command("rank", "./model#float32", "--limit", "1").refused(*named)


# Damaging a GGUF file.


def place_of(whole: bytes, name: str) -> tuple[int, int]:
    """Where a tensor's description stands after its name, and where it ends."""
    key = struct.pack("<Q", len(name)) + name.encode()
    at = whole.index(key) + len(key)
    return at, at + 4 + 8 * whole[at] + 12


def moved(name: str, offset: int) -> Damage:
    def damage(path: Path) -> None:
        whole = path.read_bytes()
        _, end = place_of(whole, name)
        path.write_bytes(whole[: end - 8] + struct.pack("<Q", offset) + whole[end:])

    return damage


def replaced(at: int, code: str, value: int) -> Damage:
    def damage(path: Path) -> None:
        whole = bytearray(path.read_bytes())
        struct.pack_into("<" + code, whole, at, value)
        path.write_bytes(whole)

    return damage


def renamed(old: str, new: str) -> Damage:
    """Both of one length, so that nothing else moves."""
    return lambda path: path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))


def reshaped(path: Path) -> None:
    whole = path.read_bytes()
    at, end = place_of(whole, "blk.0.ffn_up.weight")
    path.write_bytes(whole[: at + 4] + struct.pack("<QQ", 48, 32) + whole[end - 12 :])


def not_a_number(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4] + struct.pack("<f", float("nan")))


def with_fields(**fields: Any) -> Damage:
    return lambda path: tiny.write_tiny_gguf(path, {name.replace("__", "."): v for name, v in fields.items()})


GGUFS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-100]), ("outside the file", "truncated")),
    "truncated header": (lambda p: p.write_bytes(p.read_bytes()[:2_000]), ("model.gguf", "damaged")),
    "empty": (lambda p: p.write_bytes(b""), ("model.gguf",)),
    "not GGUF": (lambda p: p.write_bytes(b"hello world" * 10), ("not a GGUF file",)),
    "unknown version": (replaced(4, "I", 9), ("version 9",)),
    "claims 2**40 tensors": (replaced(8, "Q", 2**40), (f"{2**40} tensors",)),
    "claims 2**60 fields": (replaced(16, "Q", 2**60), (f"{2**60} fields",)),
    "claims a long text": (replaced(24, "Q", 2**50), (f"{2**50} bytes",)),
    "overlap": (moved("output_norm.weight", 0), ("overlaps",)),
    "out of range": (moved("output_norm.weight", 2**40), ("output_norm.weight", "outside")),
    "duplicate": (renamed("blk.1.ffn_up", "blk.0.ffn_up"), ("blk.0.ffn_up.weight", "twice")),
    "missing": (renamed("blk.1.ffn_up", "blk.1.ffn_xx"), ("blk.1.ffn_up.weight", "lacks")),
    "misshapen": (reshaped, ("blk.0.ffn_up.weight", "[32, 48]", "[48, 32]")),
    "NaN": (not_a_number, ("NaN",)),
    "extra": (
        lambda p: tiny.write_gguf(
            p, tiny.GGUF_FIELDS, {**tiny.gguf_tensors(tiny.weights(), 2, 2), "surplus.weight": tiny.np.ones(32, "f4")}
        ),
        ("surplus.weight", "does not have"),
    ),
    "unknown architecture": (
        lambda p: tiny.write_gguf(p, {}, {}, architecture="mamba"),
        ("mamba", "llama and gpt2"),
    ),
    "unknown rotary scaling": (with_fields(llama__rope__scaling__type="longrope"), ("longrope",)),
    "field not understood": (with_fields(llama__attention_sinks=4), ("attention_sinks",)),
    "field missing": (with_fields(llama__embedding_length=None), ("embedding_length",)),
    "width of text": (with_fields(llama__embedding_length="wide"), ("embedding_length", "wide")),
    "no heads": (with_fields(llama__attention__head_count=0), ("head_count",)),
    "four billion layers": (with_fields(llama__block_count=2**32 - 1), ("block_count", str(2**32 - 1))),
    "more layers than weights": (with_fields(llama__block_count=2_000), ("block_count", "2000")),
    "no rotation": (with_fields(llama__rope__freq_base=0.0), ("rope.freq_base", "0.0")),
    "norm of nothing": (
        with_fields(llama__attention__layer_norm_rms_epsilon=float("nan")),
        ("layer_norm_rms_epsilon", "nan"),
    ),
    "no tokens": (with_fields(tokenizer__ggml__tokens=None), ("tokens",)),
}


@pytest.mark.parametrize("case", GGUFS)
def test_damaged_ggufs(command: Command, case: str) -> None:
    damage, named = GGUFS[case]
    damage(tiny.write_tiny_gguf(Path("model.gguf")))
    Path("pairs.jsonl").write_text('{"context": "a", "continuation": "b"}\n')
    command("chat", "./model.gguf", "-p", "hi").refused(*named)
    command("score", "./model.gguf#int8", "pairs.jsonl").refused(*named)
    command("rank", "model.gguf", "--limit", "1").refused(*named)


def test_weights_of_no_column(command: Command) -> None:
    command("rank", "uniform", "--weights", "nonsense=1").refused("'nonsense'", "accuracy", "coherence")
    command("rank", "uniform", "--weights", "accuracy=none").refused("accuracy", "'none'", "above 0")
