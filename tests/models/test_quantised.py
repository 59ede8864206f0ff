"""int8 and int4 linears: how near they are to what was quantised, and that the packed product is the reference's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
import tiny_models as tiny
import torch
from configurations import reference
from torch import nn

from fairground.errors import ConfigError
from fairground.models.assemble import Precision, memory_bytes, save
from fairground.models.load import load_folder, memory_needed
from fairground.models.packed import Packed
from fairground.models.quantised import GROUP, PACKED_ROWS, QuantisedEmbedding, QuantisedLinear

pytestmark = pytest.mark.usefixtures("one_thread")
ERROR = {8: 0.02, 4: 0.1}  # relative Frobenius norm on Gaussian weights
KINDS: tuple[Precision, ...] = ("float32", "bfloat16", "int8", "int4")


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shape", [(64, 32), (100, 96), (7, 64), (192, 256), (1, 32)])
@pytest.mark.parametrize("rows", [1, 5, 64, 128, 129])
@torch.inference_mode()
def test_the_packed_product_is_the_reference_s(bits: int, shape: tuple[int, int], rows: int) -> None:
    linear = QuantisedLinear.fit(gaussian(*shape), bits, gaussian(shape[0]).bfloat16())
    assert linear.bits == bits
    assert linear.dequantised().shape == shape
    x = gaussian(rows, shape[1], seed=1).bfloat16()
    assert linear.bias is not None
    expected = x.float() @ linear.dequantised().float().T + linear.bias.float()
    got = linear(x)
    assert got.dtype == torch.bfloat16
    assert got.shape == expected.shape
    assert relative(got, expected) < 0.01  # a bfloat16 result, and int4 sums each group's zeros and levels apart


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shape", [(64, 256), (130, 96)])
def test_how_near_a_quantised_weight_is(bits: int, shape: tuple[int, int]) -> None:
    weight = gaussian(*shape)
    assert relative(QuantisedLinear.fit(weight, bits).dequantised(), weight) < ERROR[bits]


def min_max(weight: torch.Tensor) -> torch.Tensor:
    """Sixteen levels spread evenly from each group's least to its greatest number."""
    groups = weight.view(weight.shape[0], -1, GROUP)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    step = (high - low) / 15
    return (((groups - low) / step).round().clamp(0, 15) * step + low).view(weight.shape)


@pytest.mark.parametrize("kind", ["gaussian", "heavy tails", "uniform", "off centre"])
def test_int4_is_no_worse_than_naive_rounding(kind: str) -> None:
    weight = gaussian(128, 256)
    weight = {
        "gaussian": weight,
        "heavy tails": weight**3,
        "uniform": gaussian(128, 256).sigmoid(),
        "off centre": weight + 2,
    }[kind]
    assert relative(QuantisedLinear.fit(weight, 4).dequantised(), weight) <= 1.02 * relative(min_max(weight), weight)


def test_columns_that_32_does_not_divide_take_int8() -> None:
    linear = QuantisedLinear.fit(gaussian(64, 48), 4)
    assert linear.bits == 8
    assert linear.packed.dtype == torch.int8


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-20])
@torch.inference_mode()
def test_constant_weights(bits: int, value: float) -> None:
    linear = QuantisedLinear.fit(torch.full((64, 64), value), bits)
    torch.testing.assert_close(linear.dequantised().float(), torch.full((64, 64), value), rtol=0.01, atol=1e-12)
    assert torch.isfinite(linear(torch.ones(1, 64, dtype=torch.bfloat16))).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_fitting_changes_nothing_and_repeats(bits: int) -> None:
    weight = gaussian(64, 64).bfloat16()
    before = weight.clone()
    first, second = QuantisedLinear.fit(weight, bits), QuantisedLinear.fit(weight, bits)
    assert torch.equal(weight, before)
    assert torch.equal(first.packed, second.packed)
    assert torch.equal(first.scales, second.scales)


def test_one_row_or_many_pass_on_gradients() -> None:
    linear = QuantisedLinear.fit(gaussian(64, 64), 4)
    x = gaussian(3, 64).bfloat16().requires_grad_()
    linear(x).float().sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0].float(), linear.dequantised().float().sum(0), rtol=0.02, atol=0.2)


@torch.inference_mode()
def test_an_embedding_shares_the_head_s_rows() -> None:
    head = QuantisedLinear.fit(gaussian(97, 64), 8)
    tokens = torch.tensor([0, 96, 5, 5])
    assert torch.equal(QuantisedEmbedding(head)(tokens), head.dequantised()[tokens])


CHECK = """
import torch
from fairground.models.quantised import QuantisedLinear
torch.manual_seed(0)
for shape in ((64, 32), (100, 96), (192, 64)):
    weight = torch.randn(shape)
    error = (QuantisedLinear.fit(weight, 4).dequantised().float() - weight).norm() / weight.norm()
    assert error < 0.1, (torch.backends.cpu.get_cpu_capability(), shape, float(error))
"""


@pytest.mark.parametrize("processor", ["default", "avx2"])
def test_layouts_of_other_processors(processor: str) -> None:
    """torch lays packed weights out by what the processor can; an older one is asked for by its environment."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        env={**os.environ, "ATEN_CPU_CAPABILITY": processor},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# Whole models.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its MLP is 112 wide, so its last product is not divided by 32."""
    path = tmp_path_factory.mktemp("quantised")
    reference("llama-grouped-tied").save_pretrained(path)
    return path


@torch.inference_mode()
def logits(path: Path, precision: Precision, rows: int) -> torch.Tensor:
    decoder = load_folder(path, precision).decoder
    tokens = torch.randint(0, 97, (rows,), generator=torch.Generator().manual_seed(1))
    return decoder.logits(decoder(tokens, Packed.of([rows]), exact=True), exact=True)


@pytest.mark.parametrize("rows", [16, PACKED_ROWS[4] + 5])
def test_logits_stay_close(folder: Path, rows: int) -> None:
    expected = logits(folder, "bfloat16", rows)
    assert relative(expected, logits(folder, "float32", rows)) < 0.02
    assert relative(logits(folder, "int8", rows), expected) < 0.05
    assert relative(logits(folder, "int4", rows), expected) < 0.3


def test_what_is_quantised(folder: Path) -> None:
    decoder = load_folder(folder, "int4").decoder
    bits = {name: module.bits for name, module in decoder.named_modules() if isinstance(module, QuantisedLinear)}
    assert {name.rpartition(".")[2]: n for name, n in bits.items() if name.startswith("blocks.0.")} == {
        **dict.fromkeys(["q", "k", "v", "out", "gate", "up"], 4),
        "down": 8,
    }
    assert bits["head"] == 8
    assert not any(isinstance(module, nn.Linear | nn.Embedding) for module in decoder.modules())
    with pytest.raises(ConfigError, match="quantised model cannot be saved"):
        save(decoder, folder / "saved")
    assert not (folder / "saved").exists()


def test_memory_is_foretold(tmp_path: Path) -> None:
    fields = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
    tensors = tiny.weights(**fields)
    tiny.write_folder(tmp_path, fields, tensors)
    sizes = []
    for precision in KINDS:
        decoder = load_folder(tmp_path, precision).decoder
        sizes.append(memory_bytes(decoder))
        assert sizes[-1] == pytest.approx(memory_needed(decoder.config, precision), rel=0.03)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 4 * sum(tensor.numel() for tensor in tensors.values())


def test_precisions_say_where_they_came_from(folder: Path, tmp_path: Path) -> None:
    assert [load_folder(folder, precision).precision for precision in KINDS] == [
        "f32",
        "bf16 from f32",
        "int8 from f32",
        "int4 from f32",
    ]
    small = tiny.write_folder(tmp_path / "small")
    assert [load_folder(small, precision).precision for precision in KINDS] == [
        "f32 from bf16",
        "bf16",
        "int8 from bf16",
        "int4 from bf16",
    ]
    tensors = tiny.gguf_tensors(tiny.weights(), tiny.HEADS, tiny.HEADS)
    kind = gguf.GGMLQuantizationType.Q4_1
    packed = {name: gguf.quants.quantize(t, kind) for name, t in tensors.items() if t.ndim == 2 and t.shape[1] == 32}
    path = tiny.write_gguf(tmp_path / "a.gguf", tiny.GGUF_FIELDS, tensors | packed, dict.fromkeys(packed, kind))
    assert load_folder(path, "bfloat16").precision == "bf16 from Q4_1"
    assert load_folder(path, "int4").precision == "int4 from Q4_1"


@torch.inference_mode()
def test_rows_that_torch_would_read_beyond_go_by_the_reference() -> None:
    layer = QuantisedLinear.fit(gaussian(32, 88), 8)
    for seed in range(20):
        x = gaussian(1, 88, seed=seed).bfloat16()
        assert layer(x).equal(nn.functional.linear(x, layer.dequantised()))
