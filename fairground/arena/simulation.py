"""Communities, battles and attackers made from a seed, to measure what pairing, intervals and integrity tests promise.

A voter of a simulated community has tastes, leans to a side and calls some battles a tie, as `integrity` describes an
honest one; the standard deviations and the share of ties are near those in the 2023 record (taste 0.56, lean 0.21,
38% ties). Everything is a function of the generator that is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from fairground.arena.columns import POINTS
from fairground.arena.fit import Fit
from fairground.arena.integrity import NO_VOTE, judge_voter
from fairground.arena.pairing import choose_pair, design, pair_probabilities
from fairground.arena.ratings import bradley_terry

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def strengths(models: int, spread: float) -> Floats:
    """Logits [models] at the normal distribution's quantiles, ascending, with this standard deviation and mean zero."""
    theta: Floats = ndtri((np.arange(models) + 0.5) / models)
    theta *= spread / theta.std()
    return theta


@dataclass(frozen=True, slots=True, eq=False)
class Community:
    """Who votes on what: models' strengths `theta` [m] in logits, and how voters differ.

    `taste`, `lean`: standard deviations in logits of a voter's preference for each model and for the left side.
    `ties`: parameters of the beta distribution of voters' shares t (see `integrity`). `leave`: how often a battle is
    left without a vote, on average; `leave_spread`: standard deviation over models of the log-odds of leaving.
    """

    theta: Floats
    taste: float = 0.5
    lean: float = 0.3
    ties: tuple[float, float] = (2.0, 2.0)
    leave: float = 0.3
    leave_spread: float = 0.15

    def votes(self, first: Ints, second: Ints, voter: Ints, rng: np.random.Generator) -> Ints:
        """Outcomes [n] of these battles, by voters 0, 1, ... drawn anew: 0 left, 1 right, 2 tie, 3 both bad."""
        voters = int(voter.max()) + 1
        taste = (
            rng.normal(0, self.taste, (voters, len(self.theta))) if self.taste else np.zeros((voters, len(self.theta)))
        )
        lean = rng.normal(0, self.lean, voters) if self.lean else np.zeros(voters)
        tie = rng.beta(*self.ties, voters)
        lead = self.theta[first] - self.theta[second] + taste[voter, first] - taste[voter, second] + lean[voter]
        bad = expit(-(self.theta[first] + self.theta[second]))  # of ties: the weaker the two, the likelier
        return outcomes(lead, tie[voter], bad, rng)

    def expected_points(self) -> Floats:
        """What the row takes from the column on average over voters and sides: [m, m]."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(41)
        spread = np.sqrt(2 * self.taste**2 + self.lean**2)
        lead = self.theta[:, None] - self.theta[None, :]
        points: Floats = expit(lead[:, :, None] + spread * nodes) @ (weights / weights.sum())
        return points

    def ratings(self) -> Floats:
        """What even pairing estimates in the limit: the Bradley-Terry ratings [m] of the expected points."""
        m = len(self.theta)
        first, second = np.triu_indices(m, 1)
        points = self.expected_points()[first, second]
        return bradley_terry(first, second, points, np.arange(len(first)), [str(i) for i in range(m)]).theta


def outcomes(lead: Floats, tie: Floats, bad: Floats, rng: np.random.Generator) -> Ints:
    """Votes [n] by the left model's lead in logits, the voter's share of ties and how many of those are both-bad."""
    p, low = expit(lead), expit(-np.abs(lead))
    draw = rng.random(len(lead))
    left, right = p - tie * low, 1 - p - tie * low
    tied = np.where(rng.random(len(lead)) < bad, 3, 2)
    votes: Ints = np.where(draw < left, 0, np.where(draw < left + right, 1, tied)).astype(np.int64)
    return votes


def even_pairs(models: int, battles: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Left and right [battles]: two different models, evenly."""
    first = rng.integers(0, models, battles)
    return first, (first + rng.integers(1, models, battles)) % models


def fit(first: Ints, second: Ints, outcome: Ints, voter: Ints, models: int) -> Fit:
    """The ratings of these votes as `rate` gives them."""
    return bradley_terry(first, second, POINTS[outcome], voter, [str(i) for i in range(models)])


def covered(truth: Floats, fitted: Fit) -> tuple[NDArray[np.bool_], float]:
    """Which ratings' 95% intervals hold the truth [m], and the share of all differences' intervals that do."""
    own, pair = fitted.half_widths()
    error = fitted.theta - truth
    upper = np.triu_indices(len(truth), 1)
    held = np.abs(error[:, None] - error[None, :])[upper] <= pair[upper]
    return np.abs(error) <= own, float(held.mean())


def adaptive_battles(
    community: Community,
    battles: int,
    rng: np.random.Generator,
    *,
    refit: int = 100,
    uniform_share: float = 0.1,
    joins: dict[int, int] | None = None,
    together: bool = False,
) -> Iterator[tuple[Ints, Ints, Ints, Fit | None]]:
    """An arena that pairs by its own last fit: yields left, right, outcome so far and the fit, every `refit` battles.

    The first fit is after 5 battles a model at the earliest. A voter a vote. `uniform_share` 1 is even pairing.
    `joins`: models that are away until so many battles are over. `together`: all battles between two fits are drawn
    from one distribution, as if they were opened at once; faster.
    """
    m = len(community.theta)
    left, right, outcome = (np.zeros(battles, dtype=np.int64) for _ in range(3))
    counts = np.zeros((m, m), dtype=np.int64)
    known = design(np.zeros(m), counts)
    stop = 0
    while stop < battles:
        start, stop = stop, min(max(stop + refit, 5 * m), battles)
        here = np.array([start >= (joins or {}).get(model, 0) for model in range(m)])
        if together:
            table = np.triu(pair_probabilities(known, counts, available=here, uniform_share=uniform_share)).ravel()
            drawn = rng.choice(m * m, stop - start, p=table / table.sum())
            left[start:stop], right[start:stop] = np.divmod(drawn, m)
            np.add.at(counts, (left[start:stop], right[start:stop]), 1)
            np.add.at(counts, (right[start:stop], left[start:stop]), 1)
        for n in range(start, start if together else stop):
            pair = choose_pair(known, counts, rng=rng, available=here, uniform_share=uniform_share)
            left[n], right[n] = pair.a, pair.b
            counts[pair.a, pair.b] += 1
            counts[pair.b, pair.a] += 1
            known = known.after(pair.a, pair.b)
        new = slice(start, stop)
        outcome[new] = community.votes(left[new], right[new], np.arange(stop - start), rng)
        met = np.flatnonzero(counts.sum(axis=1))
        place = np.searchsorted(met, np.arange(m))
        theta, variance = np.zeros(m), np.full(m, np.nan)
        fitted = fit(place[left[:stop]], place[right[:stop]], outcome[:stop], np.arange(stop), len(met))
        theta[met], variance[met] = fitted.theta, (fitted.half_widths()[0] / ndtri(0.975)) ** 2
        known = design(theta, counts, variance)
        yield left[:stop], right[:stop], outcome[:stop], fitted


@dataclass(frozen=True, slots=True)
class Attack:
    """How someone votes who wants one model up, knows the arena's code and ratings, and sees no names.

    `recognises`: the chance that an answer is ascribed to the right model; else to any other, evenly. Where one of the
    two answers is ascribed to the target, it gets the vote; where one is ascribed to one of the `rivals`, the models
    next above the target, that one's opponent gets it. `elsewhere`: the chance of voting, as an honest voter would,
    where neither is; otherwise the battle is left. `account_votes`: then the account is dropped for a new one.
    `wary`: before each vote the tests are run on the account's whole life, and a vote that would raise an alarm is cast
    as an honest voter would, or not at all; after `refusals` such votes the account is dropped.
    """

    recognises: float = 0.95
    elsewhere: float = 0.0
    account_votes: int = 100
    wary: bool = True
    refusals: int = 1
    rivals: int = 0


def attacking_account(
    community: Community, target: int, attack: Attack, rng: np.random.Generator
) -> tuple[Ints, Ints, Ints]:
    """Left, right and outcome of every battle that one account opens under even pairing; -1 where it did not vote."""
    theta, m = community.theta, len(community.theta)
    above = np.argsort(theta)
    place = int(np.flatnonzero(above == target)[0])
    rivals = {int(model) for model in above[place + 1 : place + 1 + attack.rivals]}
    taste, lean = rng.normal(0, community.taste, m), rng.normal(0, community.lean)
    tie = rng.beta(*community.ties)
    first: list[int] = []
    second: list[int] = []
    said: list[int] = []
    cast = refused = 0
    p = 1.0
    while cast < attack.account_votes and refused < attack.refusals:
        a, b = (int(side[0]) for side in even_pairs(m, 1, rng))
        left, right = (_ascribed(model, m, attack.recognises, rng) for model in (a, b))
        lead = np.array([theta[a] - theta[b] + taste[a] - taste[b] + lean])
        honest = int(outcomes(lead, np.array([tie]), expit(-(theta[[a]] + theta[[b]])), rng)[0])
        if target in (left, right):
            choices = [0 if left == target else 1, honest, NO_VOTE]
        elif left in rivals or right in rivals:
            choices = [1 if left in rivals else 0, honest, NO_VOTE]
        else:
            choices = [honest, NO_VOTE] if rng.random() < attack.elsewhere else [NO_VOTE]
        first.append(a)
        second.append(b)
        said.append(choices[0])
        # An honest vote moves the tests little, so it is looked at only where they are near an alarm.
        if attack.wary and choices[0] != NO_VOTE and (len(choices) == 3 or p < 0.2):
            life = np.array(first), np.array(second)
            for choice in choices:
                said[-1] = choice
                verdict = judge_voter(*life, np.array(said), theta, targets=[target, *rivals])
                p = verdict.p
                if choice == NO_VOTE or not verdict.suspect:
                    break
            refused += said[-1] != choices[0]
        cast += said[-1] != NO_VOTE
    return np.array(first), np.array(second), np.array(said)


def _ascribed(model: int, models: int, recognises: float, rng: np.random.Generator) -> int:
    return model if rng.random() < recognises else int((model + rng.integers(1, models)) % models)


def climb(
    models: int, target: int, ranks: int, community: tuple[Ints, Ints, Ints], attack: tuple[Ints, Ints, Ints]
) -> int | None:
    """How many of the attack's votes, in order, lift the target by so many ranks; None where all of them do not.

    `community`, `attack`: left, right and outcome of each vote.
    """

    def above(votes: int) -> int:
        first, second, outcome = (np.concatenate([a, b[:votes]]) for a, b in zip(community, attack, strict=True))
        theta = fit(first, second, outcome, np.zeros(len(first), dtype=np.int64), models).theta
        return int((theta > theta[target]).sum())

    goal = above(0) - ranks
    low, high = 0, len(attack[0])
    if above(high) > goal:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if above(middle) <= goal else (middle, high)
    return high
