"""New models' shapes: what a name promises, and that the families are equal where they must be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from fairground.errors import ConfigError
from fairground.models.assemble import save
from fairground.models.packed import Packed
from fairground.training.sizes import DIFFERENCES, body, is_new_model, new_config
from fairground.training.start import new_decoder

FAMILIES = tuple(DIFFERENCES)


@pytest.mark.parametrize(("size", "most"), [("1m", 1e6), ("2m", 2e6), ("8m", 8e6), ("125m", 125e6)])
def test_families_of_one_size_are_equal_outside_their_embeddings(size: str, most: float) -> None:
    configs = [new_config(f"{family}:{size}", vocab_size=4096, context_length=512) for family in FAMILIES]
    bodies = [body(c) for c in configs]
    assert max(bodies) / min(bodies) <= 1.02
    assert len({(c.width, c.layers) for c in configs}) == 1
    for c in configs:
        assert 0.7 * most < c.parameter_count() <= most


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_counts_the_same_and_gives_equal_logits(family: str, tmp_path: Path) -> None:
    c = new_config(f"{family}:200k", vocab_size=500, context_length=64)
    decoder = new_decoder(c, 1).eval()
    save(decoder, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert theirs.num_parameters() == c.parameter_count() == sum(p.numel() for p in decoder.parameters())
    ids = torch.randint(0, 500, (60,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = decoder.logits(decoder(ids, Packed.of([60])))
        torch.testing.assert_close(ours, theirs(ids[None]).logits[0], atol=1e-4, rtol=0)


def test_a_seed_decides_the_weights() -> None:
    c = new_config("gpt-j:200k", vocab_size=500, context_length=64)
    first, same, other = (dict(new_decoder(c, seed).named_parameters()) for seed in (1, 1, 2))
    assert all(first[name].equal(same[name]) for name in first)
    assert not first["embed.weight"].equal(other["embed.weight"])


@pytest.mark.parametrize("name", ["llama", "llama:", "llama:8", "llama:-1m", "8m", "./llama:8m"])
def test_names_that_are_none(name: str) -> None:
    assert not is_new_model(name)
    with pytest.raises(ConfigError):
        new_config(name, vocab_size=500, context_length=64)
