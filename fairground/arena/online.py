"""Ratings between full fits: a vote moves them at once, in microseconds.

Each vote is one Newton step on its own likelihood, with the information of all votes before it (recursive estimation
for logit models, as in Fahrmeir, 1992; the covariance follows by the formula of Sherman and Morrison). Between two fits
of a large arena this is the full fit but for what the curvature changes; the next full fit sets it right.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, ndtri

from fairground.arena.columns import POINTS, Floats
from fairground.arena.fit import Fit
from fairground.errors import DataError

NEWCOMER_SPREAD = 1.5  # logits, some 260 points: how far from the others' mean a new model is thought to be


class Online:
    """Ratings of m models that votes keep moving. Both-bad counts as a tie.

    `theta` [m]: logits with mean zero. `covariance` [m, m]: as of independent votes (`Fit.model_based`).
    """

    def __init__(self, theta: Floats, covariance: Floats) -> None:
        self.theta, self.covariance = theta.copy(), covariance.copy()

    @classmethod
    def after(cls, fit: Fit, models: int) -> Online:
        """From a full fit of so many models; of an outside option nothing is kept."""
        return cls(fit.theta[:models], fit.model_based[:models, :models])

    def add(self, a: int, b: int, outcome: int) -> None:
        """Takes in a vote on two models (indices), with its outcome as columns.py codes it.

        Raises DataError for a model against itself or an outcome that is not known.
        """
        if a == b or outcome not in range(len(POINTS)):
            raise DataError("A vote needs two different models and one of four outcomes, so this one is not counted.")
        p = float(expit(self.theta[a] - self.theta[b]))
        reach = self.covariance[a] - self.covariance[b]
        variance = float(reach[a] - reach[b])
        weight = p * (1 - p)
        gain = reach / (1 + weight * variance)
        self.theta += gain * (float(POINTS[outcome]) - p)
        self.covariance -= np.outer(gain, weight * reach)

    def add_model(self) -> int:
        """The index of a new model, which begins at the others' mean and is unsure by `NEWCOMER_SPREAD`."""
        m = len(self.theta)
        joint = np.zeros((m + 1, m + 1))
        joint[:m, :m] = self.covariance
        joint[m, m] = NEWCOMER_SPREAD**2
        centre = np.eye(m + 1) - 1 / (m + 1)
        self.theta = np.append(self.theta, 0.0)
        self.covariance = centre @ joint @ centre.T
        return m

    def half_widths(self) -> Floats:
        """Half the 95% intervals [m], as of independent votes."""
        half: Floats = ndtri(0.975) * np.sqrt(np.diag(self.covariance).clip(0))
        return half
