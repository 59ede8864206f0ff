"""`fairground train` and `distill` from end to end, small: the model loads elsewhere, talks, is ranked, learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import Command, in_this_process
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairground.models.load import load_with_tokenizer
from fairground.models.packed import Packed

SMALL = ("--tokens", "30000", "--context", "64")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


def done(command: Command, *arguments: str) -> str:
    ran = command(*arguments)
    assert ran.status == 0, ran.err
    return ran.out


def test_train_a_new_model_and_then_train_it_on(command: Command, text: Path, words: Path) -> None:
    given = ("train", "mistral:60k", str(text), "--tokenizer", str(words), "--out", "one", *SMALL, "--json")
    summary = json.loads(done(command, *given))
    bits = list(summary["bits_per_byte"].values())
    assert bits[-1] < 0.8 * bits[0], "it learned"
    assert {path.name for path in Path("one").iterdir()} >= {
        "config.json", "model.safetensors", "tokenizer.json", "loss.svg", "log.jsonl", "training.json", "README.md",
    }  # fmt: skip
    loaded, tokenizer = load_with_tokenizer(Path("one"), "float32")
    theirs = AutoModelForCausalLM.from_pretrained("one", dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained("one")("The man was here.")["input_ids"]
    assert ids == tokenizer.encode("The man was here.")
    with torch.no_grad():
        ours = loaded.decoder.logits(loaded.decoder(torch.tensor(ids), Packed.of([len(ids)])))
        torch.testing.assert_close(ours, theirs(torch.tensor([ids])).logits[0], atol=1e-4, rtol=0)
    assert done(command, "chat", "./one", "-p", "the man", "--max-tokens", "5")
    samples = [json.loads(line) for line in Path("one/log.jsonl").read_text().splitlines()]
    assert any(row.get("samples") for row in samples)
    again = json.loads(done(command, "train", "./one", str(text), "--out", "two", *SMALL, "--json"))
    assert next(iter(again["bits_per_byte"].values())) == pytest.approx(bits[-1], abs=0.05), "it began where one ended"


def test_distil_logits_and_sequences(command: Command, text: Path, words: Path) -> None:
    done(command, "train", "llama:100k", str(text), "--tokenizer", str(words), "--out", "teacher", *SMALL)
    learned = json.loads(
        done(command, "distill", "./teacher", "gpt2:60k", str(text), "--out", "a", "--alpha", "1.0", *SMALL, "--json")
    )
    bits = list(learned["bits_per_byte"].values())
    assert learned["objective"] == "distillation from stored logits"
    assert learned["passes"] > 1
    assert bits[-1] < 0.85 * bits[0], "the teacher alone taught it"
    given = ("distill", "./teacher", "gpt2:60k", str(text), "--alpha", "1.0", *SMALL, "--json")
    live = json.loads(done(command, *given, "--out", "live", "--online"))
    kept = json.loads(done(command, *given, "--out", "kept", "--top-k", "320"))
    assert live["objective"] == "distillation"
    assert list(kept["bits_per_byte"].values()) == pytest.approx(list(live["bits_per_byte"].values()), abs=0.03)
    prompts = [json.dumps({"id": str(n), "prompt": "The man", "seed": n, "max_tokens": 30}) for n in range(40)]
    Path("prompts.jsonl").write_text("\n".join(prompts) + "\n")
    done(command, "distill", "./teacher", "gpt2:60k", "prompts.jsonl", "--objective", "sequence", "--out", "b", *SMALL)
    assert Path("b/tokenizer.json").read_text() == Path("teacher/tokenizer.json").read_text()
    written = [json.loads(line) for line in Path("b/written.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in written] == list(range(40))
    assert len({row["text"] for row in written}) > 30, "seeds differ, so texts do"
    assert all(row["writer"] == "./teacher" for row in written)


def test_an_ngram_model_of_the_same_text(command: Command, text: Path, words: Path) -> None:
    given = ("train", "kneser-ney:3", str(text), "--held-out", str(text), "--tokenizer", str(words), "--out", "three")
    summary = json.loads(done(command, *given, "--json"))
    (bits,) = summary["bits_per_byte"].values()
    assert 0 < bits < 2
    assert done(command, "chat", "./three", "-p", "the man", "--max-tokens", "5")
    command(*given).refused("three", "already")
