"""The Pareto front, against a second way of finding one, a worked example, and what the leaderboard holds of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairground.evaluation import columns as c
from fairground.evaluation.pareto import Point, dominated, front, fronts

grid = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=12)


def made(pairs: list[tuple[int, int]]) -> list[Point]:
    return [
        Point(str(i), c.Estimate(float(quality), None, None, None), c.Estimate(float(cost), None, None, None))
        for i, (quality, cost) in enumerate(pairs)
    ]


@given(grid)
def test_front_is_what_a_sweep_by_cost_finds(pairs: list[tuple[int, int]]) -> None:
    """Sorted by cost, a point is on the front where its quality is above that of everything cheaper, and the highest at
    its own cost (the sweep of Kung, Luccio and Preparata 1975)."""
    swept, best = set(), -1.0
    for cost in sorted({cost for _, cost in pairs}):
        top = max(quality for quality, own in pairs if own == cost)
        if top > best:
            swept |= {str(i) for i, (quality, own) in enumerate(pairs) if (quality, own) == (top, cost)}
            best = top
    assert {one.label for one in front(made(pairs))} == swept


@given(grid)
def test_front_of_a_speed_is_that_of_its_negative(pairs: list[tuple[int, int]]) -> None:
    faster = front(made(pairs), higher_is_better=True)
    slower = front(made([(quality, 10 - cost) for quality, cost in pairs]))
    assert [one.label for one in faster] == [one.label for one in slower]


@given(grid)
def test_every_point_is_on_the_front_or_beaten_from_it(pairs: list[tuple[int, int]]) -> None:
    points = made(pairs)
    on = {one.label for one in front(points)}
    off = {one.label: one.by for one in dominated(points)}
    assert on.isdisjoint(off)
    assert on | set(off) == {one.label for one in points}
    assert set(off.values()) <= on


def model(label: str, accuracy: float, half: float, ttft: float, memory: float | None, **more: Any) -> dict[str, Any]:
    value = {"value": accuracy, "low": accuracy - half, "high": accuracy + half}
    metrics = {"accuracy": value, "ttft_ms": {"value": ttft}, **more.pop("metrics", {})}
    return {"model": label, "parameters": 10, "memory_mb": memory, "metrics": metrics, **more}


def test_worked_example() -> None:
    models = [
        model("large", 0.8, 0.02, 300, 900),
        model("middle", 0.6, 0.02, 100, 300),
        model("worse", 0.5, 0.02, 200, 300),
        model("level", 0.59, 0.02, 150, 400),
        model("unknown", 0.9, 0.02, 500, None),
        model("guesser", 0.25, 0.02, 0.01, 0) | {"parameters": 0},
    ]
    assert fronts(models) == {"ttft_ms": ["unknown", "large", "middle"], "memory_mb": ["large", "middle"]}
    points = [Point(m["model"], c.ACCURACY.of(m), c.TIME_TO_FIRST_TOKEN.of(m)) for m in models[:4]]  # type: ignore[arg-type]
    assert [(one.label, one.by, one.overlap) for one in dominated(points)] == [
        ("worse", "middle", False),
        ("level", "middle", True),
    ]


def test_energy_and_price_count_where_they_are_known() -> None:
    priced = {"metrics": {"price_per_mtok": {"value": 2.0}, "energy_j_per_1k_tokens": {"value": 9.0}}}
    models = [model("remote", 0.8, 0.02, 300, None, **priced), model("local", 0.6, 0.02, 100, 300)]
    assert fronts(models)["price_per_mtok"] == ["remote"]
    assert fronts(models)["energy_j_per_1k_tokens"] == ["remote"]
