"""Documents as tokens and batches: nothing lost, nothing seen twice, nothing learned across documents."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.errors import DataError
from fairground.models.load import load_folder
from fairground.models.tokenizer import Tokenizer
from fairground.training.measure import held_out, operations_per_token
from fairground.training.sizes import new_config
from fairground.training.tokens import Batches, Place, Tokens, tokenize


def made(lengths: list[int]) -> Tokens:
    """Documents whose tokens are all different."""
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    ids = np.arange(starts[-1], dtype=np.int32)
    return Tokens(
        ids, np.ones(len(ids), bool), starts, [f"d{i}" for i in range(len(lengths))], np.ones(len(ids), np.int32)
    )


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=12),
    size=st.integers(1, 50),
    context=st.integers(1, 16),
    seed=st.integers(0, 5),
)
def test_a_pass_holds_every_prediction_once(lengths: list[int], size: int, context: int, seed: int) -> None:
    tokens = made(lengths)
    batches, place = Batches(tokens, size, context, seed), Place()
    seen: Counter[tuple[int, int]] = Counter()
    while place.epoch == 0 and sum(seen.values()) < tokens.predictions:
        batch, place = batches.at(place)
        assert len(batch.ids) == size
        assert max(batch.packed.lengths) <= context
        for start, length, document in zip(batch.packed.starts, batch.packed.lengths, batch.documents, strict=False):
            ids = batch.ids[start : start + length].tolist()
            assert ids == list(range(ids[0], ids[0] + length)), "a stretch runs on in its document"
            assert tokens.starts[document] <= ids[0]
            assert ids[-1] + 1 < tokens.starts[document + 1], "a document's last token predicts nothing"
        seen.update(zip(batch.ids.tolist(), batch.targets.tolist(), strict=True))
    assert all(target == token + 1 for token, target in seen)
    once = tokens.predictions
    assert len(seen) == once
    assert sum(seen.values()) < once + size, "nothing comes twice before everything came once"


def test_an_order_is_the_seeds_and_the_passes(text: Path, words: Path) -> None:
    tokens = tokenize([text], Tokenizer.from_folder(words))
    one, same, other = (Batches(tokens, 64, 32, seed) for seed in (1, 1, 2))
    assert one.order(0).tolist() == same.order(0).tolist()
    assert one.order(0).tolist() != other.order(0).tolist()
    assert one.order(0).tolist() != one.order(1).tolist()


def test_documents_begin_and_end_as_the_tokenizer_says(text: Path, words: Path) -> None:
    tokenizer = Tokenizer.from_folder(words)
    tokens = tokenize([text], tokenizer)
    for start, stop in zip(tokens.starts, tokens.starts[1:], strict=False):
        assert tokens.ids[start] == tokenizer.bos_id
        assert tokens.ids[stop - 1] == tokenizer.eos_id
    first = json.loads((text / "documents.jsonl").read_text().splitlines()[0])["text"]
    assert tokenizer.decode(tokens.ids[: tokens.starts[1]].tolist()) == first
    assert tokens.bytes_of[tokens.ids[: tokens.starts[1]]].sum() == len(first.encode())


def test_only_answers_are_learned_and_they_begin_where_a_model_would(words: Path, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "the man"},
        {"role": "assistant", "content": "was here"},
        {"role": "user", "content": "and now"},
        {"role": "assistant", "content": "he has no way"},
    ]
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"messages": turns}) + "\n")
    tokenizer = Tokenizer.from_folder(words)
    tokens = tokenize([path], tokenizer)
    learned = tokenizer.decode(tokens.ids[tokens.learned].tolist(), skip_special=False)
    assert learned == "was here<|im_end|>he has no way<|im_end|>"
    asked = tokenizer.decode(tokens.ids[~tokens.learned].tolist(), skip_special=False)
    assert asked.startswith("<|endoftext|><|im_start|>user\nthe man<|im_end|>\n<|im_start|>assistant\n")


def test_text_of_nothing_is_refused(words: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n ")
    with pytest.raises(DataError, match=r"a\.txt"):
        tokenize([tmp_path / "a.txt"], Tokenizer.from_folder(words))


def test_held_out_bits_are_transformers(stories15m: Path, tmp_path: Path) -> None:
    """Bits per byte of two texts, one longer than the context we allow, from Transformers' logits."""
    from transformers import AutoModelForCausalLM

    (tmp_path / "a.txt").write_text("Once upon a time there was a dog. " * 3)
    (tmp_path / "b.txt").write_text("The sun was warm.")
    tokenizer = Tokenizer.from_folder(stories15m)
    tokens = tokenize([tmp_path], tokenizer)
    ours = held_out(load_folder(stories15m, "float32").decoder, tokens, context=20, batch_tokens=30)
    theirs = AutoModelForCausalLM.from_pretrained(stories15m, dtype=torch.float32).eval()
    for d, expected_bytes in ((0, 34 * 3), (1, 17)):
        ids = torch.tensor(tokens.ids[tokens.starts[d] : tokens.starts[d + 1]].astype(np.int64))
        nats = 0.0
        for at in range(0, len(ids) - 1, 20):
            part = ids[at : at + 20][: len(ids) - 1 - at]
            with torch.no_grad():
                logits = theirs(part[None]).logits[0]
            nats += float(torch.nn.functional.cross_entropy(logits, ids[at + 1 : at + 1 + len(part)], reduction="sum"))
        assert ours.nats[d] == pytest.approx(nats, rel=1e-4)
        # SentencePiece puts a space before a text.
        assert ours.bytes[d] == expected_bytes + 1


def test_operations_are_six_for_every_weight_and_attentions_own() -> None:
    """By hand for GPT-2: 6 N outside the embeddings and with the tied head, and 12 L d T / 2 for causal attention."""
    c = new_config("gpt2:1m", vocab_size=4096, context_length=512)
    weights = c.parameter_count() - c.context_length * c.width
    assert operations_per_token(c, 100) == 6 * weights + 12 * c.layers * c.width * 100 / 2
