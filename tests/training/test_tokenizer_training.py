"""A learnt tokenizer loses nothing, is the same one every time, and is the same one in Transformers."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.errors import DataError, RequestError
from fairground.models.chat_template import ChatTemplate
from fairground.models.tokenizer import Tokenizer
from fairground.training.tokenizer import train_tokenizer
from fairground.types import Message

TEXTS = [
    "The old clock in the village hall strikes thirteen at noon, and nobody has ever asked why.",
    'A teacher said (over tea, at half past 4): "It is ours, and it\'s been wrong since 1887."',
    "naïve café; Straße; señor; коты и собаки; 時計 と 鐘 🎉\n\n\tIndented,  twice  spaced.\r\n",
    "They'd rather not ask. 12 345 6.78 <|endoftext|> <|im_end|> x<|im_start|>y",
    "",
    " ",
]


def texts() -> list[str]:
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))) for _ in range(300)]
    return [*TEXTS, *(" ".join(rng.choices(words, k=50)) for _ in range(100))]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(texts(), 700)


def test_special_tokens_and_size(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 700
    assert [tokenizer.decode([i], skip_special=False) for i in range(3)] == [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
    ]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.eos_ids) == (0, 0, {0, 2})
    assert tokenizer.encode("old")[0] == 0
    assert 0 not in tokenizer.encode("old", special=False)


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("1887 or 1887", special=False)
    assert ids[:4] == ids[-4:]
    assert [tokenizer.decode([i]) for i in ids[:4]] == list("1887")


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=300, deadline=None)
def test_nothing_is_lost(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, allow_special=False)
    assert ids[0] == 0
    assert set(ids[1:]).isdisjoint({0, 1, 2})
    assert tokenizer.decode(ids) == text


def test_the_same_text_gives_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "one")
    train_tokenizer(iter(texts()), 700).save(tmp_path / "two")
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == [
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neo", "gptj", "llama", "mistral"])
def test_transformers_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path, model_type: str) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "bos_token_id": 0, "eos_token_id": 0}))
    again = Tokenizer.from_folder(tmp_path)
    for theirs in (AutoTokenizer.from_pretrained(tmp_path), PreTrainedTokenizerFast.from_pretrained(tmp_path)):
        assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, len(theirs)) == (0, 0, 0, 700)
        for text in texts():
            ids = tokenizer.encode(text)
            assert ids == again.encode(text) == theirs(text)["input_ids"]
            assert ids[1:] == theirs(text, add_special_tokens=False)["input_ids"]
            assert again.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_a_conversation_is_written_as_transformers_writes_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    turns = [Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "?")]
    asked = ChatTemplate(tokenizer.chat_template, special_tokens=tokenizer.special_tokens).render(turns)
    assert asked == (
        "<|endoftext|><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n"
    )
    rows = [{"role": turn.role, "content": turn.content} for turn in turns]
    ids = theirs.apply_chat_template(rows, add_generation_prompt=True, return_dict=False)
    assert ids == tokenizer.encode(asked, special=False)


def test_too_little_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"hold only 2.. different tokens, fewer than the 500 asked for; give more text"
    ):
        train_tokenizer(["too little text"], 500)
    with pytest.raises(DataError, match="fewer than the 300 asked for"):
        train_tokenizer([], 300)
    with pytest.raises(RequestError, match="299 tokens cannot hold every byte and learn words; ask for 300 or more"):
        train_tokenizer(["text"], 299)
