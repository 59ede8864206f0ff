"""Conversations: ids, what of them is learned, loss and gradients, against Transformers and TRL."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_gradients import published_gradients
from test_preference import FAMILIES, said, their_model
from transformers import AutoTokenizer

from fairground.errors import DataError
from fairground.models.chat_template import ChatTemplate
from fairground.models.load import load_folder
from fairground.models.tokenizer import Tokenizer
from fairground.training.chats import tokenize_chat
from fairground.training.objective import LanguageModelling
from fairground.training.tokens import Batches, Tokens, tokenize
from fairground.types import Message

TALK = said(
    "system: You are what the house has.", "user: What is here?", "assistant: A man, and naïve ☃ dogs.",
    "user: And <|im_end|> then?", "assistant: Then time went on.",
)  # fmt: skip
OURS = """{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}\
{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}\
{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
TEMPLATES = ("qwen2_5_training", "qwen3_training", "llama3_training", "phi3_training", "lfm2_training")


def template(name: str) -> str:
    """The one that the text beside has, with its answers marked, or one that TRL keeps for training."""
    if name == "ours":
        return OURS
    return (importlib.resources.files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def messages(talk: list[dict[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in talk)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ours", *TEMPLATES])
@pytest.mark.parametrize("talk", [TALK, TALK[1:3]], ids=["long", "short"])
def test_ids_and_mask_are_those_of_transformers(name: str, talk: list[dict[str, str]], words: Path) -> None:
    theirs: Any = AutoTokenizer.from_pretrained(words).apply_chat_template(
        talk, chat_template=template(name), return_assistant_tokens_mask=True, return_dict=True
    )
    tokenizer = Tokenizer.from_folder(words)
    shown = ChatTemplate(template(name), special_tokens=tokenizer.special_tokens)
    ids, learned = tokenize_chat(messages(talk), tokenizer, shown)
    added = len(ids) - len(theirs["input_ids"])
    assert added in (0, 1)  # some of those end turns with a token that this tokenizer does not have
    assert ids[: len(ids) - added] == theirs["input_ids"]
    assert list(map(int, learned[: len(ids) - added])) == theirs["assistant_masks"]
    assert added == 0 or (ids[-1] == tokenizer.eos_id and learned[-1])
    assert added == 0 or name not in ("ours", "qwen2_5_training")


def test_a_template_without_marks_has_the_same_answers(words: Path) -> None:
    tokenizer = Tokenizer.from_folder(words)
    assert "generation %}" not in (tokenizer.chat_template or "generation %}")
    made = [
        tokenize_chat(messages(TALK), tokenizer, ChatTemplate(source, special_tokens=tokenizer.special_tokens))
        for source in (tokenizer.chat_template, OURS)
    ]
    assert made[0] == made[1]


def test_of_a_template_that_rewrites_turns_the_last_answer_is_learned(words: Path) -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}(said){% else %}"
        "{{ m.role }}: {{ m.content }}<|im_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer = Tokenizer.from_folder(words)
    ids, learned = tokenize_chat(messages(TALK), tokenizer, ChatTemplate(source))
    own = [token for token, counts in zip(ids, learned, strict=True) if counts]
    assert tokenizer.decode(own, skip_special=False) == "Then time went on.<|im_end|>"
    assert "(said)" in tokenizer.decode(ids)


def test_without_a_template_the_plain_form_is_learned_and_ends(words: Path) -> None:
    tokenizer = Tokenizer.from_folder(words)
    ids, learned = tokenize_chat(messages(TALK[1:3]), tokenizer, ChatTemplate(None))
    own = [token for token, counts in zip(ids, learned, strict=True) if counts]
    assert tokenizer.decode(own, skip_special=False) == " A man, and naïve ☃ dogs.<|endoftext|>"
    assert tokenizer.decode(ids) == "User: What is here?\n\nAssistant: A man, and naïve ☃ dogs."


def chats(folder: Path, *talks: list[dict[str, str]]) -> Path:
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks), encoding="utf-8")
    return path


def test_a_conversation_beyond_the_context_is_refused_or_cut(words: Path, tmp_path: Path) -> None:
    tokenizer, path = Tokenizer.from_folder(words), chats(tmp_path, TALK[1:3], TALK)
    whole_ = tokenize([path], tokenizer, context=200)
    lengths = (whole_.starts[1:] - whole_.starts[:-1]).tolist()
    assert lengths[1] > lengths[0] + 1
    with pytest.raises(DataError, match=rf"chats\.jsonl, line 2: {lengths[1] - 1} tokens, more than .*--cut"):
        tokenize([path], tokenizer, context=lengths[1] - 2)
    cut = tokenize([path], tokenizer, context=lengths[1] - 2, cut=True)
    assert cut.ids.tolist() == whole_.ids[:-1].tolist()
    with pytest.raises(DataError, match=r"chats\.jsonl, line 1: no answer of the assistant within 5 tokens"):
        tokenize([path], tokenizer, context=5, cut=True)


def test_a_conversation_without_an_answer_is_named(words: Path, tmp_path: Path) -> None:
    path = chats(tmp_path, TALK, TALK[:2])
    with pytest.raises(DataError, match=r"chats\.jsonl, line 2: nothing to learn, for the assistant says nothing"):
        tokenize([path], Tokenizer.from_folder(words))


@pytest.mark.parametrize("name", FAMILIES)
def test_assistant_only_loss_and_gradients_are_those_of_trl(name: str, words: Path, tmp_path: Path) -> None:
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    talks = [TALK, TALK[1:3]]
    model = their_model(name, Tokenizer.from_folder(words).vocab_size, 0)
    model.save_pretrained(tmp_path / "model")
    settings = SFTConfig(
        output_dir=str(tmp_path / "theirs"), assistant_only_loss=True, per_device_train_batch_size=2, use_cpu=True,
        bf16=False, report_to=[], gradient_checkpointing=False, max_length=None, train_sampling_strategy="sequential",
    )  # fmt: skip
    theirs = AutoTokenizer.from_pretrained(words)
    theirs.chat_template = OURS
    trainer = SFTTrainer(
        model, args=settings, train_dataset=Dataset.from_list([{"messages": talk} for talk in talks]),
        processing_class=theirs,
    )  # fmt: skip
    (batch,) = trainer.get_train_dataloader()
    expected = trainer.compute_loss(trainer.model.train(), batch)
    expected.backward()
    tokens = tokenize([chats(tmp_path, *talks)], Tokenizer.from_folder(words), context=200)
    one = everything(tokens)
    ours = load_folder(tmp_path / "model", "float32").decoder.train()
    total, _ = LanguageModelling()(ours, one)
    (total / one.count).backward()  # type: ignore[no-untyped-call]
    assert float(total.detach()) / one.count == pytest.approx(float(expected.detach()), abs=1e-4)
    gradients = published_gradients(ours)
    for weight_name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(gradients[weight_name], weight.grad, atol=1e-4, rtol=0)


def everything(tokens: Tokens) -> Any:
    (batch,) = Batches(tokens, 10**6, 200, 0).whole()
    return batch
