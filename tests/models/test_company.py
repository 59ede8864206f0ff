"""A score's bits do not depend on company: how many rows, which neighbours, which chunks, a cache or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from configurations import reference
from test_families import pages
from torch import nn

from fairground.kernels.packed_linear import PackedLinear
from fairground.models.attention import ExactAttention
from fairground.models.decoder import FIXED_ROWS, Decoder, Pass
from fairground.models.load import load_folder
from fairground.models.packed import BLOCK, Packed, Pages
from fairground.training.sizes import new_config

LENGTH = 130


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"], scope="module")
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(
    params=["llama-grouped-tied", "mistral-window", "gpt-j", "gpt-neo-local", "gpt2", "stories15m"], scope="module"
)
def decoder(request: pytest.FixtureRequest, dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    precision = "float32" if dtype == torch.float32 else "bfloat16"
    if request.param == "stories15m":
        return load_folder(request.getfixturevalue("stories15m"), precision).decoder
    folder = tmp_path_factory.mktemp("company")
    reference(request.param).save_pretrained(folder)
    return load_folder(folder, precision).decoder


def text(seed: int, length: int) -> torch.Tensor:
    return torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def logits(decoder: Decoder, texts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each text's own logits from one packed pass."""
    packed = Packed.of([len(t) for t in texts])
    hidden = decoder(torch.cat(texts), packed, exact=True)
    got = decoder.logits(hidden, exact=True)
    return [got[a:b] for a, b in zip(packed.starts, packed.starts[1:], strict=False)]


@torch.inference_mode()
@pytest.mark.parametrize("made", [lambda linear: linear, PackedLinear], ids=["plain", "packed"])
@pytest.mark.parametrize("shape", [(576, 576), (192, 576), (1024, 1024), (576, 1536), (512, 4096), (49, 2049)], ids=str)
def test_a_row_of_a_product_in_any_number_of_rows(
    shape: tuple[int, int], made: Callable[[nn.Linear], nn.Module]
) -> None:
    """In bfloat16, whose sums oneDNN splits by the number of rows on a processor with AMX."""
    out, in_ = shape
    torch.manual_seed(0)
    linear = made(nn.Linear(in_, out, dtype=torch.bfloat16))
    x = torch.randn(1536, in_).bfloat16()

    def rows_of(some: torch.Tensor) -> torch.Tensor:
        filled = nn.functional.pad(some, (0, 0, 0, -some.shape[0] % FIXED_ROWS))
        (found,) = Pass(None, None, None, FIXED_ROWS).by_rows(lambda part: (linear(part),), filled)  # type: ignore[arg-type]
        return found[: some.shape[0]]

    whole = rows_of(x)
    for start, rows in [(0, 16), (0, 17), (5, 31), (64, 64), (7, 65), (1, 129), (3, 256), (400, 257), (11, 1024)]:
        assert torch.equal(rows_of(x[start : start + rows]), whole[start : start + rows])


@pytest.mark.parametrize("companions", [0, 1, 2, 16, 31])
@pytest.mark.parametrize("length", [1, 2, 3, 17, 32, 64, LENGTH])
def test_any_company_any_place(decoder: Decoder, length: int, companions: int) -> None:
    mine = text(0, length)
    alone = logits(decoder, [mine])[0]
    others = [text(100 + i, 1 + (i * 37) % 70) for i in range(companions)]
    for place in {0, companions // 2, companions}:
        batch = [*others[:place], mine, *others[place:]]
        assert torch.equal(logits(decoder, batch)[place], alone)


@torch.inference_mode()
@pytest.mark.parametrize("chunks", [(130,), (1, 129), (64, 66), (17, 3, 2, 1, 107), (63, 2, 65), (1,) * 130])
def test_any_chunks_over_a_cache(decoder: Decoder, dtype: torch.dtype, chunks: tuple[int, ...]) -> None:
    """Prefill in pieces, decoding token by token, and one pass without a cache all give the same bits."""
    mine = text(0, LENGTH)
    whole = decoder(mine, Packed.of([LENGTH]), exact=True)
    cache, parts, at = pages(decoder, 1, 9, dtype), [], 0
    for chunk in chunks:
        parts.append(decoder(mine[at : at + chunk], Packed.of([chunk], [at]), cache, exact=True))
        at += chunk
    assert torch.equal(torch.cat(parts), whole)


@torch.inference_mode()
def test_a_prefix_shared_by_many_branches(decoder: Decoder, dtype: torch.dtype) -> None:
    """Branches that read one prefix's blocks give the bits of the whole text computed alone."""
    prefix, branches = text(0, 70), [text(10 + i, n) for i, n in enumerate((1, 2, 3, 17, 32))]
    cache = pages(decoder, 1, 5 + 4 * len(branches), dtype)

    def over(tables: list[list[int]]) -> Pages:
        return Pages(cache.keys, cache.values, [tables], cache.groups)

    decoder(prefix, Packed.of([70]), over([[0, 1, 2, 3, 4]]), exact=True)
    tables = []
    for i in range(len(branches)):
        own = [5 + 4 * i + j for j in range(4)]
        for pool in (*cache.keys, *cache.values):
            pool[own[0]] = pool[4]  # the half-filled block is copied, the full ones are shared
        tables.append([0, 1, 2, 3, *own])
    packed = Packed.of([len(b) for b in branches], [70] * len(branches))
    got = decoder(torch.cat(branches), packed, over(tables), exact=True)
    for branch, start, stop in zip(branches, packed.starts, packed.starts[1:], strict=False):
        alone = decoder(torch.cat((prefix, branch)), Packed.of([70 + len(branch)]), exact=True)
        assert torch.equal(got[start:stop], alone[70:])


@torch.inference_mode()
def test_the_fused_path_equals_the_exact_one_up_to_rounding(decoder: Decoder, dtype: torch.dtype) -> None:
    mine = text(0, LENGTH)
    exact = decoder(mine, Packed.of([LENGTH]), exact=True).float()
    fused = decoder(mine, Packed.of([LENGTH])).float()
    tolerance = 1e-4 if dtype == torch.float32 else 0.15
    torch.testing.assert_close(fused, exact, atol=tolerance * float(exact.abs().max()), rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("heads", [(1, 1), (2, 2), (6, 2), (8, 1)], ids=str)
@pytest.mark.parametrize("dim", [48, 64, 80])
@pytest.mark.parametrize("window", [None, 300])
@pytest.mark.parametrize("threads", [2, 17])
def test_attention_to_many_keys_in_any_pieces(
    dtype: torch.dtype, heads: tuple[int, int], dim: int, window: int | None, threads: int
) -> None:
    """Rows far into a text, where the kernel takes its keys in several pieces; with neighbours and without."""
    length, other = 1200, 70
    ours, theirs = heads
    config = replace(
        new_config("llama:1m", vocab_size=97, context_length=2048),
        heads=ours,
        kv_heads=theirs,
        head_dim=dim,
        rotary=None,
    )
    chance = torch.Generator().manual_seed(dim + ours)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance).to(dtype)

    q, k, v = drawn(length + other, ours, dim), drawn(length + other, theirs, dim), drawn(length + other, theirs, dim)
    blocks = -(-length // BLOCK)
    tables = [list(range(blocks)), list(range(blocks, blocks + 5))]

    def attend(pages: Pages, rows: torch.Tensor, lengths: list[int], firsts: list[int]) -> torch.Tensor:
        packed = Packed.of(lengths, firsts)
        exact = ExactAttention(packed, pages, len(rows), config, dtype, q.device)
        return exact(0, q[rows], k[rows], v[rows], dim**-0.5, window)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pool = [torch.zeros(blocks + 5, BLOCK, theirs, dim, dtype=dtype) for _ in range(2)]
        pages = Pages(pool[:1], pool[1:], [tables], [0])
        whole = attend(pages, torch.arange(length + other), [length, other], [0, 0])
        for cuts in ((0, 512, 1200), (0, 1, 190, 193, 700, 1199, 1200), tuple(range(0, 1201, 240))):
            alone = Pages(pool[:1], pool[1:], [tables[:1]], [0])
            pieces = [attend(alone, torch.arange(low, high), [high - low], [low]) for low, high in pairwise(cuts)]
            assert torch.equal(torch.cat(pieces), whole[:length])
    finally:
        torch.set_num_threads(before)
