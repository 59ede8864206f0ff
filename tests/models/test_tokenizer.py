"""Ids and texts equal the references': Transformers for folders and GGUF files, sentencepiece for its own models."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from fairground.errors import RequestError, TokenizerError
from fairground.models.tokenizer import Tokenizer

WORDS = """
The old clock in the village hall strikes thirteen at noon, and nobody has ever asked why. A teacher, two nurses and the
baker's daughter agreed (over tea, at half past 4) that it should stay so: "It is ours," they said, "and it's been wrong
since 1887." Children count the strokes aloud: one, two, three, ... twelve, thirteen! Visitors look at their watches,
then at each other; they're puzzled, they'd rather not ask, they won't. In winter the rope freezes and the bell is late
by 3 minutes and 27 seconds. In summer swallows nest behind the dial. The council voted 12 to 5 against repairing it and
spent the money (340 pounds) on books for the school, on paint for the bridge, and on a bench from which the clock can
be seen. The bench is where people meet: young ones in the evening, old ones in the morning, dogs at any time of day.
naïve café, déjà vu; Straße, Größe, Äpfel; señor, mañana; коты и собаки; 時計 と 鐘.
"""
TEXTS = [
    *WORDS.strip().split("\n"),
    *WORDS.split(),
    "",
    " ",
    "   ",
    " leads",
    "trails  ",
    "two  spaces   three",
    "tab\tand\nnewline\n\n 12 345\r\n",
    "🎉🇩🇪👩‍👩‍👧 日本語 e\u0301 \u200d\ufeff \x00",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "they'Re THEY'RE don't",
    "<s>x</s> <unk> <|endoftext|>hi<|im_end|>",
]
KINDS = {"<unk>": 2, "<s>": 3, "</s>": 3}
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.fixture(scope="module")
def transformers_of() -> Callable[..., Any]:
    """Transformers' tokenizer for a folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny byte-level BPE tokenizer, trained on the words above."""
    machine = tokenizers.Tokenizer(models.BPE())
    machine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    machine.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    machine.train_from_iterator(
        [WORDS],
        trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    folder = tmp_path_factory.mktemp("byte-level")
    machine.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": "<|im_start|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"clean_up_tokenization_spaces": True}))
    return folder


@pytest.fixture(scope="module")
def sentencepiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny SentencePiece BPE model with byte fallback, trained as LLaMA's was."""
    return trained(tmp_path_factory.mktemp("sentencepiece"))


def trained(folder: Path, **options: Any) -> Path:
    import sentencepiece

    (folder / "words.txt").write_text(WORDS)
    settings_ = {"model_type": "bpe", "vocab_size": 560, "byte_fallback": True, "split_digits": True}
    settings_ |= {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "minloglevel": 2}
    settings_ |= {"allow_whitespace_only_pieces": True, "character_coverage": 0.98}
    sentencepiece.SentencePieceTrainer.Train(
        input=str(folder / "words.txt"), model_prefix=str(folder / "tokenizer"), **(settings_ | options)
    )
    return folder


def sentencepiece_of(folder: Path) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def gguf_of_bytes(folder: Path, pre: str | None = "gpt-2") -> dict[str, object]:
    """What a GGUF file would say of a folder's byte-level tokenizer."""
    data = json.loads((folder / "tokenizer.json").read_text())
    tokens = sorted(data["model"]["vocab"], key=data["model"]["vocab"].get)
    metadata: dict[str, object] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3 if token.startswith("<|") else 1 for token in tokens]),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in data["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": np.uint32(1),
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    }
    return metadata if pre is None else {**metadata, "tokenizer.ggml.pre": pre}


def gguf_of_pieces(folder: Path) -> dict[str, object]:
    """What a GGUF file would say of a folder's SentencePiece model."""
    model = sentencepiece_of(folder)
    ids = range(model.get_piece_size())
    kinds = [6 if model.is_byte(i) else KINDS.get(model.id_to_piece(i), 1) for i in ids]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": np.array([model.get_score(i) for i in ids], dtype=np.float32),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
    }


def assert_equal(ours: Tokenizer, theirs: Any, texts: list[str]) -> None:
    """Ids, texts with and without special tokens, and streams."""
    all_ids, bare_ids = theirs(texts).input_ids, theirs(texts, add_special_tokens=False).input_ids
    for text, ids, bare in zip(texts, all_ids, bare_ids, strict=True):
        assert ours.encode(text) == ids, text
        assert ours.encode(text, special=False) == bare, text
        for skip in (True, False):
            whole = theirs.decode(ids, skip_special_tokens=skip)
            assert ours.decode(ids, skip_special=skip) == whole, text
            assert streamed(ours, ids, skip) == whole, text


def streamed(tokenizer: Tokenizer, ids: list[int], skip_special: bool = True) -> str:
    stream = tokenizer.stream(skip_special=skip_special)
    return "".join(map(stream.push, ids)) + stream.finish()


@pytest.fixture(scope="module")
def lines(shared: Path) -> list[str]:
    """2,000 lines from all corpora, so that verse, dialogue, mark-up and figures are among them."""
    found = []
    for path in sorted((shared / "data" / "corpora").rglob("*.txt")):
        with path.open(encoding="utf-8", errors="replace") as file:
            found += [line.rstrip("\n") for line in itertools.islice(file, 200)]
    return random.Random(2).sample(found, 2000)


# -- our own fixtures


def test_byte_level_folder(byte_level: Path, transformers_of: Callable[..., Any]) -> None:
    ours = Tokenizer.from_folder(byte_level)
    assert_equal(ours, transformers_of(byte_level), TEXTS)
    assert (ours.bos_id, ours.eos_id, ours.eos_ids, ours.vocab_size) == (1, 0, frozenset({0}), 600)
    assert ours.special_tokens == {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"}
    assert all(ours.decode(ours.encode(text), skip_special=False) == text for text in TEXTS)
    assert ours.count("the clock") == len(ours.encode("the clock", special=False))


@pytest.mark.parametrize("pre", ["gpt-2", "default", None])
def test_byte_level_gguf(byte_level: Path, pre: str | None) -> None:
    folder, gguf = Tokenizer.from_folder(byte_level), Tokenizer.from_gguf(gguf_of_bytes(byte_level, pre))
    assert [gguf.encode(text) for text in TEXTS] == [folder.encode(text) for text in TEXTS]
    assert gguf.eos_ids == {0, 2}, "the template ends turns with <|im_end|>"
    assert gguf.chat_template == TEMPLATE
    with_both = gguf_of_bytes(byte_level) | {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    assert Tokenizer.from_gguf(with_both).encode("the") == [1, *folder.encode("the"), 0]


@pytest.mark.parametrize(
    ("pre", "text", "cuts"),
    [
        ("smollm", "a\n\n123  4", ["a", "\n", "\n", "123", " ", " 4"]),
        ("llama-bpe", "a 12345 they'RE\n\n x", ["a", " ", "123", "45", " they", "'RE", "\n\n", " x"]),
        ("qwen2", "a 12345 b", ["a", " ", "1", "2", "3", "4", "5", " b"]),
        ("tekken", "aB 12/\nHTTPServer", ["a", "B", " ", "1", "2", "/\n", "HTTPServer"]),
        ("gpt-2", "a 12345 they'RE\n\n x", ["a", " 12345", " they", "'", "RE", "\n\n", " x"]),
    ],
)
def test_each_family_cuts_its_own_way(byte_level: Path, pre: str, text: str, cuts: list[str]) -> None:
    """Words by the models' own tokenizer.json; merging never crosses a cut, so encoding cut by cut gives the same."""
    ours = Tokenizer.from_gguf(gguf_of_bytes(byte_level, pre) | {"tokenizer.ggml.add_bos_token": False})
    cut = ours._backend.pre_tokenizer.pre_tokenize_str(text)
    assert [decoders.ByteLevel().decode([word]) for word, _ in cut] == cuts


def test_llama_3_files_add_bos_where_they_do_not_say(byte_level: Path) -> None:
    assert Tokenizer.from_gguf(gguf_of_bytes(byte_level, "llama-bpe")).encode("a")[0] == 1
    assert Tokenizer.from_gguf(gguf_of_bytes(byte_level, "gpt-2")).encode("a")[0] != 1


def test_sentencepiece_model(sentencepiece_folder: Path) -> None:
    reference, ours = sentencepiece_of(sentencepiece_folder), Tokenizer.from_folder(sentencepiece_folder)
    assert ours.vocab_size == 560
    assert (ours.bos_id, ours.eos_ids) == (1, {2})
    gguf = Tokenizer.from_gguf(gguf_of_pieces(sentencepiece_folder))
    for text in TEXTS[:-1]:  # sentencepiece has no notion of special tokens in a text
        ids = reference.encode(text)
        assert ours.encode(text, special=False) == ids, text
        assert ours.encode(text) == [1, *ids], text
        assert gguf.encode(text) == ids, text
        assert ours.decode(ids) == reference.decode(ids) == streamed(ours, ids) == gguf.decode(ids), text


@pytest.mark.parametrize(
    "options",
    [
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": True},
        {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
        {"byte_fallback": False, "vocab_size": 320},
    ],
)
def test_sentencepiece_models_that_normalise_otherwise(tmp_path: Path, options: dict[str, Any]) -> None:
    reference, ours = sentencepiece_of(trained(tmp_path, **options)), Tokenizer.from_folder(tmp_path)
    texts = ["The clock", "half  past 4 ", "ﬁne ① — Ａ", "coté 🎉🎉 x", "o'clock 1887"]
    assert [ours.encode(text, special=False) for text in texts] == [reference.encode(text) for text in texts]


def test_user_defined_pieces_are_found_whole(tmp_path: Path) -> None:
    reference, ours = (
        sentencepiece_of(trained(tmp_path, user_defined_symbols=["<tool>", "clo"])),
        Tokenizer.from_folder(tmp_path),
    )
    for text in ("The clo", "over<tool>", "over<tool><tool>"):
        assert ours.encode(text, special=False) == reference.encode(text)
        assert ours.decode(reference.encode(text)) == text, "they are text, not special"


def test_gguf_without_prefix_space_equals_a_model_without(tmp_path: Path) -> None:
    reference = sentencepiece_of(trained(tmp_path, add_dummy_prefix=False))
    ours = Tokenizer.from_gguf(gguf_of_pieces(tmp_path) | {"tokenizer.ggml.add_space_prefix": False})
    for text in TEXTS[:-1]:
        assert ours.encode(text) == reference.encode(text), text
        assert ours.decode(ours.encode(text)) == reference.decode(reference.encode(text)), text


@pytest.mark.parametrize("which", ["byte_level", "sentencepiece_folder"])
def test_saved_folders_load_in_transformers(
    which: str, tmp_path: Path, request: pytest.FixtureRequest, transformers_of: Callable[..., Any]
) -> None:
    source = Tokenizer.from_folder(request.getfixturevalue(which))
    source.chat_template = TEMPLATE
    source.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')  # as beside a model's weights
    theirs, again = transformers_of(tmp_path), Tokenizer.from_folder(tmp_path)
    assert_equal(source, theirs, TEXTS)
    assert_equal(again, theirs, TEXTS)
    assert (again.bos_id, again.eos_id, again.special_tokens) == (source.bos_id, source.eos_id, source.special_tokens)
    chat = [{"role": "user", "content": "Hi"}]
    assert theirs.apply_chat_template(chat, tokenize=False) == "<|im_start|>user\nHi<|im_end|>\n"
    assert again.chat_template == TEMPLATE


@pytest.mark.parametrize(
    "config",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": "LlamaTokenizerFast", "legacy": True},
        {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False, "pad_token": "<pad>"},
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": {"content": "<s>", "__type": "AddedToken"}},
        {"additional_special_tokens": ["<tool>", "[INST]"], "eos_token": "</s>"},
        {
            "added_tokens_decoder": {
                "900": {"content": "<tool>", "special": False},
                "2": {"content": "</s>", "special": True},
            }
        },
    ],
)
@pytest.mark.parametrize("model_type", ["llama", "mistral", None])
def test_folders_as_auto_tokenizer_reads_them(
    config: dict[str, Any],
    model_type: str | None,
    sentencepiece_folder: Path,
    tmp_path: Path,
    transformers_of: Callable[..., Any],
) -> None:
    if model_type is None:  # Transformers needs one of the two
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    Tokenizer.from_folder(sentencepiece_folder).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "eos_token_id": [7, 8]}))
    ours, theirs = Tokenizer.from_folder(tmp_path), transformers_of(tmp_path)
    assert_equal(ours, theirs, [*TEXTS, "<tool> x<pad>[INST] y [/INST]"])
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert ours.special_tokens == theirs.special_tokens_map
    assert {7, 8} <= ours.eos_ids or model_type is None


def test_gpt2_class_runs_its_own_pre_tokenizer(
    byte_level: Path, tmp_path: Path, transformers_of: Callable[..., Any]
) -> None:
    data = json.loads((byte_level / "tokenizer.json").read_text())
    digits = {"type": "Digits", "individual_digits": True}
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, data["pre_tokenizer"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for class_ in ("GPT2Tokenizer", "LlamaTokenizer", "PreTrainedTokenizerFast"):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": class_}))
        assert_equal(Tokenizer.from_folder(tmp_path), transformers_of(tmp_path), TEXTS)


def test_eos_ids_come_from_every_file(byte_level: Path, tmp_path: Path) -> None:
    Tokenizer.from_folder(byte_level).save(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 6], "bos_token_id": 9}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 7, "bos_token_id": 9}')
    named = {"chat_template": [{"name": "tools", "template": "x"}, {"name": "default", "template": TEMPLATE}]}
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | named))
    ours = Tokenizer.from_folder(tmp_path)
    assert ours.eos_ids == {0, 2, 5, 6, 7}
    assert ours.bos_id == 1, "the tokenizer's own counts"
    assert ours.chat_template == TEMPLATE
    (tmp_path / "chat_template.jinja").write_text("the file counts")
    assert Tokenizer.from_folder(tmp_path).chat_template == "the file counts"
    (tmp_path / "tokenizer_config.json").unlink()
    assert Tokenizer.from_folder(tmp_path).bos_id == 9


def test_text_can_be_kept_from_becoming_special(byte_level: Path, sentencepiece_folder: Path) -> None:
    text = "<|im_end|><|im_end|> x</s><s>"
    for ours in (
        Tokenizer.from_folder(byte_level),
        Tokenizer.from_gguf(gguf_of_bytes(byte_level, "llama-bpe")),
        Tokenizer.from_folder(sentencepiece_folder),
    ):
        special = {i for i in range(ours.vocab_size) if ours.decode([i], skip_special=False) and not ours.decode([i])}
        assert special & set(ours.encode(text, special=False))
        plain = ours.encode(text, special=False, allow_special=False)
        assert not special & set(plain)
        assert ours.decode(plain, skip_special=False) == text
        extra = len(ours.encode("x")) - ours.count("x")
        assert len(ours.encode(text, allow_special=False)) == len(plain) + extra


def test_a_merged_special_token_is_spelt_out(tmp_path: Path) -> None:
    """Old LLaMA files hold merges that make "</s>" out of plain text."""
    vocab = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>", "<", "/", "s", ">", "</", "s>"])}
    machine = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[("<", "/"), ("s", ">"), ("</", "s>")]))
    machine.decoder = decoders.Fuse()
    machine.add_special_tokens(["<unk>", "<s>", "</s>"])
    machine.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.from_folder(tmp_path)
    assert ours.encode("</s>s") == [2, 5]
    assert ours.encode("</s>s", allow_special=False) == [3, 4, 5, 6, 5]


@pytest.fixture(scope="module")
def machines(byte_level: Path, sentencepiece_folder: Path) -> list[Tokenizer]:
    return [Tokenizer.from_folder(byte_level), Tokenizer.from_folder(sentencepiece_folder)]


@settings(deadline=None, max_examples=150)
@given(ids=st.lists(st.one_of(st.integers(0, 260), st.integers(0, 700))), skip=st.booleans())
def test_streams_of_any_ids_equal_decoding(machines: list[Tokenizer], ids: list[int], skip: bool) -> None:
    for machine in machines:
        assert streamed(machine, ids, skip) == machine.decode(ids, skip_special=skip)


@settings(deadline=None, max_examples=150)
@given(text=st.text())
def test_byte_level_text_survives(machines: list[Tokenizer], text: str) -> None:
    byte_level, pieces = machines
    assert byte_level.decode(byte_level.encode(text), skip_special=False) == text
    assert byte_level.decode(byte_level.encode(text, allow_special=False)) == text
    assert pieces.decode(pieces.encode(text, allow_special=False)) == text.replace("\u2581", " ")


def test_a_stream_gives_whole_characters_at_once(machines: list[Tokenizer]) -> None:
    for machine in machines:
        stream = machine.stream()
        ids = machine.encode("né 🎉 ok", special=False)
        pieces = [stream.push(i) for i in ids]
        assert "\ufffd" not in "".join(pieces)
        assert stream.finish() == ""
        cut = machine.stream()
        cut.push(machine.encode("🎉", special=False)[1])
        assert "\ufffd" in cut.finish()


def test_what_cannot_be_encoded_or_decoded(machines: list[Tokenizer]) -> None:
    for machine in machines:
        with pytest.raises(RequestError, match="surrogate"):
            machine.encode("a\ud800")
        with pytest.raises(RequestError, match="token id"):
            machine.decode([-1])
        with pytest.raises(RequestError, match="below 0"):
            machine.stream().push(-1)
        assert machine.decode([10**6]) == machine.stream().push(10**6) == ""


# -- damage

SENTENCE = re.compile(r"^[^.].*[;,(].*\.$", re.S)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"neither tokenizer\.json nor tokenizer\.model") as caught:
        Tokenizer.from_folder(tmp_path)
    assert SENTENCE.match(str(caught.value))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("damage", [b'{"a": ', b"[1]", b"\xff\xfe", b'{"model": {}, "eos_token_id": "x"}'])
def test_damaged_json(byte_level: Path, tmp_path: Path, name: str, damage: bytes) -> None:
    Tokenizer.from_folder(byte_level).save(tmp_path)
    (tmp_path / name).write_bytes(damage)
    if name == "tokenizer_config.json" and b"eos" in damage:
        return  # unknown keys of that file are not ours to judge
    with pytest.raises(TokenizerError, match=name) as caught:
        Tokenizer.from_folder(tmp_path)
    assert SENTENCE.match(str(caught.value))


def test_two_tokens_of_one_id(byte_level: Path, tmp_path: Path) -> None:
    data = json.loads((byte_level / "tokenizer.json").read_text())
    data["model"]["vocab"]["a"] = data["model"]["vocab"]["b"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(TokenizerError, match="two tokens the same id"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    "damage", [{"chat_template": [1]}, {"added_tokens_decoder": {"x": {}}}, {"added_tokens_decoder": [1]}]
)
def test_damaged_config(byte_level: Path, tmp_path: Path, damage: dict[str, object]) -> None:
    Tokenizer.from_folder(byte_level).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(damage))
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert SENTENCE.match(str(caught.value))


def test_damaged_sentencepiece_model(sentencepiece_folder: Path, tmp_path: Path) -> None:
    whole = (sentencepiece_folder / "tokenizer.model").read_bytes()
    for damaged in (b"", whole[:100], whole[:-3], b"\x00" * 50, whole[7:], b"\x08" + b"\xff" * 20):
        (tmp_path / "tokenizer.model").write_bytes(damaged)
        with pytest.raises(TokenizerError, match=r"tokenizer\.model") as caught:
            Tokenizer.from_folder(tmp_path)
        assert SENTENCE.match(str(caught.value))
    trained(tmp_path, model_type="unigram", vocab_size=320)
    with pytest.raises(TokenizerError, match="another algorithm"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model", "t5", "'t5'"),
        ("model", None, "None"),
        ("pre", "klingon", "pre-tokenizer 'klingon'"),
        ("tokens", None, "tokens"),
        ("tokens", [1, 2], "tokens"),
        ("tokens", ["a", "a"], "twice"),
        ("tokens", "abc", "not a list"),
        ("token_type", [1, 1], "2 entries"),
        ("token_type", ["x"] * 600, "not a number"),
        ("merges", ["a b c"], "'a b c'"),
        ("merges", ["zzz yyy"], "merges do not fit"),
        ("merges", None, "merges"),
        ("eos_token_id", 600, "600"),
        ("bos_token_id", -1, "-1"),
        ("bos_token_id", "x", "'x'"),
    ],
)
def test_damaged_gguf(byte_level: Path, key: str, value: object, said: str) -> None:
    metadata = gguf_of_bytes(byte_level) | {f"tokenizer.ggml.{key}": value}
    if key == "tokens" and value == ["a", "a"]:
        metadata["tokenizer.ggml.token_type"] = [1, 1]
    with pytest.raises(TokenizerError, match=re.escape(said)) as caught:
        Tokenizer.from_gguf(metadata)
    assert SENTENCE.match(str(caught.value))


def test_damaged_gguf_scores(sentencepiece_folder: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no entry in tokenizer\.ggml\.scores"):
        Tokenizer.from_gguf(gguf_of_pieces(sentencepiece_folder) | {"tokenizer.ggml.scores": None})


# -- real tokenizers


@pytest.mark.parametrize("name", ["data/tokenizers/gpt2", "data/tokenizers/mistral-v1", "models/stories15m"])
def test_real_folders(shared: Path, lines: list[str], name: str, transformers_of: Callable[..., Any]) -> None:
    ours = Tokenizer.from_folder(shared / name)
    assert_equal(ours, transformers_of(shared / name), [*lines, *TEXTS])


def test_smollm2(lines: list[str], smollm2: Path, transformers_of: Callable[..., Any]) -> None:
    from fairground.models.gguf_file import GGUFFile  # it needs torch, which the rest of these tests does not

    ours = Tokenizer.from_gguf(GGUFFile(smollm2).metadata)
    theirs = transformers_of(smollm2.parent, gguf_file=smollm2.name)
    assert_equal(ours, theirs, [*lines, *TEXTS])
    assert (ours.bos_id, ours.eos_ids, ours.vocab_size) == (1, {2}, 49152)
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.chat_template == theirs.chat_template
