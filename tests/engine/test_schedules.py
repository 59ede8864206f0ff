"""Random schedules of every family write, token by token, what Transformers writes of each prompt alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from configurations import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.engine.cache import Cache
from fairground.engine.runner import Runner
from fairground.engine.scheduler import Scheduler, Text
from fairground.models.decoder import Decoder
from fairground.models.load import load_folder

VOCABULARY, NEW = 97, 24
FAMILIES = [
    "gpt2", "gpt-neo-local", "gpt-neo-mixed", "gpt-j", "llama-grouped-tied", "llama-dynamic", "mistral-window",
    "mistral-narrow-window",
]  # fmt: skip


@pytest.fixture(params=FAMILIES, scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[int]], Decoder]:
    theirs = reference(request.param)
    folder: Path = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    return [alone(theirs, prompt) for prompt in prompts()], load_folder(folder, "float32").decoder


def prompts() -> list[list[int]]:
    """Some share a beginning, some are short, some longer than a window."""
    chance = random.Random(1)
    common = [chance.randrange(VOCABULARY) for _ in range(50)]
    return [common[:shared] + [chance.randrange(VOCABULARY) for _ in range(own)] for shared, own in
            [(50, 3), (50, 7), (48, 1), (0, 1), (0, 17), (33, 30), (20, 60), (50, 3)]]  # fmt: skip


@torch.inference_mode()
def alone(model: torch.nn.Module, prompt: list[int]) -> list[int]:
    """Without a cache: with one, a window of 1 makes Transformers differ from itself."""
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64), max_new_tokens=NEW,
        use_cache=False, do_sample=False, num_beams=1, repetition_penalty=1.0, eos_token_id=-1, pad_token_id=0,
    )  # fmt: skip
    return out[0, len(prompt) :].tolist()


@torch.inference_mode()
def write(decoder: Decoder, tokens: int, step: int, chance: random.Random) -> tuple[list[list[int]], int, int]:
    """What is written, how often a text gave way, and how many tokens were read instead of computed."""
    cache = Cache(decoder.config, torch.float32, tokens=tokens)
    scheduler = Scheduler(cache.pools, cache.windows, most_running=5, step_tokens=step, mixed_tokens=max(2, step // 3))
    runner = Runner(decoder, cache, exact=True)
    arriving = [Text(list(prompt)) for prompt in prompts()]
    texts, written = list(arriving), {text: [] for text in arriving}
    chance.shuffle(arriving)
    cut = chance.choice(texts)  # goes away on the way
    while arriving or scheduler.running or scheduler.waiting:
        while arriving and chance.random() < 0.4:
            scheduler.add(arriving.pop())
        chunks = scheduler.schedule()
        if not chunks:
            continue
        logits = runner.run(chunks)
        whole = [chunk.text for chunk in chunks if chunk.whole]
        scheduler.ran(chunks)
        for text, token in zip(whole, logits.argmax(-1).tolist(), strict=True):
            text.tokens.append(token)
            written[text].append(token)
            if len(written[text]) == (5 if text is cut else NEW):
                scheduler.remove(text)
    assert cache.used == 0
    return list(written.values()), scheduler.preemptions, sum(text.reused or 0 for text in texts)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), tokens=st.sampled_from([160, 224, 4096]), step=st.sampled_from([5, 16, 40, 2048]))
def test_any_schedule_writes_the_same(pair: tuple, seed: int, tokens: int, step: int) -> None:
    expected, ours = pair
    got, _, _ = write(ours, tokens, step, random.Random(seed))
    for own, whole in zip(got, expected, strict=True):
        assert own == whole[: len(own)]
    assert sorted(len(own) for own in got) == [5, *[NEW] * 7]


def test_such_schedules_do_preempt_and_do_reuse(pair: tuple) -> None:
    """Else the test above would say nothing of either."""
    _, preemptions, _ = write(pair[1], 160, 40, random.Random(0))
    _, _, reused = write(pair[1], 4096, 40, random.Random(0))
    assert preemptions > 0 or None not in pair[1].config.windows  # a window's layers hold too little to run out
    assert reused > 100
