"""`advise`: right where the answer is known, equal to the statistics it names, and plain about what it cannot say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import Ran, in_this_process
from scipy import stats
from tiny_models import write_folder

from fairground.errors import DataError
from fairground.evaluation.comparison import Values
from fairground.loop.advice import ACCURACY, EXACT, LOGLIK, WAYS, Way, advise, read_items, split

# Of the kind that models have which were trained for chats: an answer ends with eos.
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}assistant:"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    return in_this_process(tmp_path, monkeypatch, capfd)


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def values(numbers: np.ndarray) -> Values:
    return {str(n): (float(number), str(n)) for n, number in enumerate(numbers)}


def ways(few: float, lora: float, noise: float = 0.1, items: int = 40) -> list[Way]:
    rng = np.random.default_rng(3)
    base = rng.normal(-3, 1, items)
    shifts = (0.0, few, lora)
    return [
        Way(name, {LOGLIK: values(base + shift + rng.normal(0, noise, items))}, 10.0)
        for name, shift in zip(WAYS, shifts, strict=True)
    ]


@pytest.mark.parametrize(
    ("few", "lora", "wanted"),
    [(0, 0, "zero-shot"), (0.5, 0.5, "few-shot"), (0.5, 1.5, "LoRA"), (0, 1, "LoRA"), (-1, -1, "zero-shot"),
     (0.5, -1, "few-shot")],
)  # fmt: skip
def test_the_cheapest_way_that_none_beats(few: float, lora: float, wanted: str) -> None:
    found = advise(ways(few, lora))
    assert found.way == wanted
    assert (wanted == "zero-shot") == found.sentence.startswith("Keep the model as it is")


def test_differences_are_paired() -> None:
    """Between items there is ten times as much difference as between ways, and still the small one is found."""
    (zero, few, lora), found = ways(0.3, 0.3, items=60), advise(ways(0.3, 0.3, items=60))
    (entry,) = [e for e in found.comparisons if (e["a"], e["b"]) == ("few-shot", "zero-shot")]
    a, b = ([value for value, _ in way.values[LOGLIK].values()] for way in (few, zero))
    assert stats.ttest_ind(a, b).pvalue > 0.05
    paired = stats.ttest_rel(a, b)
    assert entry["difference"] == pytest.approx(np.mean(a) - np.mean(b))
    assert entry["low"] == pytest.approx(paired.confidence_interval().low, abs=0.02)
    assert entry["high"] == pytest.approx(paired.confidence_interval().high, abs=0.02)
    assert lora.interval(LOGLIK).low < np.mean([value for value, _ in lora.values[LOGLIK].values()])


def test_data_of_every_kind(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": f"p{n}", "completion": f"a{n}"} for n in range(10)]
    rows += [
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": f"q{n}"},
                      {"role": "assistant", "content": "a"}]} for n in range(10)
    ]  # fmt: skip
    rows += [{"question": f"c{n}", "choices": ["x", "y", "z"], "gold": 1} for n in range(10)]
    rows += rows[:3]
    items = read_items(written(tmp_path / "d.jsonl", rows))
    assert len(items) == 30, "what is asked twice is one item, or it could be learned and measured"
    assert {len(item.wrong) for item in items} == {0, 2}
    assert items[10].as_chat() == rows[10]
    parts = split(items)
    assert (len(parts.shown), len(parts.measured)) == (21, 9)
    assert split(items[::-1]) == parts


@pytest.mark.parametrize(
    "bad",
    [{"prompt": "p"}, {"messages": [{"role": "user", "content": "q"}]}, {"question": "q", "choices": ["a"], "gold": 0},
     {"question": "q", "choices": ["a", "b"], "gold": 2}, {"question": "q", "choices": ["a", "a"], "gold": 0},
     {"prompt": "p", "completion": " "}, [1], {"prompt": [], "completion": "x"}],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, bad: object) -> None:
    with pytest.raises(DataError, match=r"d\.jsonl, line 2"):
        read_items(written(tmp_path / "d.jsonl", [{"prompt": "p", "completion": "a"}, bad]))  # type: ignore[list-item]


def test_too_little_is_refused(command: Callable[..., Ran], tmp_path: Path) -> None:
    write_folder(tmp_path / "here" / "tiny", template=TEMPLATE)
    written(tmp_path / "here" / "d.jsonl", [{"prompt": f"p{n}", "completion": "a"} for n in range(5)])
    command("advise", "./tiny", "d.jsonl").refused("5 different items", "20 are needed")
    command("advise", "./tiny", "none.jsonl").refused("none.jsonl cannot be read")


def test_a_short_training_teaches_what_examples_cannot(command: Callable[..., Ran], tmp_path: Path) -> None:
    """A model with random weights learns nothing from examples, and one thing to say from training."""
    write_folder(tmp_path / "here" / "tiny", template=TEMPLATE)
    written(tmp_path / "here" / "d.jsonl", [{"prompt": f"p{n}", "completion": "abab"} for n in range(60)])
    how = ("--shots", "2", "--passes", "8", "--learning-rate", "0.02", "--threads", "1")
    done = command("advise", "./tiny", "d.jsonl", *how, "--json")
    assert done.status == 0, done.err
    told = json.loads(done.out)
    assert (told["advice"], told["measure"]) == ("LoRA", LOGLIK)
    assert [row["way"] for row in told["ways"]] == list(WAYS)
    assert told["ways"][2][EXACT]["value"] == 1
    assert told["costs"]["shots"] in (1, 2)
    assert told["costs"]["extra_prompt_tokens"] > 5
    assert not list((tmp_path / "here").glob("*adapter*"))


def test_choices_are_judged_by_accuracy(command: Callable[..., Ran], tmp_path: Path) -> None:
    write_folder(tmp_path / "here" / "tiny", template=TEMPLATE)
    rows: list[dict[str, object]] = [{"question": f"c{n}", "choices": ["ab", "zz"], "gold": 1} for n in range(40)]
    written(tmp_path / "here" / "d.jsonl", rows)
    how = ("--shots", "9", "--passes", "4", "--learning-rate", "0.02", "--threads", "1", "--out", "kept")
    done = command("advise", "./tiny", "d.jsonl", *how)
    assert done.status == 0, done.err
    assert ACCURACY in done.out
    assert "12 held-out items, 28 to show or to learn from" in done.out
    assert "The adapter is kept/adapter." in done.out
    assert (tmp_path / "here" / "kept" / "adapter" / "adapter_model.safetensors").is_file()
