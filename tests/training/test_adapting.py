"""Training adapters from end to end: the command, what it refuses, resuming, stopping early, computing again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import FAMILIES, base_folder
from command import Command, in_this_process
from peft import PeftModel
from safetensors.torch import load_file
from test_gradients import batch
from transformers import AutoModelForCausalLM

from fairground.errors import TrainingError
from fairground.models.load import load_folder, load_with_tokenizer
from fairground.models.lora import LoraConfig, adapters_of, add_lora, attach
from fairground.models.packed import Packed
from fairground.models.peft_files import read_adapter, read_adapter_config
from fairground.training.loop import Step
from fairground.training.objective import LanguageModelling
from fairground.training.optimiser import Optimiser
from fairground.training.recipe import Recipe, read_recipe
from fairground.training.run import Watch, train_model

SMALL = ("--tokens", "4096", "--context", "64", "--threads", "1")


@pytest.fixture(scope="module")
def base(text: Path, words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned a little."""
    folder = tmp_path_factory.mktemp("base") / "base"
    recipe = Recipe("llama:60k", tokens=8192, context=64, batch_tokens=512, evaluate_every=0)
    train_model(recipe, [text], folder, tokenizer=words, threads=1)
    return folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


def test_an_adapter_is_trained_used_and_merged(command: Command, base: Path, text: Path) -> None:
    """On text of one sentence, which the base does not know."""
    Path("house.jsonl").write_text("\n".join(json.dumps({"text": "The man was here. " * 9}) for _ in range(40)))
    much = ("--tokens", "16384", "--learning-rate", "0.01")
    given = ("train", str(base), "house.jsonl", "--lora", "4", "--out", "mine", *SMALL, *much)
    made = command(*given, "--json")
    assert made.status == 0, made.err
    summary = json.loads(made.out)
    bits = list(summary["bits_per_byte"].values())
    assert bits[-1] < bits[0] - 0.03, "it learned what little a head that has hardly begun lets it say"
    assert 0 < summary["trained_parameters"] < summary["parameters"]
    assert not Path("mine/model.safetensors").exists()
    checkpoint = load_file(next(Path("mine").glob("checkpoint-*")))
    kept = {name.split(".", 1)[1] for name in checkpoint if name.startswith("weight.")}
    assert kept, "and nothing of the base:"
    assert all(".a." in name or ".b." in name for name in kept)
    config = json.loads(Path("mine/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve())
    card = Path("mine/README.md").read_text()
    assert config["base_model_sha256"] in card
    assert str(base.resolve()) in card
    assert "library_name: peft" in card
    assert command(*given).status == 0, "nothing is left to do"
    said = [command("chat", name, "-p", "the man", "--max-tokens", "5") for name in ("./mine", "./mine#int8")]
    assert [ran.status for ran in said] == [0, 0], said
    ran = command("merge", "mine", "--out", "merged", "--precision", "float32")
    assert ran.status == 0, ran.err
    assert "adapter `mine` merged" in Path("merged/README.md").read_text()
    loaded, words = load_with_tokenizer(Path("mine"), "float32")
    ids = words.encode("The man was here.")
    with torch.no_grad():
        ours = loaded.decoder.logits(loaded.decoder(torch.tensor(ids), Packed.of([len(ids)])))
        peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), "mine").eval()
        merged = AutoModelForCausalLM.from_pretrained("merged").eval()
        for theirs in (peft, merged):
            torch.testing.assert_close(ours, theirs(torch.tensor([ids])).logits[0], atol=1e-4, rtol=0)
    # What follows refuses without work.
    command("train", "./mine", str(text), "--out", "more", *SMALL).refused("mine", "merge")
    command("merge", "mine", "--out", "merged").refused("merged", "--out")
    command("merge", "mine", "--out", "other", "--base", "./merged").refused("mine", "SHA-256")
    command("merge", "merged", "--out", "other").refused("merged", "adapter")
    command("merge", "mine", "--out", "other", "--precision", "int4").refused("int4")
    command("chat", "mine", "-p", "x").refused("./mine")
    config["base_model_name_or_path"] = "nowhere"
    Path("mine/adapter_config.json").write_text(json.dumps(config))
    command("merge", "mine", "--out", "other").refused("nowhere", "--base")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--lora", "0"), "rank"),
        (("--lora", "4", "--lora-targets", "c_attn"), "c_attn"),
        (("--lora", "4", "--lora-alpha", "-1"), "alpha"),
        (("--lora-alpha", "8"), "--lora 16"),
        (("--patience", "2", "--held-out", "nowhere"), "nowhere"),
    ],
)
def test_bad_settings_are_refused(command: Command, base: Path, text: Path, options: Any, named: str) -> None:
    command("train", str(base), str(text), "--out", "made", *options, *SMALL).refused(named)


def test_a_new_model_has_nothing_to_adapt(command: Command, text: Path) -> None:
    command("train", "llama:60k", str(text), "--lora", "4", "--out", "made", *SMALL).refused("llama:60k", "LoRA")


def test_a_recipe_of_lora(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('model = "x"\npatience = 3\n[lora]\nrank = 8\ntargets = ["q_proj", "v_proj"]\ndropout = 0.1\n')
    recipe = read_recipe(str(path))
    assert recipe.lora == LoraConfig(8, None, ("q_proj", "v_proj"), 0.1)
    assert recipe.lora.scaled_by == 16
    for wrong, named in (("[lora]\nalpha = 1\n", "rank"), ("[lora]\nrank = 1\nr = 1\n", "'r'"), ("lora = 8\n", "lora")):
        path.write_text(f'model = "x"\n{wrong}')
        with pytest.raises(TrainingError, match=named):
            read_recipe(str(path))


class Cut(Exception):
    """Stands for whatever ends a process."""


def cut_at(step: int) -> Watch:
    def end(done: Step, _steps: int) -> None:
        if done.step == step:
            raise Cut

    return Watch(step=end)


def settings(base: Path, **changes: Any) -> Recipe:
    given: dict[str, Any] = {"tokens": 20 * 256, "context": 64, "batch_tokens": 256, "seed": 3, "evaluate_every": 4}
    lora = LoraConfig(4, dropout=0.1)
    return Recipe(str(base), **{**given, "checkpoint_every": 3, "lora": lora, **changes})


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float32", marks=pytest.mark.verify)])
def test_a_run_that_was_cut_short_ends_with_the_same_bits(
    precision: str, base: Path, text: Path, tmp_path: Path
) -> None:
    recipe = settings(base, precision=precision)
    train_model(recipe, [text], tmp_path / "whole", threads=1)
    for step in (5, 17):
        with pytest.raises(Cut):
            train_model(recipe, [text], tmp_path / "cut", threads=1, watch=cut_at(step))
    train_model(recipe, [text], tmp_path / "cut", threads=1)
    for name in ("adapter_model.safetensors", "checkpoint-20.safetensors"):
        whole, cut = load_file(tmp_path / "whole" / name), load_file(tmp_path / "cut" / name)
        assert whole.keys() == cut.keys()
        assert all(whole[key].equal(cut[key]) for key in whole), name


def test_another_adapter_goes_not_on_from_it(base: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(Cut):
        train_model(settings(base), [text], tmp_path, threads=1, watch=cut_at(4))
    with pytest.raises(TrainingError, match="rank 4 instead of 8"):
        train_model(settings(base, lora=LoraConfig(8, dropout=0.1)), [text], tmp_path, threads=1)
    with pytest.raises(TrainingError, match="checkpoint of a run with"):
        train_model(settings(base, lora=None), [text], tmp_path, threads=1)


def test_a_run_stops_early_and_keeps_the_best(base: Path, text: Path, tmp_path: Path) -> None:
    """At a rate that soon destroys the model: the first measures are better than all later ones."""
    recipe = settings(
        base, patience=2, precision="float32", optimiser=Optimiser(learning_rate=0.3, schedule="constant", warmup=0.0)
    )
    done = train_model(recipe, [text], tmp_path / "whole", threads=1)
    bits = {int(step): value for step, value in done.summary["bits_per_byte"].items()}
    best = min(bits, key=lambda step: bits[step])
    assert done.summary["kept_step"] == best
    assert max(bits) == best + 2 * 4 < 20, "two measures after the best one, and long before the end"
    assert "stopped early" in (tmp_path / "whole" / "README.md").read_text()
    with pytest.raises(Cut):
        train_model(recipe, [text], tmp_path / "cut", threads=1, watch=cut_at(best + 6))
    again = train_model(recipe, [text], tmp_path / "cut", threads=1)
    assert again.summary["bits_per_byte"] == done.summary["bits_per_byte"]
    whole, cut = (load_file(tmp_path / run / "adapter_model.safetensors") for run in ("whole", "cut"))
    assert all(whole[key].equal(cut[key]) for key in whole)
    finished = train_model(recipe, [text], tmp_path / "whole", threads=1)
    assert finished.summary["kept_step"] == best, "it does not go on"
    # The weights are those of that step.
    plain = settings(
        base,
        tokens=max(best, 1) * 256,
        precision="float32",
        optimiser=Optimiser(learning_rate=0.3, schedule="constant", warmup=0.0),
    )
    if best:
        train_model(plain, [text], tmp_path / "plain", threads=1)
        kept = load_file(tmp_path / "plain" / "adapter_model.safetensors")
        assert all(whole[key].equal(kept[key]) for key in whole)
    else:
        assert all(not whole[key].any() for key in whole if "lora_B" in key)


def test_patience_needs_something_to_measure(base: Path, text: Path, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("One. Two. Three.\n")
    with pytest.raises(TrainingError, match="held-out"):
        train_model(settings(base, patience=2), [tmp_path / "few.txt"], tmp_path / "made", threads=1)
    with pytest.raises(TrainingError, match="evaluate_every"):
        settings(base, patience=2, evaluate_every=0)


@pytest.mark.parametrize("lora", [None, LoraConfig(4, dropout=0.2)], ids=["full", "lora"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_gradient_checkpointing_gives_the_same_bits(name: str, lora: LoraConfig | None, tmp_path: Path) -> None:
    base_folder(name, tmp_path)
    found = []
    for recompute in (False, True):
        decoder = load_folder(tmp_path, "float32").decoder.train()
        if lora:
            add_lora(decoder, lora)
            with torch.no_grad():
                for adapter in adapters_of(decoder).values():
                    adapter.b.fill_(0.01)
        decoder.recompute = recompute
        kept = _kept(lambda decoder=decoder: found.append(_gradients(decoder)))  # type: ignore[misc]
        found[-1]["kept"] = torch.tensor(kept)
    plain, again = found
    assert again.pop("kept") < plain.pop("kept") / 2, "fewer bytes wait for the way back"
    assert all(plain[key].equal(again[key]) for key in plain)


def _gradients(decoder: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    loss, _ = LanguageModelling()(decoder, batch())
    loss.backward()
    return {name: weight.grad for name, weight in decoder.named_parameters() if weight.grad is not None}


def _kept(run: Callable[[], object]) -> int:
    """Bytes that autograd saved, outside of what is computed again."""
    total = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return total


def test_dropout_is_for_training_alone(base: Path) -> None:
    decoder = load_folder(base, "float32").decoder
    add_lora(decoder, LoraConfig(4, dropout=0.5))
    with torch.no_grad():
        for adapter in adapters_of(decoder).values():
            adapter.b.fill_(0.1)
    ids, packed = torch.arange(20), Packed.of([20])
    calm = [decoder.eval()(ids, packed) for _ in range(2)]
    assert calm[0].equal(calm[1])
    left_out = [decoder.train()(ids, packed) for _ in range(2)]
    assert not left_out[0].equal(left_out[1])
    # As many are left out as are said, and the rest counts for more: the mean stays.
    layer = decoder.blocks[0].attention.out
    x = torch.ones(4000, layer.weight.shape[1])
    with torch.no_grad():
        torch.testing.assert_close(layer(x).mean(0), layer.eval()(x).mean(0), atol=0.05, rtol=0.05)


def test_what_was_written_is_what_the_run_had(base: Path, text: Path, tmp_path: Path) -> None:
    """Attached again, it finds the held-out text as likely as at the end."""
    done = train_model(settings(base, precision="float32"), [text], tmp_path / "made", threads=1)
    decoder = load_folder(base, "float32").decoder
    attach(decoder, read_adapter(read_adapter_config(tmp_path / "made")))
    from fairground.training.measure import held_out
    from fairground.training.run import _split
    from fairground.training.tokens import tokenize

    _, words = load_with_tokenizer(base)
    _, measured = _split(tokenize([text], words), 3)
    assert measured is not None
    bits = held_out(decoder.eval(), measured, 64).bits_per_byte
    assert bits == pytest.approx(list(done.summary["bits_per_byte"].values())[-1], abs=1e-6)
