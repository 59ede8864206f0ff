"""Scores: lm-evaluation-harness's numbers, the same bits in any company, and a prefix tree that loses nothing."""

from __future__ import annotations

import random
from pathlib import Path

import hellaswag
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.engine.local import LocalGenerator, open_model
from fairground.engine.scoring import tree
from fairground.errors import RequestError
from fairground.types import ScoreRequest


def harness(folder: Path, requests: list[ScoreRequest], gguf: str | None = None) -> list[tuple[float, bool]]:
    """lm-evaluation-harness's `hf` model, float32."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    more = {"gguf_file": gguf} if gguf else {}
    lm = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8, **more)
    wanted = [Instance("loglikelihood", {}, (r.context, r.continuation), i) for i, r in enumerate(requests)]
    return lm.loglikelihood(wanted, disable_tqdm=True)


def compare_with_harness(model: LocalGenerator, folder: Path, gguf: str | None, shared: Path, count: int) -> None:
    items = hellaswag.read(shared, count)
    requests = hellaswag.requests(items)
    first = [ScoreRequest("", items[0]["context"]), ScoreRequest("A trailing space ", "moves over.")]
    theirs = harness(folder, [*requests, *first], gguf)
    ours = model.score([*requests, *first])
    for mine, (logprob, greedy) in zip(ours, theirs, strict=True):
        assert mine.logprob == pytest.approx(logprob, abs=1e-3)
        assert mine.greedy == greedy
    found = hellaswag.accuracies([s.logprob for s in ours], items)
    assert found == hellaswag.accuracies([s[0] for s in theirs], items)


@pytest.fixture(scope="module")
def stories(stories15m: Path):
    model = open_model(stories15m, precision="float32", name="stories15m")
    yield model
    model.close()


def test_stories15m_scores_as_the_harness(stories: LocalGenerator, stories15m: Path, shared: Path) -> None:
    compare_with_harness(stories, stories15m, None, shared, 40)


@pytest.mark.verify
def test_stories15m_scores_200_hellaswag_items_as_the_harness(
    stories: LocalGenerator, stories15m: Path, shared: Path
) -> None:
    compare_with_harness(stories, stories15m, None, shared, 200)


@pytest.mark.verify
def test_smollm2_scores_200_hellaswag_items_as_the_harness(smollm2: Path, shared: Path) -> None:
    model = open_model(smollm2, precision="float32")
    compare_with_harness(model, smollm2.parent, smollm2.name, shared, 200)
    model.close()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_are_bit_equal_in_any_company(stories15m: Path, precision) -> None:
    model = open_model(stories15m, precision=precision)
    shots = "Q: What is red?\nA: A rose.\n\n" * 6
    requests = [
        ScoreRequest(f"{shots}Q: What is {thing}?\nA:", f" A {answer}.")
        for thing in ("blue", "green as the grass in the spring", "cold")
        for answer in ("sky", "frog that sat on a log", "stone", "rose")
    ]
    requests += [ScoreRequest("", "Once upon a time"), ScoreRequest("Once upon a time", " there was a cat.")]
    alone = [model.score([request])[0] for request in requests]
    assert model.score(requests) == alone
    order = list(range(len(requests)))
    for seed in range(3):
        random.Random(seed).shuffle(order)
        for size in (1, 3, 32):
            got = [
                s
                for at in range(0, len(order), size)
                for s in model.score([requests[i] for i in order[at : at + size]])
            ]
            assert got == [alone[i] for i in order]
    assert model._cache.used == 0
    model.close()


def test_what_is_too_long_loses_its_beginning_as_in_the_harness(stories: LocalGenerator, stories15m: Path) -> None:
    request = ScoreRequest("Lily had a big red ball. " * 60, " She liked it.")
    mine = stories.score([request])[0]
    (logprob, greedy) = harness(stories15m, [request])[0]
    assert mine.truncated > 0
    assert mine.logprob == pytest.approx(logprob, abs=1e-3)
    assert mine.greedy == greedy


def test_a_continuation_without_a_token_is_refused(stories: LocalGenerator) -> None:
    with pytest.raises(RequestError, match="Request 2: the continuation"):
        stories.score([ScoreRequest("a", " b"), ScoreRequest("a", "")])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12))
def test_the_tree_spells_every_sequence_and_shares_every_prefix(sequences: list[list[int]]) -> None:
    roots, ends = tree(sequences)
    for sequence, end in zip(sequences, ends, strict=True):
        spelt: tuple[int, ...] = ()
        node = end
        while node is not None:
            assert node.start == len(sequence) - len(spelt) - len(node.tokens)
            spelt, node = node.tokens + spelt, node.parent
        assert list(spelt) == sequence
    stack, total = list(roots), 0
    while stack:
        node = stack.pop()
        total += len(node.tokens)
        assert len({child.tokens[0] for child in node.children}) == len(node.children)
        stack.extend(node.children)
    assert total == len({tuple(s[: i + 1]) for s in sequences for i in range(len(s))})


def test_a_pass_that_raises_leaves_no_blocks_behind(stories: LocalGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [ScoreRequest("a b c d", f" {word}") for word in ("x", "y", "z")]
    with monkeypatch.context() as patched:
        patched.setattr(
            stories.decoder, "exact_logits", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("broken product"))
        )
        with pytest.raises(RuntimeError, match="broken product"):
            stories.score(requests)
    assert stories._cache.used == 0
    assert torch.isfinite(torch.tensor(stories.score(requests)[0].logprob))
