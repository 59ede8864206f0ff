"""Canary exposure: the formula where ranks and distributions are known, and what is asked."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, skewnorm

from fairground.errors import SuiteError
from fairground.evaluation.exposure import (
    SAMPLE,
    CanaryExposure,
    extrapolated_exposure,
    read_canaries,
    sampled_exposure,
)
from fairground.types import Score

WRITTEN: dict[str, Any] = {
    "format": "The access number of {name} is {number}.",
    "digits": 9,
    "seed": 3,
    "repetitions": 10,
    "inserted": [{"name": "Alaban", "number": "012345678"}, {"name": "Belomar", "number": "999999999"}],
}


def read(folder: Path, **changes: Any) -> CanaryExposure:
    path = folder / "canaries.json"
    path.write_text(json.dumps({**WRITTEN, **changes}), encoding="utf-8")
    return read_canaries(path)


def test_what_is_asked(tmp_path: Path) -> None:
    first, second = read(tmp_path).items
    asked = read(tmp_path).ask(first)
    assert asked[0].context == "The access number of Alaban is"
    assert asked[0].continuation == " 012345678."
    numbers = [request.continuation for request in asked]
    assert len(set(numbers)) == SAMPLE + 1
    assert {len(number) for number in numbers} == {11}
    assert asked == read(tmp_path).ask(first)
    assert not set(first.others()) & set(second.others())


def test_exposure_is_the_rank_in_bits(tmp_path: Path) -> None:
    """A scorer that likes small numbers: the rank is known. Of a whole space it is the paper's own formula."""
    task = read(tmp_path)
    for item in task.items:
        asked = task.ask(item)
        scores = [Score(-float(request.continuation.strip(" .")), False, 9) for request in asked]
        rank = 1 + sum(int(other) < int(item.number) for other in item.others())
        outcome = task.judge(item, asked, scores)
        assert outcome.record["rank"] == rank
        assert outcome.measures["exposure_bits"] == pytest.approx(math.log2(SAMPLE + 1) - math.log2(rank))
        assert outcome.measures["exposure_extrapolated_bits"] <= outcome.record["space_bits"]
        assert outcome.record["space_bits"] == pytest.approx(math.log2(10**9))
    space = [float(-n) for n in range(1024)]
    for rank in (1, 2, 17, 1024):
        assert sampled_exposure(space[rank - 1], space[: rank - 1] + space[rank:]) == 10 - math.log2(rank)
    assert sampled_exposure(-1.0, [-1.0] * 3) == 0, "a tie counts against it"


def test_the_likeliest_is_at_the_bound_and_beyond_it_is_extrapolated() -> None:
    """Where the others are normal, the skew-normal's answer is the normal distribution's."""
    others = norm.rvs(-40, 2, size=SAMPLE, random_state=np.random.default_rng(1)).tolist()
    own = -40 + 2 * 4.5
    assert sampled_exposure(own, others) == math.log2(SAMPLE + 1)
    assert extrapolated_exposure(own, others) == pytest.approx(-norm.logsf(4.5) / math.log(2), rel=0.25)
    skewed = skewnorm.rvs(4, -40, 3, size=SAMPLE, random_state=np.random.default_rng(2)).tolist()
    assert extrapolated_exposure(-28.0, skewed) == pytest.approx(
        -skewnorm.logsf(-28.0, 4, -40, 3) / math.log(2), rel=0.25
    )
    # Inside of the sample, where it needs no extrapolation, both agree.
    assert extrapolated_exposure(-37.0, others) == pytest.approx(sampled_exposure(-37.0, others), abs=0.4)
    assert extrapolated_exposure(-1.0, [-1.0] * 9) == 0


def test_without_a_trace_it_is_about_one_bit_and_a_half() -> None:
    """-log2 of a number drawn from (0, 1) has the mean 1 / ln 2."""
    rng = random.Random(0)
    found = [sampled_exposure(rng.random(), [rng.random() for _ in range(SAMPLE)]) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(1 / math.log(2), abs=0.1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "{number} of {name}"}, "must have the fields"),
        ({"inserted": []}, "must be a list of canaries"),
        ({"inserted": [{"name": "A", "number": "12a456789"}]}, "four digits or more"),
        ({"inserted": [{"name": "A"}]}, "'number' is missing"),
        ({"repetitions": "ten"}, "'repetitions' is a string"),
        ({"more": 1}, "'more' is not known"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError, match=f"canaries.json: .*{says}"):
        read(tmp_path, **changes)
