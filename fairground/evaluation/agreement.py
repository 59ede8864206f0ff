"""How far raters agree: Krippendorff's alpha by the `krippendorff` package, with bootstrap intervals.

alpha = 1 - D_o / D_e, observed disagreement over what chance would give: 1 where all agree, 0 where they agree as if
they had thrown dice, below 0 where they disagree systematically (Krippendorff 2011, "Computing Krippendorff's
Alpha-Reliability"). It takes any number of raters and missing ratings. The package is under the GPL, so it is an
optional part of ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairground.errors import MissingExtra
from fairground.evaluation import intervals
from fairground.evaluation.judging import Winner
from fairground.evaluation.votes import JudgedPair

Counts = NDArray[np.int64]
"""[U, V]: how many raters gave each of U units each of V values, in the values' order."""

Level = Literal["nominal", "ordinal", "interval", "ratio"]
VALUES: tuple[Winner, ...] = ("a", "tie", "b")
LEVEL: Level = "ordinal"  # a tie lies between the two: a for b is further apart than a for a tie
RESAMPLES = 1_000


def require() -> None:
    """Raises MissingExtra where alpha cannot be computed."""
    try:
        import krippendorff  # noqa: F401
    except ImportError:
        raise MissingExtra(
            "Agreement with people needs krippendorff; install it with: pip install 'fairground[agreement]'"
        ) from None


def alpha(counts_UV: Counts, level: Level = LEVEL) -> float | None:
    """Krippendorff's alpha; None where it is not defined: no unit with two ratings, or all ratings the same.

    The values of an interval or ratio scale are 0, 1, 2, …; shift by what is needed beforehand. Raises MissingExtra.
    """
    require()
    import krippendorff

    pairable = counts_UV[counts_UV.sum(axis=1) > 1]
    if len(pairable) == 0 or np.count_nonzero(pairable.sum(axis=0)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = float(krippendorff.alpha(value_counts=pairable, level_of_measurement=level))
    return found if np.isfinite(found) else None


def alpha_interval(
    counts_UV: Counts, clusters: Sequence[str], level: Level = LEVEL, *, resamples: int = RESAMPLES
) -> dict[str, Any] | None:
    """Alpha with its 95% expanded percentile interval, resampling clusters of units; None where it is not defined.

    n counts the units with at least two ratings. Clusters: [U]. The rare resample without an alpha is left out.
    """
    value = alpha(counts_UV, level)
    if value is None:
        return None
    keep = counts_UV.sum(axis=1) > 1
    counts_UV, own = counts_UV[keep], np.asarray(clusters)[keep]
    found: dict[str, Any] = {"value": value, "low": None, "high": None, "n": len(own), "level": level}
    _, cluster_of = np.unique(own, return_inverse=True)
    groups = int(cluster_of.max()) + 1
    if groups < 2:
        return found
    rng = np.random.default_rng(intervals.SEED)
    drawn = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(groups, size=groups), minlength=groups)
        if (one := alpha(np.repeat(counts_UV, times[cluster_of], axis=0), level)) is not None:
            drawn.append(one)
    tail = intervals.expanded_tail(groups)
    if drawn:
        found["low"], found["high"] = map(float, np.quantile(drawn, [tail, 1 - tail]))
    return found


def majority(votes: Sequence[Winner]) -> Winner:
    """What most say; a tie where no one answer has the most votes."""
    most = sorted(((votes.count(value), value) for value in VALUES), reverse=True)
    return most[0][1] if most[0][0] > most[1][0] else "tie"


def with_people(pairs: Sequence[JudgedPair], verdicts: Mapping[str, Winner | None]) -> dict[str, Any]:
    """A judge's agreement with people: its verdicts by pair against the majority of the votes on each pair.

    `alpha` (ordinal), `alpha_nominal`, and `same`, the share of pairs with the same verdict; intervals resample
    pairs. A pair without a verdict is left out, and `pairs` counts the others.
    """
    both = [(pair, own) for pair in pairs if (own := verdicts.get(pair.id)) is not None]
    rated = [(own, majority(pair.votes)) for pair, own in both]
    return {"pairs": len(rated), **_two(rated, [pair.id for pair, _ in both])}


def among_people(pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """What a judge's agreement is to be read beside.

    `everyone`: alpha of all votes. `one_person`: each vote against the majority of the others on its pair, as
    `with_people` has it for a judge; one that votes alone on a pair is left out.
    """
    counts = np.array([[pair.votes.count(value) for value in VALUES] for pair in pairs])
    ids = [pair.id for pair in pairs]
    rated: list[tuple[Winner, Winner]] = []
    clusters: list[str] = []
    for pair in pairs:
        for i, vote in enumerate(pair.votes):
            if others := [*pair.votes[:i], *pair.votes[i + 1 :]]:
                rated.append((vote, majority(others)))
                clusters.append(pair.id)
    return {
        "pairs": len(pairs),
        "votes": sum(len(pair.votes) for pair in pairs),
        "everyone": {"alpha": alpha_interval(counts, ids), "alpha_nominal": alpha_interval(counts, ids, "nominal")},
        "one_person": {"pairs": len(set(clusters)), **_two(rated, clusters)} if rated else None,
    }


def between(one: Mapping[str, Winner | None], other: Mapping[str, Winner | None]) -> dict[str, Any]:
    """Two judges' agreement on the pairs on which both have a verdict."""
    rated = [(a, b, id_) for id_ in one if (a := one[id_]) is not None and (b := other.get(id_)) is not None]
    return {"pairs": len(rated), **_two([(a, b) for a, b, _ in rated], [id_ for *_, id_ in rated])}


def _two(rated: Sequence[tuple[Winner, Winner]], clusters: Sequence[str]) -> dict[str, Any]:
    """Agreement of two raters: alpha by both levels, and how often they say the same."""
    if not rated:
        return {"alpha": None, "alpha_nominal": None, "same": None}
    counts = np.array([[(a == value) + (b == value) for value in VALUES] for a, b in rated])
    return {
        "alpha": alpha_interval(counts, clusters),
        "alpha_nominal": alpha_interval(counts, clusters, "nominal"),
        "same": intervals.share([float(a == b) for a, b in rated], clusters).as_json(),
    }
