"""Agreement with held-out votes: log-probabilities are Transformers', and rewards are what their definition says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import write_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairground.engine.local import open_model
from fairground.evaluation.baseline import UniformGuesser
from fairground.loop.held_out import agreement, answer_lead, answer_logprobs, judged, messages, written
from fairground.types import Message, Sampling, Score, ScoreRequest

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def row(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


ROWS = [row("why", "abab", "z"), row("how", "b a", "abab b")]


def test_log_probabilities_are_those_of_transformers(tmp_path: Path) -> None:
    """Of the answer's tokens, its end included, after the prompt as the template puts it."""
    folder = write_folder(tmp_path / "tiny", template=TEMPLATE)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(folder)
    model = open_model(folder, precision="float32", threads=1)
    try:
        assert answer_lead(model) == " "
        found = answer_logprobs(model, ROWS)
    finally:
        model.close()
    for one, both in zip(ROWS, found, strict=True):
        before = words.apply_chat_template(one["prompt"], add_generation_prompt=True, tokenize=False)
        begin = len(words(before, add_special_tokens=False).input_ids)
        for side, ours in zip(("chosen", "rejected"), both, strict=True):
            text = words.apply_chat_template([*one["prompt"], *one[side]], tokenize=False)
            ids = torch.tensor([words(text, add_special_tokens=False).input_ids])
            with torch.no_grad():
                each = theirs(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            assert ours == pytest.approx(float(each[begin - 1 :].sum()), abs=1e-3)


def test_a_model_agrees_where_its_reward_is_greater_for_what_was_chosen() -> None:
    before = [(-5.0, -4.0), (-3.0, -3.0)]
    assert [value for value, _ in agreement(ROWS, [(-4.0, -4.5), (-9.0, -3.5)], before)] == [1.0, 0.0]
    assert [value for value, _ in agreement(ROWS, before, before)] == [0.5, 0.5], "nothing learned is no reward"
    assert [value for value, _ in agreement(ROWS, [(-6.0, -6.0), (-2.0, -2.0)], before)] == [1.0, 0.5]
    groups = [group for _, group in agreement([*ROWS, row(" WHY ", "x", "y")], [(0, 0)] * 3, [(0, 0)] * 3)]
    assert groups[0] == groups[2] != groups[1]


class Says(UniformGuesser):
    """A judge that is sure of one verdict, whatever it sees, or of the answer with the most letters a."""

    def __init__(self, verdict: str) -> None:
        super().__init__()
        self._verdict = verdict

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        found = []
        for request in requests:
            first, second = request.context.split("[Answer B]")
            wanted = self._verdict or ("A" if first.rpartition("[Answer A]")[2].count("a") > second.count("a") else "B")
            found.append(Score(0.0 if request.continuation.strip() == wanted else -9.0, False, 1))
        return found


def test_a_judge_is_asked_in_both_orders() -> None:
    """A liking for a place decides nothing; a liking for an answer does, wherever it stands."""
    prompts = [messages(one["prompt"]) for one in ROWS]
    assert judged(Says("A"), prompts, ["abab", "b"], ["z", "aaaaaaaaa"]) == [(0.5, "0"), (0.5, "1")]
    assert judged(Says(""), prompts, ["a" * 99, "b"], ["z", "a" * 99]) == [(1.0, "0"), (0.0, "1")]


def test_answers_are_those_of_their_seeds(tmp_path: Path) -> None:
    model = open_model(write_folder(tmp_path / "tiny"), precision="float32", threads=1)
    prompts = [(Message("user", "why"),), (Message("user", "why"),)]
    sampling = Sampling(temperature=1.0, max_tokens=6, seed=3)
    try:
        first, again = written(model, prompts, sampling), written(model, prompts[:1], sampling)
    finally:
        model.close()
    assert first[0] == again[0]
    assert first[0] != first[1]
