"""N-gram models: KenLM's and nltk's probabilities, a worked example, sums of 1, and files that are what they say."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.lm import KneserNeyInterpolated, Vocabulary
from nltk.util import ngrams
from safetensors.numpy import load_file, save_file

from fairground.errors import ConfigError, DataError, ModelError
from fairground.models.ngram import NGram, fit, load, save

BOS, EOS = 0, 1
RHYME = Path(__file__).parent / "kenlm"


class Arpa:
    """A back-off model as KenLM writes it, read the plain way: stored, or else back off to the shorter context."""

    def __init__(self, path: Path) -> None:
        self.logprobs: dict[tuple[str, ...], float] = {}
        self.backoffs: dict[tuple[str, ...], float] = {}
        for line in path.read_text().splitlines():
            if len(parts := line.split("\t")) > 1:
                words = tuple(parts[1].split())
                self.logprobs[words] = float(parts[0]) * math.log(10)
                self.backoffs[words] = float(parts[2]) * math.log(10) if len(parts) > 2 else 0.0

    def logprob(self, words: tuple[str, ...]) -> float:
        return self.logprobs[words] if words in self.logprobs else (
            self.backoffs.get(words[:-1], 0.0) + self.logprob(words[1:])
        )  # fmt: skip


@pytest.mark.parametrize(("file", "prune"), [("whole.arpa", None), ("pruned.arpa", (1, 2, 3, 3))])
def test_probabilities_are_those_of_kenlm(file: str, prune: tuple[int, ...] | None) -> None:
    """KenLM's lmplz on a nursery rhyme: discounts of two orders are estimated, those of two are the fallback.

    The files were made by `lmplz -o 4 --discount_fallback [--prune 0 1 2 2] < text.txt` (version 0.3.0), and have seven
    digits. KenLM never predicts <s>, but predicts <unk>; our bos, which nothing predicts either, has <unk>'s place.
    """
    arpa = Arpa(RHYME / file)
    lines = [line.split() for line in (RHYME / "text.txt").read_text().splitlines()]
    words = ["<s>", "</s>", *sorted({word for line in lines for word in line})]
    ids = {word: id_ for id_, word in enumerate(words)}
    model = fit([[ids[w] for w in line] for line in lines], len(words), order=4, bos_id=BOS, eos_id=EOS, prune=prune)
    contexts = {("<s>", *line)[:end][-3:] for line in lines for end in range(1, len(line) + 2)}
    contexts |= {tuple(random.Random(seed).choices(words[2:], k=3)) for seed in range(50)} | {()}
    for context in sorted(contexts):
        theirs = [arpa.logprob((*context, "<unk>" if word == "<s>" else word)) for word in words]
        assert model.log_probs([ids[word] for word in context]) == pytest.approx(theirs, abs=3e-6)
    stored = [sum(len(ngram) == n for ngram in arpa.logprobs) for n in (2, 3, 4)]
    assert [len(level.keys) for level in model.levels] == stored


@pytest.mark.parametrize("order", [2, 3, 4])
def test_one_discount_gives_the_probabilities_of_nltk(order: int) -> None:
    """nltk's interpolated Kneser-Ney has one discount and leaves unigrams as they are.

    Contexts at a text's beginning are compared for bigrams only: above them nltk wants order - 1 bos and takes what
    follows them at full length, where one bos is enough for us (and for KenLM).
    """
    chance, discount, size = random.Random(order), 0.3, 6
    texts = [[chance.choice([1, 1, 2, 3, 3, 4, 5]) for _ in range(chance.randint(1, 25))] for _ in range(12)]
    theirs = KneserNeyInterpolated(order, discount, vocabulary=Vocabulary([str(i) for i in range(size)], unk_cutoff=1))
    for text in texts:
        padded = [str(token) for token in ([0] * (order - 1) + text + [0])]
        for n in range(1, order + 1):
            theirs.counts.update([ngrams(padded[order - n :], n)])
    ours = fit(texts, size, order=order, bos_id=0, eos_id=0, discounts=[(0, 0, 0), *[(discount,) * 3] * (order - 1)])
    contexts = {tuple(text[at : at + n]) for text in texts for n in range(order) for at in range(len(text))}
    contexts |= {tuple(chance.choices(range(1, size), k=order - 1)) for _ in range(20)}
    for context in contexts | ({(0,)} if order == 2 else set()):
        expected = [theirs.score(str(token), [str(c) for c in context]) for token in range(size)]
        assert np.exp(ours.log_probs(context)) == pytest.approx(expected, abs=1e-6)


def test_a_worked_example() -> None:
    """Three texts, "a b", "a b" and "a c", by hand.

    Unigrams are counted by what comes before them: a 1, b 1, c 1, eos 2, together 5. No count is 3, so the discounts
    are the fallback: 1/2 and 1; they leave (3/2 + 1)/5 = 1/2, a tenth for each of five tokens. p(b) = 1/10 + 1/10.

    Bigrams: bos a 3, a b 2, a c 1, b eos 2, c eos 1. Two are single, two double, one triple: Y = 2/(2 + 4) = 1/3,
    D1 = 1 - 2/3 = 1/3, D2 = 2 - 3/3 * 1/2 = 3/2, D3+ = 3. After a they leave (1/3 + 3/2)/3 = 11/18.
    """
    a, b, c = 2, 3, 4
    model = fit([[a, b], [a, b], [a, c]], 5, order=2, bos_id=BOS, eos_id=EOS)
    unigrams = [1 / 10, 3 / 10, 2 / 10, 2 / 10, 2 / 10]
    assert np.exp(model.log_probs([])) == pytest.approx(unigrams)
    after_a = [11 / 180, 33 / 180, 22 / 180, (2 - 3 / 2) / 3 + 22 / 180, (1 - 1 / 3) / 3 + 22 / 180]
    assert np.exp(model.log_probs([a])) == pytest.approx(after_a)
    assert np.exp(model.log_probs([BOS])) == pytest.approx(unigrams)  # a count of 3, less 3, leaves all to unigrams


texts = st.lists(st.lists(st.integers(2, 7), max_size=12), min_size=1, max_size=12).filter(any)
cutoffs = st.lists(st.integers(0, 1), max_size=3).map(lambda steps: (1, *accumulate(steps, initial=1)))


@settings(max_examples=40, deadline=None)
@given(texts, cutoffs, st.lists(st.integers(0, 7), max_size=6))
def test_distributions_sum_to_1_pruned_or_not_fresh_or_read(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[int]], cutoffs: tuple[int, ...], context: list[int]
) -> None:
    model = fit(texts, 8, order=len(cutoffs), bos_id=BOS, eos_id=EOS, prune=cutoffs)
    folder = tmp_path_factory.mktemp("model")
    save(model, folder)
    read = load(folder)
    for each in (model, read):
        for tokens in (context, [BOS], [BOS, *texts[0]], texts[-1]):
            log_probs = each.log_probs(tokens)
            assert log_probs.shape == (8,)
            assert np.isfinite(log_probs).all()
            assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-6)
    # Rounding is by at most half a step of either code, so no probability is off by more than the two together.
    assert read.log_probs(context) == pytest.approx(model.log_probs(context), abs=0.2)
    save(read, folder)
    again = load(folder)
    assert again.log_probs(context) == pytest.approx(read.log_probs(context), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(texts, texts, st.integers(1, 5))
def test_scoring_at_once_is_scoring_token_by_token(texts: list[list[int]], held: list[list[int]], order: int) -> None:
    model = fit(texts, 8, order=order, bos_id=BOS, eos_id=EOS)
    whole = [[BOS, *text, EOS] for text in held]
    starts = list(accumulate((len(text) for text in whole[:-1]), initial=0))
    expected = [model.log_probs(text[:at])[token] for text in whole for at, token in enumerate(text)]
    assert model.score([token for text in whole for token in text], starts) == pytest.approx(expected, abs=1e-9)


def test_a_longer_memory_predicts_better() -> None:
    """The rhyme's last verse, which repeats all others, given those."""
    lines = [line.split() for line in (RHYME / "text.txt").read_text().splitlines()]
    ids = {word: id_ for id_, word in enumerate(sorted({w for line in lines for w in line}), 2)}
    tokens = [[ids[word] for word in line] for line in lines]
    held = [token for text in tokens[-11:] for token in (BOS, *text, EOS)]
    starts = [at for at, token in enumerate(held) if token == BOS]
    losses = []
    for order in (1, 2, 3):
        model = fit(tokens[:-11], len(ids) + 2, order=order, bos_id=BOS, eos_id=EOS)
        losses.append(-np.delete(model.score(held, starts), starts).mean())
    assert math.log(len(ids) + 2) > losses[0] > 2 * losses[1] > 2 * losses[2]


def test_a_size_is_kept(tmp_path: Path) -> None:
    chance = random.Random(5)
    texts = [[min(99, int(chance.expovariate(0.1)) + 2) for _ in range(200)] for _ in range(100)]
    sizes = []
    for most in (300_000, 60_000, 20_000, 10_000):
        save(fit(texts, 100, bos_id=BOS, eos_id=EOS, max_bytes=most), tmp_path)
        sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
        assert sizes[-1] <= most
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] > 20_000
    with pytest.raises(ConfigError, match="does not fit 5000 bytes"):
        fit(texts, 100, bos_id=BOS, eos_id=EOS, max_bytes=5000)


def test_a_vocabulary_too_large_for_five_tokens_in_64_bits() -> None:
    size = 50_257
    model = fit([[50_000, 40_000, 50_256, 7, 30_000] * 3], size, order=5, bos_id=size - 1, eos_id=size - 1)
    assert model.log_probs([50_000, 40_000, 50_256, 7]).argmax() == 30_000


@pytest.mark.parametrize(
    ("settings_", "named"),
    [
        ({"order": 0}, "order from 1"),
        ({"order": 20}, "order 20"),
        ({"vocab_size": 70_000}, "70000 tokens"),
        ({"bos_id": 8}, "bos 8"),
        ({"prune": (1, 2)}, "3 numbers"),
        ({"prune": (1, 3, 2)}, "never fall"),
        ({"prune": (2, 2, 2)}, "begin with 1"),
        ({"prune": (1, 2, 2), "max_bytes": 10_000}, "one of them"),
        ({"discounts": [(0.5, 1, 1.5)]}, "3 triples"),
        ({"discounts": [(0.5, 1, 1.5), (0, 1, 1.5), (0.5, 1, 1.5)]}, "above 0"),
        ({"discounts": [(0, 0, 0), (0.5, 1, 1.5), (0.5, 1, 1.5)]}, "token 0 would be impossible"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings_: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        fit([[2, 3, 4]], **({"vocab_size": 8, "order": 3, "bos_id": BOS, "eos_id": EOS} | settings_))


@pytest.mark.parametrize(
    ("texts", "named"), [([[2], [3, 8]], "Document 2 holds the token id 8"), ([[], []], "no token"), ([], "no token")]
)
def test_documents_that_cannot_be_counted(texts: list[list[int]], named: str) -> None:
    with pytest.raises(DataError, match=named):
        fit(texts, 8, bos_id=BOS, eos_id=EOS)


def test_ids_outside_the_vocabulary_are_not_scored() -> None:
    model = fit([[2, 3, 4]], 8, bos_id=BOS, eos_id=EOS)
    assert model.score([]).shape == (0,)
    with pytest.raises(DataError, match="8 is outside"):
        model.score([2, 8])
    with pytest.raises(DataError, match="-1 is outside"):
        model.log_probs([-1])


# Damaged folders.


def with_table(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tables = load_file(folder / "model.safetensors")
        changed = change(tables.pop(name, np.zeros(1, np.uint8)))
        save_file(tables if changed is None else tables | {name: changed}, folder / "model.safetensors")

    return damage


def with_config(**fields: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | fields))

    return damage


def put(values: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda table: np.array([*values, *table[len(values) :]], table.dtype)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "truncated": (lambda f: (w := f / "model.safetensors").write_bytes(w.read_bytes()[:-9]), "truncated"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "another model": (with_config(model_type="llama"), "'llama'"),
    "no order": (with_config(order=None), "order"),
    "order of a billion": (with_config(order=10**9), "order"),
    "a vocabulary of text": (with_config(vocab_size="8"), "vocab_size"),
    "bos outside": (with_config(bos_token_id=8), "bos_token_id"),
    "another vocabulary": (with_config(vocab_size=7), "unigrams"),
    "a higher order": (with_config(order=4), "lacks the table 'tokens.4'"),
    "a lower order": (with_config(order=2), "'backoffs.3', which such a model does not have"),
    "missing": (with_table("ratios.2", lambda t: None), "ratios.2"),
    "extra": (with_table("extra", lambda t: t), "'extra'"),
    "short": (with_table("ratios.3", lambda t: t[1:]), "ratios.3"),
    "another kind": (with_table("ratios.3", lambda t: t.astype(np.int8)), "ratios.3"),
    "square": (with_table("ratios.3", lambda t: t[:, None].copy()), "ratios.3"),
    "NaN": (with_table("unigrams", put([math.nan])), "unigrams"),
    "infinity": (with_table("unigrams", put([-math.inf])), "unigrams"),
    "above 0": (with_table("unigrams", put([1.0])), "unigrams"),
    "too likely": (with_table("unigrams", put([-0.1])), "sum to 1"),
    "out of order": (with_table("tokens.2", lambda t: t[::-1].copy()), "ascending order"),
    "token outside": (with_table("tokens.3", put([60_000])), "outside the vocabulary"),
    "contexts that do not match": (with_table("lasts.2", put([255])), "contexts"),
    "an n-gram without a context": (with_table("contexts.3", lambda t: t * 0), "backoffs.3"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(fit([[2, 3, 4, 2, 3, 5], [2, 5, 6], [3, 4]], 8, order=3, bos_id=BOS, eos_id=EOS), tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_folders_get_a_sentence(folder: Path, case: str) -> None:
    damage, named = DAMAGE[case]
    damage(folder)
    with pytest.raises(ModelError, match=named):
        load(folder)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_byte_changed_is_refused_or_still_a_model(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("model")
    save(fit([[2, 3, 4, 2, 3, 5], [2, 5, 6], [3, 4]], 8, order=3, bos_id=BOS, eos_id=EOS), folder)
    file = folder / "model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(whole)
    try:
        model = load(folder)
    except ModelError:
        return
    for context in ([], [BOS, 2], [2, 3], [4]):
        assert np.exp(model.log_probs(context)).sum() == pytest.approx(1, abs=1e-6)


def test_a_save_that_fails_leaves_no_config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: NGram = load(folder)
    monkeypatch.setattr("fairground.models.ngram.file.write_json", lambda *a: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save(model, folder)
    assert not (folder / "config.json").exists()
