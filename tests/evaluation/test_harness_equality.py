"""Our accuracies on real sets are lm-evaluation-harness's, of its `hf` model in float32, item by item."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import harness_reference as reference
import pytest
from harness_reference import SETS, Right

from fairground.engine.local import open_model
from fairground.evaluation import Entrant, load_suite, rank
from fairground.evaluation.suite import DATA
from fairground.evaluation.tasks.multiple_choice import CHOICES_ONLY

KEPT = json.loads(Path(reference.__file__).with_name("results").joinpath("harness_smollm2.json").read_text("utf-8"))


def ours(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Right:
    """The same of our suites, which read what `prepare` wrote into the folder."""
    monkeypatch.setenv(DATA, str(folder))
    found: Right = {}
    for shots, names in ((0, tuple(SETS)), (5, ("mmlu",))):
        suites = [load_suite(name) for name in names]
        tasks = tuple(task for suite in suites for task in suite.tasks if task.name != CHOICES_ONLY)
        suite = replace(suites[0], tasks=tasks, probe=replace(suites[0].probe, repeats=1))
        run = rank([Entrant("model", lambda: open_model(path, precision="float32"), shots=shots)], suite)
        for row in run.scores:
            own = found.setdefault(row["task"], {})
            accuracy = row["accuracy"] if "accuracy" in row else row["last_word"]
            own["acc"] = own.get("acc", "") + str(int(accuracy))
            if "accuracy_norm" in row:
                own["acc_norm"] = own.get("acc_norm", "") + str(int(row["accuracy_norm"]))
    return found


def cut(right: Right, count: int) -> Right:
    """Of the first items, as `prepare` takes them."""
    return {
        name: {metric: digits[: count if name in SETS else count // 6] for metric, digits in own.items()}
        for name, own in right.items()
    }


def assert_equal(found: Right, expected: Right) -> None:
    for name, metrics in expected.items():
        for metric, digits in metrics.items():
            assert found[name][metric] == digits, (name, metric)


def test_the_kept_results_are_of_the_whole_sets(smollm2: Path) -> None:
    assert KEPT["about"]["sha256"] == reference.weights_hash(smollm2)
    lengths = {name: {len(digits) for digits in own.values()} for name, own in KEPT["right"].items()}
    assert lengths == {name: {300 if name in SETS else 50} for name in KEPT["right"]}
    assert len(lengths) == len(SETS) + 6


@pytest.mark.verify
@pytest.mark.parametrize(("model", "count"), [("stories15m", 300), ("smollm2", 12)])
def test_item_by_item_beside_the_harness(
    request: pytest.FixtureRequest,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    count: int,
) -> None:
    path = request.getfixturevalue(model)
    names = [*SETS, *reference.prepare(shared, tmp_path, count)]
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    expected = reference.harness(path, tmp_path, names)
    assert_equal(ours(path, tmp_path, monkeypatch), expected)
    if model == "smollm2":
        assert expected == cut(KEPT["right"], count)


@pytest.mark.verify
def test_smollm2_on_three_hundred_items(
    smollm2: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside what the harness said once (harness_reference.py), since it takes half an hour to say it."""
    reference.prepare(shared, tmp_path, KEPT["about"]["count"])
    assert_equal(ours(smollm2, tmp_path, monkeypatch), KEPT["right"])
