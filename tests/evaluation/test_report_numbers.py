"""What the report draws that no single column holds: reliability, groups, and the weighted total."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fairground.errors import RequestError
from fairground.evaluation import metrics
from fairground.evaluation.groups import fairness
from fairground.evaluation.measure import Measured, Row, TaskResult
from fairground.evaluation.tasks import Outcome
from fairground.evaluation.weighted import check, read_weights, weighted_total


def test_reliability_diagram_equals_scikit_learns() -> None:
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(3)
    p = rng.permutation(500) / 500  # distinct, and a multiple of ten, where its quantile bins are ours
    y = (rng.random(500) < p).astype(float)
    accuracy, confidence = calibration_curve(y, p, n_bins=10, strategy="quantile")
    ours = metrics.calibration_bins(p, y)
    assert [own[2] for own in ours] == [50] * 10
    np.testing.assert_allclose([own[0] for own in ours], confidence)
    np.testing.assert_allclose([own[1] for own in ours], accuracy)
    assert metrics.expected_calibration_error(p, y) == pytest.approx(np.abs(accuracy - confidence).mean())


def column(values: list[float], name: str) -> dict[str, tuple[float, str]]:
    return {f"{name}-{i}": (value, f"{name}-{i}") for i, value in enumerate(values)}


def test_weighted_total_is_the_mean_by_weight_with_the_deltas_interval() -> None:
    rng = np.random.default_rng(5)
    right, flips = (rng.random(400) < 0.7).astype(float), rng.random(300)
    columns = {"accuracy": column(right.tolist(), "a"), "flip_rate": column(flips.tolist(), "f"), "coherence": {}}
    found = weighted_total(columns, {"accuracy": 3, "flip_rate": 1})
    assert found is not None
    assert found["value"] == pytest.approx(0.75 * right.mean() + 0.25 * (1 - flips.mean()))
    # Two independent means: the variance is that of their weighted sum.
    error = 1.96 * np.sqrt(0.75**2 * right.var() / 400 + 0.25**2 * flips.var() / 300)
    assert found["high"] - found["value"] == pytest.approx(error, rel=0.06)
    assert found["value"] - found["low"] == pytest.approx(error, rel=0.06)
    assert weighted_total(columns, {"accuracy": 1, "coherence": 1}) is None  # not measured: no total of something else


def test_an_item_that_counts_twice_is_drawn_for_both() -> None:
    """Two columns that mirror each other item by item add up to the same in every resample."""
    values = [float(i % 3 == 0) for i in range(60)]
    mirrored = [1 - value for value in values]
    columns = {"accuracy": column(values, "a"), "robustness": column(mirrored, "a")}
    found = weighted_total(columns, {"accuracy": 1, "robustness": 1})
    assert found is not None
    assert [found["low"], found["value"], found["high"]] == pytest.approx([0.5] * 3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nonsense=1", "'nonsense' cannot be weighed"),
        ("ttft_ms=1", "'ttft_ms' cannot be weighed"),
        ("stereotype=1", "'stereotype' cannot be weighed"),
        ("accuracy", "must be a number above 0"),
        ("accuracy=0", "must be a number above 0"),
        ("accuracy=nan", "must be a number above 0"),
        ("accuracy=1,accuracy=2", "has two weights"),
        ("", "cannot be weighed"),
    ],
)
def test_bad_weights_are_refused(given: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        read_weights(given)


def test_weights_are_read_and_held_against_the_suite() -> None:
    weights = read_weights("accuracy=2, coherence=0.5")
    assert weights == {"accuracy": 2.0, "coherence": 0.5}
    suite: Any = SimpleNamespace(name="small", tasks=[SimpleNamespace(name="t", metric="accuracy")])
    with pytest.raises(RequestError, match="No task of the suite small counts in coherence"):
        check(weights, suite)
    check({"accuracy": 1.0}, suite)


def outcome(id_: str, domain: str, measures: dict[str, float], **record: Any) -> Outcome:
    return Outcome(id_, domain, id_, measures, record)


def test_groups_are_cut_as_counted_by_hand() -> None:
    choices = [
        outcome(f"c{i}", "law" if i < 20 else "art", {"accuracy": float(i % 4 == 0 or i >= 30)}) for i in range(40)
    ]
    choices += [outcome(f"few{i}", "few", {"accuracy": 1.0}) for i in range(9)]
    fills = [
        [{"who": "he", "chosen": 0}, {"who": "she", "chosen": int(i % 2)}, *([{"who": "they", "chosen": 1}] * (i == 0))]
        for i in range(10)
    ]
    templates = [
        outcome(f"p{i}", "pronoun", {"flip_rate": float(i % 2)}, gold=0, fills=own) for i, own in enumerate(fills)
    ]
    row = Row("m", "m", 0, Measured())
    row.own.results = {"mc": TaskResult("mc", tuple(choices)), "cf": TaskResult("cf", tuple(templates))}
    items = {"mc": choices, "cf": templates}
    suite: Any = SimpleNamespace(
        tasks=[
            SimpleNamespace(
                name=name, metric=metric, items=[SimpleNamespace(id=one.id, language="en") for one in items[name]]
            )
            for name, metric in (("mc", "accuracy"), ("cf", "flip_rate"))
        ]
    )
    found = json.loads(json.dumps(fairness(row, suite)))
    assert found["flip_rate"]["pronoun"]["value"] == 0.5
    gap = found["gap"]["domain"]  # "few" has nine items, and all are right
    assert (gap["best"]["group"], gap["best"]["value"]) == ("art", pytest.approx(13 / 20))
    assert (gap["worst"]["group"], gap["worst"]["value"]) == ("law", pytest.approx(5 / 20))
    assert gap["value"] == pytest.approx(8 / 20)
    assert "language" not in found["gap"]
    person = found["gap"]["pronoun"]  # nobody asks every question about "they"
    assert [person[end]["group"] for end in ("best", "worst")] == ["he", "she"]
    assert person["value"] == pytest.approx(0.5)
