"""The verdict: equal to scipy's tests, right as often as it says, and in words that say no more than was shown."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fairground.loop.verdict import Verdict, together, verdict


def results(wins: int, losses: int, ties: int = 0) -> list[tuple[float, str]]:
    values = [1.0] * wins + [0.0] * losses + [0.5] * ties
    return [(value, str(number)) for number, value in enumerate(values)]


def test_independent_results_are_a_sign_test() -> None:
    for wins, losses, ties in ((30, 12, 0), (8, 15, 4), (9, 9, 1), (20, 0, 0)):
        said = verdict("new", "old", "votes", results(wins, losses, ties))
        n = wins + losses
        exact = stats.binomtest(wins, n, 0.5).pvalue
        mid = exact - stats.binom.pmf(min(wins, losses), n, 0.5) * (0.5 if wins == losses else 1)
        assert said.p == pytest.approx(mid, abs=1e-12)
        assert (said.wins, said.losses, said.ties) == (wins, losses, ties)
        assert said.rate == pytest.approx((wins + ties / 2) / (n + ties))
        assert said.low <= said.rate <= said.high


def test_interval_and_test_agree_where_votes_share_a_voter() -> None:
    rng = np.random.default_rng(1)
    for _ in range(8):
        own = [(float(rng.random() < rng.choice([0.4, 0.9])), str(voter)) for voter in range(25) for _ in range(4)]
        said = verdict("new", "old", "votes", own)
        assert (said.p < 0.05) == (not said.low <= 0.5 <= said.high)


@pytest.mark.parametrize("clustered", [False, True])
def test_a_false_better_is_as_rare_as_it_says(clustered: bool) -> None:
    """Of communities that do not care, about 2.5% may seem to like the new one better."""
    rng = np.random.default_rng(7)
    better, runs = 0, 60 if clustered else 400
    for _ in range(runs):
        if clustered:
            own = [
                (float(rng.random() < lean), str(voter))
                for voter, lean in enumerate(rng.choice([0.2, 0.8], 40))
                for _ in range(3)
            ]
        else:
            own = [(float(rng.random() < 0.5), str(number)) for number in range(60)]
        better += verdict("new", "old", "votes", own).better
    assert better <= stats.binom.ppf(0.9999, runs, 0.025)


def test_one_voter_alone_shows_nothing() -> None:
    said = verdict("new", "old", "votes", [(1.0, "ada")] * 50)
    assert not said.better
    assert said.sentence().endswith("no improvement shown.")


def test_many_voters_who_agree_are_counted_once_each() -> None:
    said = verdict("new", "old", "votes", [(1.0, voter) for voter in "abcdefgh" for _ in range(5)])
    assert said.p == pytest.approx(0.5**8)
    assert said.better


def test_the_sentence_says_what_was_shown() -> None:
    good = verdict("smollm2-improved", "smollm2", "votes", results(63, 37))
    interval, votes = "63% (95% 53 to 72)", "100 votes of people, p = 0.009"
    assert good.sentence() == f"smollm2-improved wins {interval} against smollm2 in {votes}: better."
    none = verdict("smollm2-improved", "smollm2", "held_out_pairs", results(26, 24))
    assert none.sentence().endswith("p = 0.780: no improvement shown.")
    assert verdict("a", "b", "judge", results(2, 40), "gpt").sentence().endswith("by gpt, p < 0.001: worse.")


def test_several_verdicts_are_corrected_for_their_number() -> None:
    def one(wins: int) -> Verdict:
        return verdict("new", "old", "votes", results(wins, 50 - wins))

    assert one(32).better
    assert not together([one(32), one(26)])[0].better
    assert together([one(40), one(26)])[0].p == pytest.approx(2 * one(40).p)
