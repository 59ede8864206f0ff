"""What other bad input gets from the command itself: texts, settings, names, files of items, votes and pickles."""

from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny_models as tiny
import torch
from command import Command, in_a_process, in_this_process

from fairground.evaluation.suite import BUILT_IN

PAIR = '{"context": "a", "continuation": "c"}\n'
LONG = '{"context": "a", "continuation": "' + "c" * 300 + '"}\n'


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


@pytest.fixture
def model(command: Command) -> Path:
    """A sound model in the command's folder."""
    return tiny.write_folder(Path("model"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-p", ""), ("prompt is empty",)),
        (("-p", " \n"), ("prompt is empty",)),
        (("-p", "x" * 300), ("317 tokens", "64")),  # the template adds "user: ", a line's end and "assistant:"
        (("-p", "hi", "--temperature", "-1"), ("temperature is -1.0",)),
        (("-p", "hi", "--temperature", "nan"), ("temperature is nan",)),
        (("-p", "hi", "--temperature", "inf"), ("temperature is inf",)),
        (("-p", "hi", "--top-p", "2"), ("top_p is 2.0",)),
        (("-p", "hi", "--top-p", "nan"), ("top_p is nan",)),
        (("-p", "hi", "--top-k", "-1"), ("top_k is -1",)),
        (("-p", "hi", "--min-p", "1.5"), ("min_p is 1.5",)),
        (("-p", "hi", "--repetition-penalty", "0"), ("repetition_penalty is 0.0",)),
        (("-p", "hi", "--repetition-penalty", "nan"), ("repetition_penalty is nan",)),
        (("-p", "hi", "--max-tokens", "0"), ("max_tokens is 0",)),
        (("-p", "hi", "--stop", ""), ("stop",)),
        (("-p", "half a pair: \udcff"), ("surrogate",)),
    ],
)
def test_requests_that_cannot_be_served(
    command: Command, model: Path, arguments: tuple[str, ...], named: tuple[str, ...]
) -> None:
    command("chat", "./model", *arguments).refused(*named)


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}", "template was stopped"),
        ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "template was stopped"),
        ("{{ 'x' * 10 ** 10 }}", "template was stopped"),
        ("{{ messages.__class__.__mro__ }}", "template"),
        ("{{ ''.__class__.__base__.__subclasses__() }}", "template"),
        ("{% for m in messages %}", "malformed in line 1"),
        ("{{ raise_exception('no such role') }}", "no such role"),
    ],
)
def test_chat_templates_that_are_ended(command: Command, template: str, named: str) -> None:
    tiny.write_folder(Path("model"), template=template)
    command("chat", "./model", "-p", "hi").refused(named)
    tiny.write_tiny_gguf(Path("model.gguf"), {"tokenizer.chat_template": template})
    command("chat", "./model.gguf", "-p", "hi").refused(named)


def test_a_token_outside_the_embedding(command: Command) -> None:
    tiny.write_folder(Path("model"), {"vocab_size": 40}, tiny.weights(40))
    Path("pairs.jsonl").write_text(PAIR)
    command("chat", "./model", "-p", "hi").refused("token id 84", "40 rows")  # "u" of "user: "
    command("score", "./model", "pairs.jsonl").refused("token id 64", "40 rows")


def test_surplus_rows_are_legal_and_never_sampled(command: Command) -> None:
    """The likeliest tokens by far are rows that no token has."""
    tensors = tiny.weights()
    tensors["model.norm.weight"].fill_(1)
    tensors["lm_head.weight"][len(tiny.TOKENS) :] *= 50
    tiny.write_folder(Path("model"), tensors=tensors)
    for more in ((), ("--temperature", "1", "--min-p", "0.2"), ("--temperature", "2", "--top-k", "3")):
        ran = command("chat", "./model", "-p", "hi", "--max-tokens", "8", *more)
        assert (ran.status, ran.err) == (0, "")
        assert len(ran.out) > 1


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (PAIR + "{oops\n", "pairs.jsonl, line 2"),
        (PAIR + "\n" + '{"context": "a"}\n', "pairs.jsonl, line 3"),
        ('{"context": "a", "continuation": ""}\n', "pairs.jsonl, line 1"),
        ('{"context": 1, "continuation": "b"}\n', "pairs.jsonl, line 1"),
        ("[1, 2]\n", "pairs.jsonl, line 1"),
        ("[" * 100_000, "pairs.jsonl, line 1"),
        ("", "pairs.jsonl is empty"),
        (b"\xff\xfe\n", "pairs.jsonl cannot be read"),
        (PAIR + "\n" + LONG, "pairs.jsonl, line 3: the continuation is 300 tokens"),
    ],
)
def test_score_files(command: Command, model: Path, content: str | bytes, named: str) -> None:
    Path("pairs.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    command("score", "./model", "pairs.jsonl").refused(named)


def test_a_late_line_is_named_and_what_was_scored_before_it_stays(command: Command, model: Path) -> None:
    Path("pairs.jsonl").write_text(PAIR * 256 + "\n" + LONG)
    answer = command("score", "./model", "pairs.jsonl")
    assert answer.status == 2
    assert "pairs.jsonl, line 258: " in answer.err
    assert len(answer.out.splitlines()) == 256


HEADER = "model_a,model_b,winner\n"


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("votes.csv", HEADER + "a,b,model_a\na,b\n", "votes.csv, line 3"),
        ("votes.csv", HEADER + "a,b,perhaps\n", "'perhaps'"),
        ("votes.csv", "x,y\n1,2\n", "model_a"),
        ("votes.csv", HEADER, "no battles"),
        ("votes.csv", "", "votes.csv is empty"),
        ("votes.jsonl", '{"model_a": "a", "model_b": "b"\n', "votes.jsonl, line 1"),
        ("votes.jsonl", '{"model_a": "a", "model_b": "a", "winner": "tie"}\n', "against itself"),
        ("votes.txt", HEADER, ".parquet"),
    ],
)
def test_battle_files(command: Command, name: str, content: str, named: str) -> None:
    Path(name).write_text(content)
    command("rate", name).refused(named)
    command("rate", name, "--json").refused(named)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("rank", "smolm2"), ("'smolm2'", "smollm2")),
        (("chat", "tinylama", "-p", "hi"), ("'tinylama'", "tinyllama")),
        (("score", "stories15", "pairs.jsonl"), ("stories15m",)),
        (("pull", "smolm2"), ("'smolm2'", "smollm2")),
        (("pull", "smollm2", "--source", "cellar"), ("'cellar'",)),
        (("pull", "hf:nobody"), ("hf:nobody",)),
        (("remove", "smolm2"), ("smollm2",)),
        (("remove", "smollm2"), ("smollm2",)),
        (("chat", "./model#int3", "-p", "hi"), ("'int3'", "int4")),
        (("chat", "model", "-p", "hi"), ("./model",)),
        (("chat", "./nowhere", "-p", "hi"), ("./nowhere",)),
        (("chat", "nowhere.gguf", "-p", "hi"), ("nowhere.gguf",)),
        (("rank", "openai:gpt"), ("openai:MODEL@https",)),
        (("rank", "./model", "--suite", "nowhere"), ("'nowhere'", "house")),
        (("rank", "./model,shots=99"), ("99 shots",)),
        (("rank", "./model", "./model"), ("./model",)),
        (("rank", "uniform", "--limit", "1", "--out", "file"), ("file",)),
        (("score", "./model", "nowhere.jsonl"), ("nowhere.jsonl",)),
        (("score", "./model", "model"), ("model",)),
        (("rate",), ("--record",)),
        (("rate", "--record", "file"), ("--record",)),
        (("rate", "nowhere.csv"), ("nowhere.csv",)),
    ],
    ids=" ".join,
)
def test_names_and_files(command: Command, model: Path, arguments: tuple[str, ...], named: tuple[str, ...]) -> None:
    Path("file").write_text("not a folder")
    Path("pairs.jsonl").write_text(PAIR)
    command(*arguments).refused(*named)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there(command: Command, model: Path) -> None:
    command("chat", "./model", "-p", "hi", "--device", "cuda").refused("'cuda'")


def test_a_malformed_suite_line(command: Command, model: Path) -> None:
    shutil.copytree(BUILT_IN / "house", "house")
    file = next(Path("house").glob("*.jsonl"))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:6], lines[6][:-1], *lines[7:]]) + "\n")
    command("rank", "./model", "--suite", "./house").refused(f"{file.name}:7")
    Path("house/suite.toml").write_text("name = \n")
    command("rank", "./model", "--suite", "./house").refused("suite.toml", "line 1")


class Hostile:
    """What writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("owned", "w")


def test_pickles(command: Command, model: Path) -> None:
    pickled = model / "pytorch_model.bin"
    (model / "model.safetensors").unlink()
    torch.save(tiny.weights(), pickled)
    command("chat", "./model", "-p", "hi").refused("pytorch_model.bin", "--allow-pickle")
    assert command("chat", "./model", "-p", "hi", "--max-tokens", "2", "--allow-pickle").status == 0
    torch.save({**tiny.weights(), "model.norm.weight": Hostile()}, pickled)
    command("chat", "./model", "-p", "hi", "--allow-pickle").refused("pytorch_model.bin", "loaded safely")
    pickled.write_bytes(pickle.dumps(Hostile()))
    command("chat", "./model", "-p", "hi", "--allow-pickle").refused("pytorch_model.bin")
    pickled.write_bytes(pickled.read_bytes()[:10])
    command("chat", "./model", "-p", "hi", "--allow-pickle").refused("pytorch_model.bin")
    torch.save([torch.ones(2)], pickled)
    command("chat", "./model", "-p", "hi", "--allow-pickle").refused("pytorch_model.bin", "table of tensors")
    assert not Path("owned").exists()


@pytest.mark.parametrize("arguments", [("--top-p", "abc"), ("--threads", "0"), ("--colour", "red"), ("--seed", "1.5")])
def test_what_the_command_line_itself_cannot_read(command: Command, model: Path, arguments: tuple[str, str]) -> None:
    ran = command("chat", "./model", "-p", "hi", *arguments)
    assert (ran.status, ran.out, ran.wrote) == (2, "", False)
    assert arguments[0] in ran.err
    assert "Traceback" not in ran.err


def test_in_processes_of_their_own(tmp_path: Path) -> None:
    """The same through the installed script, for one case of each kind."""
    cut = tiny.write_folder(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-9])
    gguf = tiny.write_tiny_gguf(tmp_path / "cut.gguf")
    gguf.write_bytes(gguf.read_bytes()[:-9])
    tiny.write_folder(tmp_path / "sound")
    (tmp_path / "votes.csv").write_text(HEADER + "a,b,perhaps\n")
    cases = [
        (("chat", "../cut", "-p", "hi"), "truncated"),
        (("rank", "../cut.gguf"), "truncated"),
        (("chat", "../sound", "-p", "x" * 300), "317 tokens"),
        (("score", "../sound", "nowhere.jsonl"), "nowhere.jsonl"),
        (("rate", "../votes.csv"), "line 2"),
        (("rank", "smolm2"), "smollm2"),
    ]
    folders = [tmp_path / f"here-{number}" for number in range(len(cases))]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda folder, case: in_a_process(folder, *case[0]), folders, cases)
        for ran, (_, named) in zip(runs, cases, strict=True):
            ran.refused(named)
