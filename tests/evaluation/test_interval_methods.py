"""Intervals against scipy's, and by simulation against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fairground.evaluation import intervals


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (1, 3), (48, 192), (101, 192), (4999, 5000)])
def test_wilson_is_scipys(right: int, n: int) -> None:
    found = intervals.wilson(right, n)
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.value, found.n) == (right / n, n)


def test_student_t_is_scipys() -> None:
    values = [101.0, 99.5, 103.2, 98.7, 100.1, 102.4]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = intervals.student_t(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    with pytest.raises(ValueError, match="two repeats"):
        intervals.student_t([1.0])


def test_bootstrap_is_scipys_percentile_interval_at_the_expanded_level() -> None:
    values = np.random.default_rng(5).gamma(2.0, size=60)
    level = 1 - 2 * intervals.expanded_tail(60)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=level, method="percentile", rng=1
    ).confidence_interval
    found = intervals.cluster_bootstrap(list(values), [str(i) for i in range(60)], resamples=20_000)
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.03 * width)
    assert found.high == pytest.approx(expected.high, abs=0.03 * width)


def test_expanded_interval_is_near_students_for_normal_values() -> None:
    values = np.random.default_rng(2).normal(size=40)
    found = intervals.cluster_bootstrap(list(values), [str(i) for i in range(40)], resamples=40_000)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.06 * width)


def test_clusters_widen_the_interval_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    per_passage = np.repeat(rng.integers(0, 2, 30), 4).astype(float)
    together = [str(i // 4) for i in range(120)]
    clustered = intervals.cluster_bootstrap(list(per_passage), together)
    apart = intervals.cluster_bootstrap(list(per_passage), [f"{i:03}" for i in range(120)])
    assert clustered.high - clustered.low > 1.7 * (apart.high - apart.low)
    order = rng.permutation(120)
    shuffled = intervals.cluster_bootstrap([per_passage[i] for i in order], [together[i] for i in order])
    assert (shuffled.low, shuffled.high) == pytest.approx((clustered.low, clustered.high))


def test_means_of_unequal_clusters_are_ratios() -> None:
    means = intervals.bootstrap_means(np.array([[1.0], [1.0], [1.0], [0.0]]), ["a", "a", "a", "b"], 500)
    assert set(np.unique(means[:, 0])) == {0.0, 0.75, 1.0}


def test_share_is_wilson_for_right_and_wrong_and_never_claims_certainty() -> None:
    assert intervals.share([1, 0, 1], ["a", "b", "c"]) == intervals.wilson(2, 3)
    all_right = intervals.share([1.0] * 20, [str(i // 2) for i in range(20)])
    assert (all_right.value, all_right.high, all_right.n) == (1.0, 1.0, 20)
    assert all_right.low == pytest.approx(intervals.wilson(10, 10).low)
    assert intervals.share([0.5, 1.0, 0.0, 1.0], list("abcd")).method == "cluster bootstrap"
    one = intervals.share([0.5], ["a"])
    assert one.low < 0.5 < one.high


@pytest.mark.verify
@pytest.mark.parametrize("p", [0.25, 0.5, 0.8])
def test_wilson_covers_95_percent(p: float) -> None:
    n = 192
    limits = np.array([[(i := intervals.wilson(k, n)).low, i.high] for k in range(n + 1)])
    right = np.random.default_rng(0).binomial(n, p, 20_000)
    assert 0.94 <= np.mean((limits[right, 0] <= p) & (p <= limits[right, 1])) <= 0.96


@pytest.mark.verify
@pytest.mark.parametrize("kind", ["coherence", "relevance"])
def test_cluster_bootstrap_covers_95_percent(kind: str) -> None:
    """88 passages at two difficulties, and 48 skewed relevances. Fewer resamples than in a run, for speed."""
    rng = np.random.default_rng(1)
    covered = 0
    runs = 10_000
    for _ in range(runs):
        if kind == "coherence":
            easy = rng.random(88)[:, None]
            values = (rng.random((88, 2)) < 0.5 + 0.45 * easy).astype(float).ravel()
            clusters, truth = [str(i // 2) for i in range(176)], 0.725
        else:
            values, clusters, truth = rng.gamma(4.0, size=48), [str(i) for i in range(48)], 4.0
        found = intervals.cluster_bootstrap(list(values), clusters, resamples=2_000)
        covered += found.low <= truth <= found.high
    assert 0.94 <= covered / runs <= 0.96
