"""From a fit, or from resamples of it, to 95% intervals and to which of two models is surely better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from fairground.arena.columns import Bools, Floats
from fairground.arena.fit import Fit, contrast_variance


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """`low`, `high` [n]: 95% intervals of `theta`, in logits. `surely` [n, n]: whether the row's is surely better than
    the column's: the 95% interval of their difference leaves out zero. `style_low`, `style_high` [k]."""

    low: Floats
    high: Floats
    surely: Bools
    style_low: Floats
    style_high: Floats


def sandwich_intervals(fit: Fit) -> Intervals:
    """Intervals from the fit's covariances, symmetric about the estimate."""
    half, pair_half = fit.half_widths()
    style_half = fit.style_half_widths()
    return Intervals(
        low=fit.theta - half,
        high=fit.theta + half,
        surely=_lead(fit.theta) > pair_half,
        style_low=fit.style - style_half,
        style_high=fit.style + style_half,
    )


def bootstrap_intervals(fit: Fit, parameters: Floats) -> Intervals:
    """Percentile intervals of resamples' `parameters` [B, n + k], with the same floors as the sandwich's."""
    n = len(fit.theta)
    low, high = np.quantile(parameters, [0.025, 0.975], axis=0)
    theta = np.ascontiguousarray(parameters[:, :n])
    surely = np.stack([(theta[:, [i]] > theta).mean(axis=0) >= 0.975 for i in range(n)])
    floor = ndtri(0.975)
    own_floor = np.where(fit.floored, floor * np.sqrt(np.diag(fit.model_based).clip(0)), 0.0)
    either: NDArray[np.bool_] = fit.floored[:, None] | fit.floored[None, :]
    beyond = ~either | (_lead(fit.theta) > floor * np.sqrt(contrast_variance(fit.model_based)))
    return Intervals(
        low=np.minimum(low[:n], fit.theta - own_floor),
        high=np.maximum(high[:n], fit.theta + own_floor),
        surely=surely & beyond,
        style_low=low[n:],
        style_high=high[n:],
    )


def _lead(theta: Floats) -> Floats:
    lead: Floats = theta[:, None] - theta[None, :]
    return lead
