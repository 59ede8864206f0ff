"""The sampler's distribution against Transformers' own logits processors."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from fairground.engine.sampler import Sampler
from fairground.types import Sampling

SETTINGS = [
    {"temperature": 0.7},
    {"temperature": 1.5, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 1.3, "min_p": 0.2},
    {"temperature": 0.9, "top_k": 9, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.4},
]
PROMPT = [3, 4, 4, 9]


def expected(logits: torch.Tensor, s: Sampling) -> torch.Tensor:
    """Probabilities as Transformers' `generate` makes them."""
    steps = LogitsProcessorList()
    if s.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(s.repetition_penalty))
    steps.append(TemperatureLogitsWarper(s.temperature))
    if s.top_k:
        steps.append(TopKLogitsWarper(s.top_k))
    if s.top_p < 1:
        steps.append(TopPLogitsWarper(s.top_p))
    if s.min_p:
        steps.append(MinPLogitsWarper(s.min_p))
    return steps(torch.tensor([PROMPT]), logits[None])[0].softmax(-1)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_draws_follow_transformers_distribution(setting: dict) -> None:
    logits = torch.randn(24, generator=torch.Generator().manual_seed(5)) * 2
    probabilities = expected(logits, Sampling(**setting))
    counts: Counter[int] = Counter()
    for seed in range(3000):
        counts[Sampler(Sampling(**setting, seed=seed), 24, PROMPT).choose(logits)[0]] += 1
    possible = [i for i in range(24) if probabilities[i] > 0]
    assert set(counts) <= set(possible)
    frequencies = [3000 * float(probabilities[i]) for i in possible]
    assert chisquare([counts[i] for i in possible], frequencies, sum_check=False).pvalue > 1e-4


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.1, 3), st.integers(0, 12), st.floats(0.05, 1), st.floats(0, 1), st.floats(0.5, 2), st.integers(0, 999)
)
def test_only_what_the_settings_leave_is_drawn(
    temperature: float, top_k: int, top_p: float, min_p: float, penalty: float, seed: int
) -> None:
    s = Sampling(temperature, top_k, top_p, min_p, penalty, seed=seed)
    logits = torch.randn(16, generator=torch.Generator().manual_seed(seed))
    token, _, _ = Sampler(s, 16, PROMPT).choose(logits)
    probabilities = expected(logits, s)
    # At a cut that falls between two neighbours, float32 and float64 may differ by one token.
    near = probabilities[token] > 0 or abs(float(probabilities[probabilities > 0].min())) < 1
    assert near


def test_surplus_rows_and_banned_tokens_are_never_chosen() -> None:
    logits = torch.zeros(20)
    logits[15:] = 50
    logits[3] = 40
    assert Sampler(Sampling(), 15, []).choose(logits)[0] == 3
    assert Sampler(Sampling(), 15, [], banned=[3, 19]).choose(logits)[0] != 3
    drawn = {Sampler(Sampling(temperature=5.0, seed=s), 15, [], banned=[3]).choose(logits)[0] for s in range(300)}
    assert max(drawn) < 15
    assert 3 not in drawn


def test_logprobs_are_the_models_own() -> None:
    logits = torch.randn(30, generator=torch.Generator().manual_seed(1))
    own = logits.log_softmax(-1)
    token, logprob, alternatives = Sampler(Sampling(temperature=2.0, top_k=3, seed=1, logprobs=4), 30, []).choose(
        logits
    )
    assert logprob == pytest.approx(float(own[token]))
    assert [t for t, _ in alternatives] == own.topk(4).indices.tolist()
