"""The readers of weight files, beside the libraries of the formats, and on files that chance has damaged."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fairground.errors import ModelError, WeightsError
from fairground.models.gguf_file import GGUFFile
from fairground.models.load import open_source
from fairground.models.weight_file import PickledFile, SafetensorsFile, ShardedFile

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = gguf.GGMLQuantizationType


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_equal_the_library_s(tmp_path: Path, dtype: torch.dtype) -> None:
    shapes = [(3, 5), (7,), (2, 3, 4), (), (0, 4)]
    tensors = {f"t{i}": torch.randn(shape).to(dtype) for i, shape in enumerate(shapes)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    file, theirs = SafetensorsFile(tmp_path / "a.safetensors"), load_file(tmp_path / "a.safetensors")
    assert file.tensors.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(file.read(name), tensor)
        assert file.read(name).dtype == dtype
        assert file.tensors[name].shape == tuple(tensor.shape)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool])
def test_integers_are_listed_and_not_read(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"mask": torch.ones(4, dtype=dtype)}, tmp_path / "a.safetensors")
    file = SafetensorsFile(tmp_path / "a.safetensors")
    assert file.tensors["mask"].shape == (4,)
    with pytest.raises(WeightsError, match=r"'mask'.*not a float type"):
        file.read("mask")


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"t": torch.ones(4)}, path)
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="ended while 't' was read"):
        file.read("t")


# Sharded files.


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    save_file({"a": torch.ones(2), "b": torch.zeros(3)}, tmp_path / "1.safetensors")
    save_file({"c": torch.full((2,), 7.0)}, tmp_path / "2.safetensors")
    return tmp_path / "model.safetensors.index.json"


SOUND = {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}


def test_sharded_files(shards: Path) -> None:
    shards.write_text(json.dumps({"metadata": {"total_size": 28}, "weight_map": SOUND}))
    file = ShardedFile(shards)
    assert set(file.tensors) == {"a", "b", "c"}
    assert torch.equal(file.read("c"), torch.full((2,), 7.0))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"d": "3.safetensors"}, "3.safetensors, which is not there"),
        ({"a": "../1.safetensors"}, "'../1.safetensors', which is not beside it"),
        ({"a": "/etc/passwd"}, "not beside it"),
        ({"a": "2.safetensors"}, "1.safetensors holds 'a'"),
        ({"c": "1.safetensors"}, "places 'c' in 1.safetensors"),
        ({"d": "1.safetensors"}, "places 'd' in 1.safetensors"),
        ({"b": None}, "1.safetensors holds 'b'"),
        ({"a": "."}, "not"),
        ({"a": ""}, "not"),
        ({"a": "a\0b"}, "not"),
    ],
)
def test_indices_that_do_not_fit(shards: Path, changes: dict[str, str | None], named: str) -> None:
    places = {name: shard for name, shard in (SOUND | changes).items() if shard is not None}
    shards.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(WeightsError, match=named):
        ShardedFile(shards)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": ["a"]}', "[" * 10_000, "\udcff"])
def test_indices_that_are_none(shards: Path, text: str) -> None:
    shards.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match="not an index"):
        ShardedFile(shards)


def test_a_pickle_is_a_table_of_tensors(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3).half()}, tmp_path / "a.bin")
    file = PickledFile(tmp_path / "a.bin")
    assert file.tensors["a"].precision == "f16"
    assert torch.equal(file.read("a"), torch.ones(3).half())
    torch.save({"a": 3}, tmp_path / "a.bin")
    with pytest.raises(WeightsError, match="plain table of tensors"):
        PickledFile(tmp_path / "a.bin")


# GGUF.


def one_tensor(path: Path, kind: gguf.GGMLQuantizationType, values: np.ndarray) -> GGUFFile:
    return GGUFFile(tiny.write_gguf(path, {}, {"t": values}, {"t": kind}))


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16", "F16", "F32", "F64"])
def test_gguf_quantisations(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    values = np.random.default_rng(0).normal(size=(6, 96)).astype(np.float32)
    stored = values.astype("f8") if name == "F64" else gguf.quants.quantize(values, kind)
    file = one_tensor(tmp_path / "a.gguf", kind, stored)
    expected = stored if name == "F64" else gguf.quants.dequantize(stored, kind)
    assert file.tensors["t"].precision == (name if name.startswith("Q") else name.lower())
    assert file.tensors["t"].shape == (6, 96)
    np.testing.assert_array_equal(file.read("t").double().numpy(), expected.astype("f8"))


@pytest.mark.parametrize(
    "name",
    ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ2_XXS", "IQ2_S", "IQ3_XXS", "IQ1_S", "TQ1_0"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # random bytes are sometimes infinite scales
def test_gguf_quantisations_that_the_library_only_reads(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    block, size = gguf.constants.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(1).integers(0, 256, (3, 512 // block * size), dtype=np.uint8)
    file = one_tensor(tmp_path / "a.gguf", kind, raw)
    assert file.tensors["t"].shape == (3, 512)
    np.testing.assert_array_equal(file.read("t").numpy(), gguf.quants.dequantize(raw, kind))


def test_a_quantisation_that_nobody_undoes(tmp_path: Path) -> None:
    file = one_tensor(tmp_path / "a.gguf", KINDS.Q8_K, np.zeros((2, 292), np.uint8))
    with pytest.raises(WeightsError, match="'t' as Q8_K"):
        file.read("t")


def test_gguf_metadata_equal_the_library_s(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    limits: dict[str, tuple[int, ...]] = {
        "uint8": (255,), "int8": (-128,), "uint16": (65535,), "int16": (-32768,), "uint32": (2**32 - 1,),
        "int32": (-(2**31),), "uint64": (2**64 - 1,), "int64": (-(2**63),),
    }  # fmt: skip
    for kind, (value,) in limits.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_float32("a.float32", 1 / 3)
    writer.add_float64("a.float64", 1 / 3)
    writer.add_bool("a.true", True)
    writer.add_bool("a.false", False)
    writer.add_string("a.text", "Grüße, 世界\n")
    writer.add_array("a.texts", ["", "ä", "b"])
    writer.add_array("a.wholes", [1, -2, 3])
    writer.add_array("a.numbers", [0.5, float("inf")])
    writer.add_array("a.flags", [True, False])
    writer.add_array("a.nested", [[1, 2], [3]])
    writer.add_tensor("t", np.ones(4, np.float32))
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()
    theirs = gguf.GGUFReader(path)
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    ours = GGUFFile(path)
    assert ours.metadata.keys() == fields.keys()
    for name, field in fields.items():
        if name != "a.nested":  # the library gives its reading of these as one flat list
            assert ours.metadata[name] == field.contents(), name
    assert ours.metadata["a.nested"] == [[1, 2], [3]]
    assert {t.name: tuple(int(n) for n in t.shape)[::-1] for t in theirs.tensors} == {"t": ours.tensors["t"].shape}


def test_other_alignments(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_custom_alignment(256)
    for name in "ab":
        writer.add_tensor(name, np.arange(5, dtype=np.float32))
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile(tmp_path / "a.gguf")
    assert file.tensors["b"].offset % 256 == 0
    assert file.read("b").tolist() == [0, 1, 2, 3, 4]


# Files that chance has damaged: they load, or a ModelError says why not; nothing else.


def damaged(whole: bytes, changes: list[tuple[int, int]], keep: float) -> bytes:
    changed = bytearray(whole)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed[: max(1, round(len(changed) * keep))])


changes = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6)
kept = st.one_of(st.just(1.0), st.floats(0, 1))
EXAMPLES = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def loads_or_says_why(path: Path) -> None:
    with suppress(ModelError):
        open_source(path).load("bfloat16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("fuzz") / "model")


@pytest.fixture(scope="module")
def sound(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("model.safetensors", "config.json")}


@EXAMPLES
@given(changes, kept)
def test_damaged_safetensors(folder: Path, sound: dict[str, bytes], places: list[tuple[int, int]], keep: float) -> None:
    whole = sound["model.safetensors"]
    header = [(at % (8 + int.from_bytes(whole[:8], "little")), value) for at, value in places]
    (folder / "config.json").write_bytes(sound["config.json"])
    (folder / "model.safetensors").write_bytes(damaged(whole, header, keep))
    loads_or_says_why(folder)


@EXAMPLES
@given(changes, st.just(1.0))
def test_damaged_configs(folder: Path, sound: dict[str, bytes], places: list[tuple[int, int]], keep: float) -> None:
    (folder / "model.safetensors").write_bytes(sound["model.safetensors"])
    (folder / "config.json").write_bytes(damaged(sound["config.json"], places, keep))
    loads_or_says_why(folder)


@EXAMPLES
@given(changes, kept)
def test_damaged_ggufs(folder: Path, places: list[tuple[int, int]], keep: float) -> None:
    path = folder / "sound.gguf"
    if not path.exists():  # its lists of tokens would take most of the bytes that are hit
        lists = {name: None for name in tiny.GGUF_FIELDS if name.startswith("tokenizer")}
        tiny.write_tiny_gguf(path, {**lists, "llama.rope.freq_base": 10_000.0, "llama.list": None})
    whole = path.read_bytes()
    header = [(at % 2_400, value) for at, value in places]
    (folder / "hit.gguf").write_bytes(damaged(whole, header, keep))
    loads_or_says_why(folder / "hit.gguf")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**30) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)


@EXAMPLES
@given(st.sampled_from(sorted({*tiny.CONFIG, "rope_theta", "rope_scaling", "head_dim", "num_key_value_heads"})), JSON)
def test_configs_of_any_values(folder: Path, sound: dict[str, bytes], name: str, value: Any) -> None:
    (folder / "model.safetensors").write_bytes(sound["model.safetensors"])
    tiny.write_json(folder / "config.json", {**tiny.CONFIG, name: value})
    loads_or_says_why(folder)


@EXAMPLES
@given(st.sampled_from(["dtype", "shape", "data_offsets", None]), JSON)
def test_headers_of_any_values(folder: Path, sound: dict[str, bytes], name: str | None, value: Any) -> None:
    whole = sound["model.safetensors"]
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    if name is None:
        header["model.norm.weight"] = value
    else:
        header["model.norm.weight"][name] = value
    (folder / "config.json").write_bytes(sound["config.json"])
    tiny.write_safetensors(folder / "model.safetensors", header, whole[8 + length :])
    loads_or_says_why(folder)
