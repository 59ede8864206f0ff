"""A fitted model of votes: where the likelihood is greatest, and how far from there the truth may be.

Intervals are 95% and from the sandwich covariance H^-1 M H^-1, where H is the information and M the sum over clusters
of the outer products of their scores (White, 1982; Liang and Zeger, 1986). A cluster is a voter, or a single battle
where no voter is given. M is multiplied by G / (G - 1) for G clusters, and the quantile is Student's with G - 1
degrees of freedom (Cameron and Miller, 2015, section VI).

The sandwich is blind where there is little to see: a model with a single tie has residual zero, and one voter alone
has a score of zero. So no interval that concerns a model on which fewer than 30 clusters have a score other than zero
(or any model, where there are no more clusters than models) is narrower than the model-based one, from H^-1, which
bounds it from above where battles are independent, because a tie varies less than a win or a loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.special import ndtri, stdtrit

from fairground.arena.columns import Floats, Ints
from fairground.arena.likelihood import Choices, inverse, maximise, strong_parts
from fairground.arena.tally import Tally
from fairground.errors import DataError

FEW_CLUSTERS = 30  # below 30 to 50 clusters a sandwich is too narrow (Cameron and Miller, 2015)
_SILENT = 1e-9  # a score that small shows nothing of how votes scatter


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted model of n models, in logits.

    `theta` [n] has mean zero. `sandwich` and `model_based` [n, n] are covariances of `theta`; their rows sum to zero,
    so the diagonal is the variance of a model's distance from the mean. `floored` [n]: models whose intervals are never
    narrower than the model-based one. `clusters`: how many there were. With an outside option `theta` and all that
    goes with it has one more entry, the last: the option, which has no part in the mean.

    `style` [k]: what one standard deviation of each style is worth; `style_sandwich` [k, k] is its covariance.
    """

    theta: Floats
    sandwich: Floats
    model_based: Floats
    floored: NDArray[np.bool_]
    clusters: int
    penalised: bool
    style: Floats
    style_sandwich: Floats

    def half_widths(self) -> tuple[Floats, Floats]:
        """Half the 95% intervals, in logits: of each `theta` [n], and of each difference theta_i - theta_j [n, n]."""
        quantile = self._quantile
        floor = ndtri(0.975)
        either = self.floored[:, None] | self.floored[None, :]
        own = quantile * np.sqrt(np.diag(self.sandwich).clip(0))
        own_floor = floor * np.sqrt(np.diag(self.model_based).clip(0))
        pair = quantile * np.sqrt(contrast_variance(self.sandwich))
        pair_floor = floor * np.sqrt(contrast_variance(self.model_based))
        return (
            np.where(self.floored, np.maximum(own, own_floor), own),
            np.where(either, np.maximum(pair, pair_floor), pair),
        )

    def style_half_widths(self) -> Floats:
        """Half the 95% intervals of `style` [k]."""
        half: Floats = self._quantile * np.sqrt(np.diag(self.style_sandwich).clip(0))
        return half

    @property
    def _quantile(self) -> float:
        return float(stdtrit(self.clusters - 1, 0.975)) if self.clusters > 1 else 0.0


def fitted(tally: Tally, ridge: float = 0.0) -> Fit:
    """Fits a tally of battles that join all models.

    `ridge`, times the battles, stands on the diagonal of the information from which the intervals come, and is half
    the penalty on the squares of the style's coefficients. It is there to be set beside other programs that cannot do
    without one; the estimate of the models is not drawn anywhere by it.
    """
    choices, merged = tally.choices, tally.choices.merged()
    nodes = choices.nodes
    part = strong_parts(merged)
    sizes = np.bincount(part)
    penalised = len(sizes) > 1
    if len(choices.style):
        _refuse_styles_of_models(choices)
    parameters = maximise(merged, penalised, ridge)

    p = merged.probabilities(parameters)
    information = merged.products(merged.information_weights(p))
    bread = inverse(information, nodes, ridge * float(choices.battles.sum()))
    if merged is not choices:
        p = np.stack([choices.spread(row) for row in p])
    meat, seen_by = _meat(tally, choices.took - choices.battles * p)

    # The models' mean is where the scale begins; the outside option has no part in it.
    centre = np.eye(choices.size)
    centre[:nodes, : choices.models] -= 1 / choices.models
    parameters = centre @ parameters
    bread_of_scores = centre @ bread
    sandwich, model_based = bread_of_scores @ meat @ bread_of_scores.T, bread_of_scores @ centre.T
    # A model that never lost has residuals near zero whatever its true strength, so the sandwich says nothing of it.
    settled = sizes[part] == sizes.max() if (sizes == sizes.max()).sum() == 1 else np.zeros(nodes, dtype=bool)
    return Fit(
        theta=parameters[:nodes],
        sandwich=sandwich[:nodes, :nodes],
        model_based=model_based[:nodes, :nodes],
        floored=(seen_by < FEW_CLUSTERS) | ~settled | (tally.clusters <= nodes),
        clusters=tally.clusters,
        penalised=penalised,
        style=parameters[nodes:],
        style_sandwich=sandwich[nodes:, nodes:],
    )


def _meat(tally: Tally, residual: Floats) -> tuple[Floats, Ints]:
    """The sum of the clusters' squared scores [size, size], and how many clusters have one on each node [nodes].

    Residuals of an observation [2 or 3, o] sum to zero, so the square of its score is a sum over contrasts with
    weights -r_c r_d, as the information is.
    """
    choices, nodes = tally.choices, tally.choices.nodes
    each = residual / tally.count
    meat = choices.products(np.stack([-tally.alone * each[c] * each[d] for c, d, *_ in choices.edges()]))
    at = [choices.first, choices.second, np.full_like(choices.first, choices.models)][: len(residual)]
    seen_by = np.zeros(nodes)
    for node, share in zip(at, each, strict=True):
        seen_by += np.bincount(node, choices.by_pair(tally.alone * (np.abs(share) > _SILENT)), nodes)

    if tally.voters.shape[0]:
        spread = np.diff(choices.begins, append=len(choices.battles))
        rows = np.tile(np.arange(len(choices.battles)), len(at))
        where = np.concatenate([np.repeat(node, spread) for node in at])
        cells: csr_array = coo_array((each.ravel(), (rows, where)), shape=(each.shape[1], nodes)).tocsr()
        scores = tally.voters @ cells
        scores.sort_indices()
        styles = (tally.voters @ (choices.style * (each[0] - each[1]) / 2).T) if len(choices.style) else None
        meat[:nodes, :nodes] += (scores.T @ scores).toarray()
        if styles is not None:
            cross = scores.T @ styles
            meat[:nodes, nodes:] += cross
            meat[nodes:, :nodes] += cross.T
            meat[nodes:, nodes:] += styles.T @ styles
        seen_by += np.bincount(scores.indices[np.abs(scores.data) > _SILENT], minlength=nodes)
    return meat * (tally.clusters / max(tally.clusters - 1, 1)), seen_by.astype(np.int64)


def _refuse_styles_of_models(choices: Choices) -> None:
    """Raises DataError where styles cannot be told from one another or from the models."""
    _, _, information = choices.terms(np.zeros(choices.size))
    root = np.sqrt(np.diag(information))
    if np.linalg.eigvalsh(information / np.outer(root, root))[1] < 1e-10:  # the first is the nodes' mean, always zero
        raise DataError(
            "Length, headings, lists and bold go so closely with each other or with the models that their effects "
            "cannot be told apart in these battles; rate without style, or add battles."
        )


def contrast_variance(covariance: Floats) -> Floats:
    """Variances of all differences, [n, n], from a covariance [n, n]; rounding below zero is cut off."""
    diagonal = np.diag(covariance)
    variance: Floats = diagonal[:, None] + diagonal[None, :] - 2 * covariance
    return variance.clip(0)
