"""Paired tests against published examples, scipy, and simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from fairground.evaluation import comparison
from fairground.evaluation.comparison import compare_all, compare_means, holm, mid_p_mcnemar, tango_interval

# Bentur et al. 2009 (airway hyper-responsiveness) and Cavo et al. 2012 (complete response), the two examples of
# Fagerland, Lydersen & Laake 2013; the limits are those of their R package `contingencytables`.
BENTUR = (1, 7, 21)
CAVO = (6, 16, 161)


def test_mid_p_gives_the_published_values() -> None:
    assert mid_p_mcnemar(*BENTUR[:2]) == pytest.approx(0.0391, abs=5e-5)
    assert mid_p_mcnemar(*CAVO[:2]) == pytest.approx(0.034690, abs=5e-7)


def test_tango_gives_the_published_interval() -> None:
    assert tango_interval(*CAVO) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    low, high = tango_interval(16, 6, 161)
    assert (low, high) == pytest.approx((0.0054, 0.1240), abs=5e-5)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 3), (0, 9), (12, 5), (40, 61)])
def test_mid_p_is_the_exact_p_less_the_observed_probability(only_a: int, only_b: int) -> None:
    n = only_a + only_b
    p = mid_p_mcnemar(only_a, only_b)
    observed = stats.binom.pmf(only_a, n, 0.5)
    if n == 0:
        assert p == 1
    elif only_a == only_b:
        assert p == pytest.approx(1 - observed / 2)
    else:
        assert p == pytest.approx(stats.binomtest(only_a, n, 0.5).pvalue - observed)
    assert mid_p_mcnemar(only_b, only_a) == p


@pytest.mark.parametrize(
    ("only_a", "only_b", "n"), [(0, 0, 5), (5, 0, 5), (0, 5, 5), (1, 0, 1), (2, 0, 400), (7, 7, 14)]
)
def test_tango_stays_in_range_and_holds_the_difference(only_a: int, only_b: int, n: int) -> None:
    low, high = tango_interval(only_a, only_b, n)
    assert -1 <= low <= (only_a - only_b) / n <= high <= 1
    assert low < high


def test_holm_is_the_stepwise_rule() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.9]
    # By hand: 5 x 0.005, 4 x 0.01, 3 x 0.03, then 2 x 0.04 raised to what came before, then 0.9.
    assert holm(p) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.9])
    assert holm([]) == []
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = list(rng.random(7) ** 3)
        order = np.argsort(p)
        expected = np.empty(7)
        expected[order] = np.minimum(np.maximum.accumulate(np.array(p)[order] * np.arange(7, 0, -1)), 1)
        assert holm(p) == pytest.approx(expected)


def test_bootstrap_p_and_interval_agree_and_are_near_the_t_test() -> None:
    rng = np.random.default_rng(4)
    clusters = [str(i) for i in range(48)]
    for shift in (0.0, 0.2, 0.3, 0.5):
        a, b = rng.normal(shift, 1, 48), rng.normal(0, 0.5, 48)
        found = compare_means(a, b, clusters)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
        expected = stats.ttest_rel(a, b)
        assert found.p == pytest.approx(expected.pvalue, abs=0.02)
        low, high = expected.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))
        mirrored = compare_means(b, a, clusters)
        assert mirrored.p == pytest.approx(found.p)
        assert mirrored.difference == pytest.approx(-found.difference)


def test_equal_models_do_not_differ() -> None:
    a = np.array([0.5, 1.0, 0.0, 1.0])

    def compared(values: np.ndarray, clusters: str) -> dict[str, Any]:
        own = {str(i): (float(value), cluster) for i, (value, cluster) in enumerate(zip(values, clusters, strict=True))}
        (found,) = compare_all([({}, own, own)])
        return found

    same = compared(a, "abcd")
    assert (same["difference"], same["low"], same["high"], same["p"]) == (0, 0, 0, 1)
    right = np.array([1.0, 0.0, 1.0])
    assert compared(right, "abc")["p"] == 1
    assert compared(right, "aab")["method"] == "paired cluster bootstrap"


def test_smallest_detectable_difference_solves_connors_formula() -> None:
    for psi, n in [(0.3, 192), (0.1, 192), (0.5, 1000)]:
        d = comparison.smallest_detectable_difference(psi, n)
        z_a, z_b = 1.959964, 0.841621
        assert (z_a * psi**0.5 + z_b * (psi - d * d) ** 0.5) ** 2 / d**2 == pytest.approx(n, rel=1e-4)
    # Models that hardly disagree: the difference cannot be larger than the discordance, so this is raised to it.
    d = comparison.smallest_detectable_difference(0.0, 192)
    assert (1.959964 * d**0.5 + 0.841621 * (d - d * d) ** 0.5) ** 2 / d**2 == pytest.approx(192, rel=1e-4)
    assert comparison.smallest_detectable_difference(0.5, 3) == 1.0


def _tables(n: int, only_a: float, only_b: float, runs: int) -> np.ndarray:
    return np.random.default_rng(7).multinomial(n, [only_a, only_b, 1 - only_a - only_b], runs)


@pytest.mark.verify
@pytest.mark.parametrize("half", [0.05, 0.15, 0.25])
def test_mid_p_rejects_a_true_null_in_4_to_6_percent(half: float) -> None:
    rejected = [mid_p_mcnemar(int(a), int(b)) < 0.05 for a, b, _ in _tables(192, half, half, 10_000)]
    assert 0.04 <= np.mean(rejected) <= 0.06


@pytest.mark.verify
@pytest.mark.parametrize(("only_a", "only_b"), [(0.3, 0.1), (0.1, 0.1), (0.05, 0.02), (0.4, 0.05)])
def test_tango_covers_95_percent(only_a: float, only_b: float) -> None:
    limits: dict[tuple[int, int], tuple[float, float]] = {}
    covered = []
    for a, b, _ in _tables(192, only_a, only_b, 10_000):
        low, high = limits.setdefault((a, b), tango_interval(int(a), int(b), 192))
        covered.append(low <= only_a - only_b <= high)
    assert 0.94 <= np.mean(covered) <= 0.96


@pytest.mark.verify
def test_the_detectable_difference_is_detected_in_78_to_82_percent() -> None:
    psi = 0.3
    d = comparison.smallest_detectable_difference(psi, 192)
    tables = _tables(192, (psi + d) / 2, (psi - d) / 2, 10_000)
    assert 0.78 <= np.mean([mid_p_mcnemar(int(a), int(b)) < 0.05 for a, b, _ in tables]) <= 0.82


@pytest.mark.verify
def test_the_paired_bootstrap_rejects_a_true_null_in_4_to_6_percent() -> None:
    rng = np.random.default_rng(9)
    clusters = [str(i) for i in range(88)]
    rejected = []
    for _ in range(10_000):
        ability = rng.random(88)
        a, b = ((rng.random((88, 2)) < 0.5 + 0.4 * ability[:, None]).mean(axis=1) for _ in range(2))
        rejected.append(compare_means(a, b, clusters, resamples=2_000).p < 0.05)
    assert 0.04 <= np.mean(rejected) <= 0.06
