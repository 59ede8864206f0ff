"""Acceptability of sentences: the measures by hand, the unigrams, the intervals, and whether the good sentence wins."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bigram_model import Bigram, Stream

from fairground.errors import CapabilityError, DataError, RequestError, SuiteError
from fairground.evaluation.acceptability import acceptability, mean_lp, shuffled, slor
from fairground.evaluation.bits_per_byte import bits_per_byte, document_bits
from fairground.evaluation.intervals import cluster_bootstrap
from fairground.evaluation.minimal_pairs import preference, read_pairs
from fairground.evaluation.ratios import Ratios
from fairground.evaluation.splitting import is_complete, sentences
from fairground.evaluation.unigrams import Unigrams, words
from fairground.hub.reference import Reference
from fairground.types import Capabilities, Completion, Request, Score, ScoreRequest, Timing

ROOT = Path(__file__).resolve().parents[2]


class Told(Bigram):
    """A scorer whose log-likelihoods a function gives; words are its tokens."""

    def __init__(self, told: Callable[[str], float], can: Capabilities | None = None) -> None:
        super().__init__(can=can)
        self.told, self.asked = told, list[ScoreRequest]()

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        self.asked += requests
        return [Score(self.told(r.continuation), False, len(r.continuation.split())) for r in requests]


def test_unigrams_by_hand() -> None:
    # "a" twice and "b" once: N = 3, T = 2. The kinds' letters are a, b and two ends; each plus one, and one for all
    # others, makes 8: a 2/8, b 2/8, end 3/8, any other 1/8.
    unigrams = Unigrams(["A b", "a"])
    assert (unigrams.words, unigrams.kinds) == (3, 2)
    assert unigrams.word("a") == pytest.approx(math.log((2 + 2 * (2 / 8) * (3 / 8)) / 5))
    assert unigrams.word("b") == pytest.approx(math.log((1 + 2 * (2 / 8) * (3 / 8)) / 5))
    assert unigrams.word("ab") == pytest.approx(math.log(2 * (2 / 8) ** 2 * (3 / 8) / 5))
    assert unigrams.word("z") == pytest.approx(math.log(2 * (1 / 8) * (3 / 8) / 5))
    assert unigrams.log_prob("B a!") == pytest.approx(sum(map(unigrams.word, "ba!")))
    assert math.isfinite(unigrams.word("z" * 10_000))


def test_unigrams_are_a_distribution() -> None:
    unigrams = Unigrams(["a b", "a"])
    spelt = [""]
    total = 0.0
    for _ in range(12):
        # "z" stands for all other characters, which have one probability together.
        spelt = [before + letter for before in spelt for letter in "abz"] if len(spelt) < 5_000 else []
        total += sum(math.exp(unigrams.word(word)) for word in spelt)
    # What is left over is the empty word, which no text has, and words of more than eight letters.
    assert total == pytest.approx(1 - 2 * (3 / 8) / 5 - 2 * (5 / 8) ** 9 / 5)


def test_words_know_apostrophes_and_marks() -> None:
    assert words('Don’t say "No, it\'s 1_2!"') == ["don't", "say", '"', "no", ",", "it's", "1", "_", "2", "!", '"']


def test_a_reference_without_words_is_refused() -> None:
    with pytest.raises(DataError, match="holds no word"):
        Unigrams(["", "  "])


def test_slor_and_mean_lp_by_hand() -> None:
    unigrams = Unigrams(["a b", "a"])
    scorer = Told({" a b": -4.0, " a": -3.0}.__getitem__)
    p_a, p_b = unigrams.word("a"), unigrams.word("b")
    assert slor(scorer, ["a b", "a", "a b"], unigrams).tolist() == pytest.approx(
        [(-4 - p_a - p_b) / 2, -3 - p_a, (-4 - p_a - p_b) / 2]
    )
    assert mean_lp(scorer, ["a b", "a"]).tolist() == [-2.0, -3.0]
    # Each sentence was asked for once, after the lead; without a lead, from the start of a text.
    assert scorer.asked[:2] == [ScoreRequest("Sentence:", " a b"), ScoreRequest("Sentence:", " a")]
    assert mean_lp(Told({"a": -3.0}.__getitem__), ["a"], lead="").tolist() == [-3.0]
    assert slor(scorer, [], unigrams).shape == (0,)


def test_what_cannot_be_scored_is_said() -> None:
    with pytest.raises(RequestError, match="is empty"):
        mean_lp(Told(len), ["a", " "])
    with pytest.raises(RequestError, match="no finite log-likelihood for 'a b'"):
        mean_lp(Told(lambda text: math.nan), ["a b"])
    with pytest.raises(CapabilityError):
        mean_lp(Bigram(can=Capabilities(score=False)), ["a"])


def test_groups_are_compared_by_text() -> None:
    unigrams = Unigrams(["a b c"])
    table = {" a": -1.0, " b": -2.0, " c c": -8.0}
    groups = {"human": [["a"], ["b"], ["a", "b"]], "model": [["b"], [], ["c c", "a"]], "silent": [[], [], []]}
    found = acceptability(Told(table.__getitem__), groups, unigrams)
    again = acceptability(Told(table.__getitem__), groups, unigrams)
    assert found.as_json() == again.as_json()
    human = found.mean_lp.interval("human")
    assert human is not None
    assert human.value == pytest.approx((-1 - 2 - 1 - 2) / 4)
    assert human.n == 3
    less = found.mean_lp.difference("model", "human")
    assert less is not None
    assert less.value == pytest.approx((-2 - 4 - 1) / 3 - -1.5)
    assert less.low <= less.value <= less.high
    by_word = {word: unigrams.word(word) for word in "abc"}
    model = found.slor.interval("model")
    assert model is not None
    assert model.value == pytest.approx(((-2 - by_word["b"]) + (-8 - 2 * by_word["c"]) / 2 + (-1 - by_word["a"])) / 3)
    shown = found.as_json()
    assert shown["silent"] == {
        "sentences": 0, "slor": None, "slor_less_human": None, "mean_lp": None, "mean_lp_less_human": None,
    }  # fmt: skip
    assert set(shown["human"]) == {"sentences", "slor", "mean_lp"}
    assert shown["model"]["sentences"] == 3
    assert set(shown["model"]["slor"]) >= {"value", "low", "high", "n"}
    json.dumps(shown, allow_nan=False)


def test_groups_must_be_comparable() -> None:
    unigrams = Unigrams(["a"])
    with pytest.raises(DataError, match="no group 'human'"):
        acceptability(Told(len), {"model": [["a"]]}, unigrams)
    with pytest.raises(DataError, match="'model' has 1 texts, but 'human' has 2"):
        acceptability(Told(len), {"human": [["a"], ["b"]], "model": [["a"]]}, unigrams)


def test_a_ratio_of_whole_texts_is_the_cluster_bootstrap() -> None:
    rng = np.random.default_rng(1)
    texts = [rng.normal(size=size).tolist() for size in (1, 5, 2, 9, 3, 3)]
    ratio = Ratios({"x": [sum(text) for text in texts]}, {"x": [len(text) for text in texts]}).interval("x")
    clusters = [str(row) for row, text in enumerate(texts) for _ in text]
    known = cluster_bootstrap([value for text in texts for value in text], clusters)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((known.value, known.low, known.high))


def test_differences_are_paired() -> None:
    base = np.random.default_rng(1).normal(size=40)
    ratios = Ratios({"a": (base + 0.1).tolist(), "b": base.tolist()}, {"a": [1] * 40, "b": [1] * 40})
    less, alone = ratios.difference("a", "b"), ratios.interval("a")
    assert less is not None
    assert alone is not None
    assert (less.low, less.high) == pytest.approx((0.1, 0.1))
    assert alone.high - alone.low > 0.4
    with pytest.raises(ValueError, match="one number for each row"):
        Ratios({"a": [1.0]}, {"a": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("He came. She went!  Why?", ["He came.", "She went!", "Why?"]),
        ('"Stop!" he cried. "Go on."', ['"Stop!" he cried.', '"Go on."']),
        ("Mr. Hale and J. Smith met Dr. Ross. So did I. Then\nall left.", [
            "Mr. Hale and J. Smith met Dr. Ross.", "So did I.", "Then all left.",
        ]),
        ("A head\n\nIt cost 3.50 or so. (Much!) And", ["A head", "It cost 3.50 or so.", "(Much!)", "And"]),
        ("", []),
        (" \n\n ", []),
    ],
)  # fmt: skip
def test_sentences(text: str, found: list[str]) -> None:
    assert sentences(text) == found


def test_only_sentences_after_the_start() -> None:
    text = "One came. Two came. Three came."
    assert sentences(text, 1) == ["Two came.", "Three came."]
    assert sentences(text, 10) == ["Two came.", "Three came."]
    assert sentences(text, 11) == ["Three came."]
    assert sentences(text, len(text)) == []


def test_what_is_complete() -> None:
    assert all(map(is_complete, ["He came.", 'He said "no!"', "Was it I.", "(Much?)"]))
    assert not any(map(is_complete, ["He came", "He saw Mr.", "said J.", "and, then,", ""]))


def test_shuffling_keeps_the_words_and_their_frequency() -> None:
    sentence = "The nurse went to the school, and then to the market."
    mixed = shuffled(sentence)
    assert mixed != sentence
    assert mixed == shuffled(sentence)
    assert sorted(mixed.split()) == sorted(sentence.split())
    unigrams = Unigrams([sentence])
    assert unigrams.log_prob(mixed) == pytest.approx(unigrams.log_prob(sentence))


def test_bits_per_byte_by_hand() -> None:
    documents = ["a b", "über"]
    model = Told(lambda text: -math.log(2) * 10 * len(text))
    bits = document_bits(model, documents)
    assert bits.tolist() == pytest.approx([30.0, 40.0])
    found = bits_per_byte({"one": bits, "half": bits / 2}, documents)
    one, less = found.interval("one"), found.difference("half", "one")
    assert one is not None
    assert less is not None
    assert one.value == pytest.approx(70 / 8)  # "ü" is two bytes
    assert less.value == pytest.approx(-35 / 8)


def test_a_document_longer_than_the_context_is_predicted_once() -> None:
    document = "The nurse went  to the school.\n\nThen she came home, because the rain had begun. \n"
    whole = document_bits(Bigram(), [document])
    short = Bigram(can=Capabilities(context_length=40))
    # A character bigram needs only the character before, so pieces must give the same.
    assert document_bits(short, [document]).tolist() == pytest.approx(whole.tolist())
    assert short.calls[0] > 3
    with pytest.raises(RequestError, match="empty"):
        document_bits(Bigram(), [" "])
    with pytest.raises(RequestError, match="document 1"):
        document_bits(Told(lambda text: -math.inf), ["a"])


def test_the_pairs_are_well_made() -> None:
    pairs = read_pairs()
    kinds = [pair.phenomenon for pair in pairs]
    assert len(pairs) == 64
    assert {kinds.count(kind) for kind in kinds} == {8}
    both = [sentence for pair in pairs for sentence in (pair.good, pair.bad)]
    assert len(set(both)) == 128
    assert all(is_complete(sentence) and sentences(sentence) == [sentence] for sentence in both)
    for pair in pairs:
        assert abs(len(pair.good.split()) - len(pair.bad.split())) <= 3, pair.id


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not a JSON object"),
        ('{"id": "x"}', "line 2: not a JSON object"),
        ('{"id": "x", "phenomenon": "y", "good": "a", "bad": "a"}', "line 2: .* must differ"),
        ('{"id": "x", "phenomenon": "y", "good": 3, "bad": "a"}', "line 2: .* must be text"),
        ('{"id": "1", "phenomenon": "y", "good": "b", "bad": "a"}', "line 2: the id '1' came before"),
    ],
)
def test_bad_pairs_are_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"id": "1", "phenomenon": "y", "good": "a", "bad": "b"}\n' + line)
    with pytest.raises(SuiteError, match=said):
        read_pairs(file)
    file.write_text("")
    with pytest.raises(SuiteError, match="holds no pairs"):
        read_pairs(file)
    with pytest.raises(SuiteError, match="cannot be read"):
        read_pairs(tmp_path / "none")


def test_preference_counts_the_good_ones() -> None:
    pairs, unigrams = read_pairs(), Unigrams(["the same for all"])
    good = {f" {pair.good}" for pair in pairs}
    right = preference(Told(lambda text: -1.0 if text in good else -500.0), pairs, unigrams)
    assert (right.slor.value, right.mean_lp.value, right.wrong) == (1.0, 1.0, ())
    assert set(right.by_phenomenon) == {pair.phenomenon for pair in pairs}
    wrong = preference(Told(lambda text: -500.0 if text in good else -1.0), pairs, unigrams)
    assert (wrong.slor.value, len(wrong.wrong)) == (0.0, 64)
    assert wrong.slor.high > 0  # Wilson's: 64 items do not make a certainty


def human_text(shared: Path) -> list[str]:
    return [(shared / "data" / "corpora" / "wikitext2_valid.txt").read_text(encoding="utf-8").replace(" @-@ ", "-")]


def test_a_small_trained_model_prefers_the_good_sentence(shared: Path, stories15m: Path) -> None:
    """The cheap version: 15M parameters that have read nothing but children's stories."""
    from fairground.engine.local import open_model

    model = open_model(stories15m, threads=1)
    try:
        found = preference(model, read_pairs(), Unigrams(human_text(shared)))
    finally:
        model.close()
    assert found.slor.value >= 0.8, found
    assert found.mean_lp.value >= 0.8, found


@pytest.mark.verify
def test_smollm2_prefers_the_good_sentence_and_the_unshuffled_one(shared: Path, smollm2: Path) -> None:
    from fairground.engine.local import open_model

    unigrams = Unigrams(human_text(shared))
    emma = (shared / "data" / "corpora" / "gutenberg" / "austen-emma.txt").read_text(encoding="utf-8")
    long = [s for s in sentences(emma) if is_complete(s) and 6 <= len(s.split()) <= 30]
    human = [[sentence] for sentence in long[:: len(long) // 100][:100]]
    model = open_model(smollm2)
    try:
        found = preference(model, read_pairs(), unigrams)
        compared = acceptability(
            model, {"human": human, "shuffled": [[shuffled(text) for text in one] for one in human]}, unigrams
        )
    finally:
        model.close()
    print(found, compared.as_json())
    assert found.slor.low >= 0.85, found
    for measure in (compared.slor, compared.mean_lp):
        less = measure.difference("shuffled", "human")
        assert less is not None
        assert less.high < -1.5, less  # nats per token


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_models", ROOT / "tools" / "measure_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_keeps_complete_sentences_that_the_model_wrote(tool: ModuleType) -> None:
    assert tool.own_sentences("One day a", " man came. He saw the old dog. No! It was a red dog. It ran to") == [
        "He saw the old dog.",
        "It was a red dog.",
    ]
    assert tool.first_words(" one\n\ntwo  three", 2) == " one\n\ntwo"
    assert tool.repeated_elsewhere(["a b c d e", "x a b c d", "a b", "q r s t"]) == [0.5, 0.5, 0.0, 0.0]
    drawn = tool.beginnings({"x": ["a b c", "a", "d e f"], "y": ["g h i"]}, 3, 3, 0)
    assert sorted(drawn) == ["a b c", "d e f", "g h i"]
    with pytest.raises(DataError, match="two are needed"):
        tool.beginnings({"x": ["a b c"]}, 3, 3, 0)


class Copyist(Bigram):
    """Writes the same good sentences on every beginning."""

    def submit(self, request: Request) -> Stream:
        class Copied(Stream):
            def completion(self) -> Completion:
                text = " at home. He saw the old dog there. He saw the old dog there. And then"
                return Completion(text, (1,) * 16, "length", 12, Timing(0.0, (0.0,) * 16))

        assert isinstance(request.prompt, str)
        assert len(request.prompt.split()) == 12
        assert (request.sampling.temperature, request.sampling.top_k) == (0.7, 50)
        self.prompts.append((request.prompt, request.sampling.seed))
        return Copied(self, request)


def test_the_tool_measures_from_end_to_end(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "held.jsonl"
    said = "The old man number {} went to the school. Then he came home again to his dog. It was very late by then. "
    with text.open("w") as file:
        for i in range(700):
            row = said.format(i) * 4
            chat = {"messages": [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": row}]}
            file.write(json.dumps(chat if i % 2 else {"text": row}) + "\n")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    opened: list[Bigram] = []

    def open_fake(self: object, reference: Reference) -> Bigram:
        opened.append((Copyist if reference.name.endswith("one") else Bigram)(reference.name))
        return opened[-1]

    monkeypatch.setattr(tool.Opening, "open", open_fake)
    monkeypatch.setattr(tool.Opening, "fetch", lambda self, reference: None)
    out = tmp_path / "out.json"
    settings = f"--text {text} --out {out} --samples {tmp_path / 's'} --texts 4 --words 20 --documents 5"
    monkeypatch.setattr(sys, "argv", f"m {tmp_path / 'one'} {tmp_path / 'two'} {settings}".split())
    assert tool.main() == 0
    first = out.read_text()
    found = json.loads(first)
    assert found["held_out"]["sentences"] >= 4
    one, two = (model["metrics"] for model in found["models"])
    assert one["sentences"] == 8
    assert one["repetition"]["value"] == pytest.approx(3 / 13)
    assert one["repeated_elsewhere"]["value"] == 1
    assert one["sentence_words"]["value"] == 6
    # The bigram model writes no full stop, so nothing of it is a sentence.
    assert two["slor"] is None
    assert two["texts_without_a_sentence"] == 4
    assert one["bits_per_byte"] == two["bits_per_byte"]
    compared = {(row["metric"], row["a"][-3:], row["b"][-8:]): row for row in found["comparisons"]}
    assert compared["slor", "one", "held_out"]["low"] <= compared["slor", "one", "held_out"]["difference"]
    (equal,) = (row for row in found["comparisons"] if row["metric"] == "bits_per_byte")
    assert (equal["difference"], equal["low"], equal["high"]) == (0, 0, 0)
    assert len(opened[0].prompts) == len(set(opened[0].prompts)) == 4
    assert all(model.closed for model in opened)
    samples = [json.loads(line) for line in (tmp_path / "s").read_text().splitlines()]
    assert [sample["model"][-3:] for sample in samples] == ["out"] * 4 + ["one"] * 4 + ["two"] * 4
    assert str(tmp_path / "one") in capsys.readouterr().out
    assert tool.main() == 0
    assert out.read_text() == first


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("uniform --text {}/held.jsonl", "uniform guesses"),
        ("smollm2 --text {}/none.jsonl", "does not exist"),
        ("smollm2 --text {}/empty.jsonl", "holds no text"),
        ("smollm2 --text {}/held.jsonl", "two are needed"),
        ("smollm2 --text {}/held.jsonl --words 10 --texts 2", "at least 50,000 words"),
        ("smolm2 --text {}/held.jsonl", "smollm2"),
    ],
)
def test_the_tool_says_what_is_wrong(
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: str,
    said: str,
) -> None:
    (tmp_path / "held.jsonl").write_text('{"text": "%s"}\n' % ("one two three " * 10) * 3)
    (tmp_path / "held.jsonl").open("a").write('{"text": "%s"}\n' % ("one two four " * 10))
    (tmp_path / "empty.jsonl").write_text("")
    monkeypatch.setattr(tool.Opening, "fetch", lambda self, reference: None)
    monkeypatch.setattr(sys, "argv", ["m", *settings.format(tmp_path).split(), "--out", str(tmp_path / "out.json")])
    assert tool.main() == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.json").exists()
