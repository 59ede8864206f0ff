"""Every family, in every configuration that matters, gives Transformers' logits from the same random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from configurations import CONFIGURATIONS, reference
from transformers import AutoModelForCausalLM

from fairground.errors import ConfigError
from fairground.models.assemble import save
from fairground.models.decoder import Decoder
from fairground.models.families import FAMILIES, family_named, family_of
from fairground.models.load import load_folder
from fairground.models.packed import BLOCK, Packed, Pages

TOLERANCE = 1e-4
LENGTH = 150  # more than two blocks, longer than every window


def pages(decoder: Decoder, sequences: int, blocks: int, dtype: torch.dtype = torch.float32) -> Pages:
    """An empty cache; block numbers of different sequences are interleaved, so that a mixed-up table shows."""
    c = decoder.config
    shape = (sequences * blocks, BLOCK, c.kv_heads, c.head_dim)
    pools = [[torch.zeros(shape, dtype=dtype) for _ in range(c.layers)] for _ in range(2)]
    tables = [[s + sequences * b for b in range(blocks)] for s in range(sequences)]
    return Pages(*pools, [tables], [0] * c.layers)


@pytest.fixture(params=CONFIGURATIONS, scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """Transformers' model and ours, loaded from the folder that Transformers saved."""
    theirs = reference(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    return theirs, load_folder(folder, "float32").decoder


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(0, 97, (3, LENGTH), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fused"])
@torch.inference_mode()
def test_full_pass(pair: tuple, tokens: torch.Tensor, exact: bool) -> None:
    theirs, ours = pair
    expected = theirs(tokens[:1]).logits[0]
    hidden = ours(tokens[0], Packed.of([LENGTH]), exact=exact)
    torch.testing.assert_close(ours.logits(hidden, exact=exact), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fused"])
@torch.inference_mode()
def test_cached_decoding_token_by_token(pair: tuple, tokens: torch.Tensor, exact: bool) -> None:
    theirs, ours = pair
    prompt = 61  # the first decoded tokens cross a block's border
    expected = theirs(tokens[:1]).logits[0]
    cache = pages(ours, 1, 12)
    steps = [ours(tokens[0, :prompt], Packed.of([prompt]), cache, exact=exact)]
    for at in range(prompt, LENGTH):
        steps.append(ours(tokens[0, at : at + 1], Packed.of([1], [at]), cache, exact=exact))
    got = ours.logits(torch.cat(steps), exact=exact)
    torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fused"])
@torch.inference_mode()
def test_ragged_batch(pair: tuple, tokens: torch.Tensor, side: str, exact: bool) -> None:
    """Transformers pads to one length, on either side; ours packs. Then one more token each, over the cache."""
    theirs, ours = pair
    lengths = [LENGTH, 17, 88]
    width = max(lengths)
    batch, mask = torch.zeros(3, width, dtype=torch.int64), torch.zeros(3, width, dtype=torch.int64)
    places = [slice(width - n, width) if side == "left" else slice(0, n) for n in lengths]
    for row, (place, length) in enumerate(zip(places, lengths, strict=True)):
        batch[row, place], mask[row, place] = tokens[row, :length], 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = theirs(batch, attention_mask=mask, position_ids=positions).logits
    expected = torch.cat([logits[row, place] for row, place in enumerate(places)])
    flat = torch.cat([tokens[row, :length] for row, length in enumerate(lengths)])
    cache = pages(ours, 3, 16)
    hidden = ours(flat, Packed.of(lengths), cache, exact=exact)
    torch.testing.assert_close(ours.logits(hidden, exact=exact), expected, atol=TOLERANCE, rtol=0)
    following = ours(tokens[:, 0], Packed.of([1, 1, 1], lengths), cache, exact=exact)
    for row, length in enumerate(lengths):
        text = torch.cat((tokens[row, :length], tokens[row, :1]))[None]
        got = ours.logits(following[row : row + 1], exact=exact)[0]
        torch.testing.assert_close(got, theirs(text).logits[0, -1], atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_chunked_prefill_over_the_cache(pair: tuple, tokens: torch.Tensor) -> None:
    theirs, ours = pair
    expected = theirs(tokens[:1]).logits[0]
    for exact in (True, False):
        cache, parts, at = pages(ours, 1, 12), [], 0
        for chunk in (5, 64, 1, 70, 10):
            parts.append(ours(tokens[0, at : at + chunk], Packed.of([chunk], [at]), cache, exact=exact))
            at += chunk
        got = ours.logits(torch.cat(parts), exact=exact)
        torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_saved_folder_is_loaded_by_transformers(pair: tuple, tokens: torch.Tensor, tmp_path: Path) -> None:
    theirs, ours = pair
    save(ours, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").float().eval()
    torch.testing.assert_close(again(tokens[:1]).logits, theirs(tokens[:1]).logits, atol=1e-6, rtol=0)


def test_gradients_reach_every_weight(pair: tuple, tokens: torch.Tensor) -> None:
    """A model trains as it is: packed documents, one loss, and the gradients are Transformers'."""
    theirs, ours = pair
    ours.train(), theirs.zero_grad(), ours.zero_grad()
    lengths = [40, 25]
    flat = torch.cat([tokens[0, :40], tokens[1, :25]])
    with torch.enable_grad():
        for parameter in ours.parameters():
            parameter.requires_grad_(True)
        ours.logits(ours(flat, Packed.of(lengths))).logsumexp(-1).sum().backward()
        for row, length in enumerate(lengths):
            theirs(tokens[row : row + 1, :length]).logits.logsumexp(-1).sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
    embedding = theirs.get_input_embeddings().weight.grad
    torch.testing.assert_close(ours.embed.weight.grad, embedding, atol=2e-3, rtol=1e-3)
    ours.eval()


def test_parameter_count_from_the_config(pair: tuple) -> None:
    theirs, ours = pair
    assert ours.config.parameter_count() == theirs.num_parameters()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_field_that_nobody_understands_is_refused(family) -> None:
    with pytest.raises(ConfigError, match="attention_sinks"):
        family.decoder_config({"attention_sinks": 4})
    with pytest.raises(ConfigError, match=r"whole number"):
        family.decoder_config({"vocab_size": -1})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "longrope"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "surprise": 1}}, "surprise"),
        ({"rope_scaling": {"type": "linear", "factor": 0.2}}, "0.2"),
        ({"hidden_act": "swish_squared"}, "swish_squared"),
        ({"num_attention_heads": 5, "hidden_size": 64}, "do not divide"),
        ({"num_attention_heads": 8, "num_key_value_heads": 3, "hidden_size": 64}, "share"),
        ({"rms_norm_eps": float("nan")}, "nan"),
        ({"tie_word_embeddings": "yes"}, "yes"),
    ],
)
def test_llama_configs_that_cannot_be_run(fields: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        family_named("llama").decoder_config(fields)


def test_unknown_architectures_are_named() -> None:
    with pytest.raises(ConfigError, match="MambaForCausalLM"):
        family_of({"architectures": ["MambaForCausalLM"], "model_type": "mamba"})
    with pytest.raises(ConfigError, match="one of the two is wrong"):
        family_of({"architectures": ["LlamaForCausalLM"], "model_type": "mistral"})


def test_every_family_writes_what_it_reads() -> None:
    for name, (kind, fields) in CONFIGURATIONS.items():
        family = next(family for family in FAMILIES if family.model_type == kind)
        config = family.decoder_config(json.loads(json.dumps(fields)))
        assert family.decoder_config(family.write(config)) == config, name
