"""The catalogue's facts, names, and references."""

from __future__ import annotations

import pytest

from fairground.errors import UnknownModel
from fairground.hub.catalogue import catalogue, lookup, resolve
from fairground.hub.installed import State, locate, state
from fairground.training.sizes import new_config


def llama(*, hidden: int, layers: int, inner: int, key_values: int, vocabulary: int, tied: bool) -> int:
    attention = 2 * hidden * hidden + 2 * hidden * key_values
    block = attention + 3 * hidden * inner + 2 * hidden
    return vocabulary * hidden * (1 if tied else 2) + layers * block + hidden


def gpt(*, hidden: int, layers: int, positions: int, attention_biases: int) -> int:
    block = 4 * hidden * hidden + attention_biases * hidden + 8 * hidden * hidden + 5 * hidden + 4 * hidden
    return (50257 + positions) * hidden + layers * block + 2 * hidden


def gpt_j() -> int:
    hidden, vocabulary = 4096, 50400
    block = 4 * hidden * hidden + 8 * hidden * hidden + 5 * hidden + 2 * hidden
    return vocabulary * hidden + 28 * block + 2 * hidden + vocabulary * hidden + vocabulary


def new_model(name: str) -> int:
    return new_config(name, vocab_size=4096, context_length=512).parameter_count()


# From the config.json that each publisher gives: the counts must follow from the shapes.
COUNTS = {
    "smollm2": llama(hidden=576, layers=30, inner=1536, key_values=192, vocabulary=49152, tied=True),
    "smollm2-360m": llama(hidden=960, layers=32, inner=2560, key_values=320, vocabulary=49152, tied=True),
    "smollm2-1.7b": llama(hidden=2048, layers=24, inner=8192, key_values=2048, vocabulary=49152, tied=True),
    "tinyllama": llama(hidden=2048, layers=22, inner=5632, key_values=256, vocabulary=32000, tied=False),
    "llama-3.2-1b": llama(hidden=2048, layers=16, inner=8192, key_values=512, vocabulary=128256, tied=True),
    "llama-3.1-8b": llama(hidden=4096, layers=32, inner=14336, key_values=1024, vocabulary=128256, tied=False),
    "mistral-7b": llama(hidden=4096, layers=32, inner=14336, key_values=1024, vocabulary=32768, tied=False),
    "gpt-neo-125m": gpt(hidden=768, layers=12, positions=2048, attention_biases=1),
    "gpt-neo-2.7b": gpt(hidden=2560, layers=32, positions=2048, attention_biases=1),
    "gpt-j-6b": gpt_j(),
    "gpt2": gpt(hidden=768, layers=12, positions=1024, attention_biases=4),
    "stories15m": llama(hidden=288, layers=6, inner=768, key_values=288, vocabulary=32000, tied=True),
    "commons-gpt2-4m": new_model("gpt2:4m"),
    "commons-gpt-neo-4m": new_model("gpt-neo:4m"),
    "commons-gpt-j-4m": new_model("gpt-j:4m"),
    "commons-llama-4m": new_model("llama:4m"),
    "commons-mistral-4m": new_model("mistral:4m"),
}
COUNTED = {"commons-5gram"}  # has as many as its text has n-grams; tests/hub/test_bundled.py counts them in the file


def test_parameter_counts_follow_from_the_published_shapes() -> None:
    assert {entry.name: entry.parameters for entry in catalogue() if entry.name not in COUNTED} == COUNTS


def test_every_entry_is_complete() -> None:
    for entry in catalogue():
        assert entry.title
        assert entry.licence
        assert entry.description.endswith(".")
        assert entry.source.endswith(".")
        assert entry.family in {"LLaMA", "Mistral", "GPT-Neo", "GPT-J", "GPT-2", "5-gram"}
        if entry.repository is None:
            assert entry.bundled is not None
            continue
        assert entry.repository.repo.count("/") == 1
        assert entry.download_bytes > entry.parameters  # one byte a parameter is less than any of them is published in
        assert state(entry.name) == State(False)
        assert str(state(entry.name)) == "not pulled"


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("smolm2", "smollm2"), ("TinyLlama", "tinyllama"), ("gpt_j_6b", "gpt-j-6b")]
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(UnknownModel, match=f"did you mean {nearest}.*`fairground models` lists them"):
        lookup(wrong)
    assert locate(wrong) is None


def test_a_name_like_no_other_suggests_nothing() -> None:
    with pytest.raises(UnknownModel, match="'qqqqqq'; `fairground models`"):
        lookup("qqqqqq")


def test_a_hub_reference_names_its_repository_revision_and_folder() -> None:
    target = resolve("hf:org/name")
    assert target.repository is not None
    assert (target.repository.repo, target.repository.revision) == ("org/name", "main")
    assert target.folder == "hf/org--name@main"
    assert resolve("hf:org/name@refs/pr/1").folder == "hf/org--name@refs%2Fpr%2F1"


@pytest.mark.parametrize(
    "ref",
    ["hf:", "hf:name", "hf:a/b/c", "hf:../etc", "hf:org/..", "hf:org/na..me", "hf:org/name@", "hf:org/name@../../x",
     "hf:org/name@/x", "hf:org\\x/name", "hf:org/n ame", "hf:org--x/name", "../smollm2", "/etc/passwd", ""],
)  # fmt: skip
def test_a_malformed_reference_is_refused(ref: str) -> None:
    with pytest.raises(UnknownModel):
        resolve(ref)
