"""The likelihood of votes, its score and its information, and where it is greatest.

A voter before answers a and b takes a, b or, where the outside option is in the model, neither, with odds exp(theta_a
+ s beta / 2) : exp(theta_b - s beta / 2) : exp(theta_0) (Luce, 1959; McFadden, 1974); s is the difference of the
answers' styles. Without an outside option and style this is Bradley and Terry's model (1952).

The information of such a choice is a graph's Laplacian: of each two options c and d with probabilities p_c and p_d it
says p_c p_d of the contrast x_c - x_d. All matrices here are sums of w x x' over these contrasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import log_expit

from fairground.arena.columns import Floats, Ints
from fairground.errors import DataError

_STEPS = 1000
_PART = 2**15  # observations at a time


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """o observations of P pairs among m models, those of one pair together.

    `first`, `second` [P]: indices, first < second. `begins` [P]: where a pair's observations begin. `took` [2 or 3, o]:
    how often the first, the second and (with an outside option) neither was taken, a tie being half each; `battles`
    [o]: their sum. Both may be weighted. `style` [k, o]: the difference of the answers' styles, first less second.
    """

    models: int
    first: Ints
    second: Ints
    begins: Ints
    took: Floats
    battles: Floats
    style: Floats

    @property
    def outside(self) -> bool:
        return len(self.took) == 3

    @property
    def nodes(self) -> int:
        """Models, and one more for the outside option."""
        return self.models + self.outside

    @property
    def size(self) -> int:
        """The number of parameters: of every node, then of every style."""
        return self.nodes + len(self.style)

    def merged(self) -> Choices:
        """The same likelihood with one observation a pair, where there is no style."""
        if len(self.style) or len(self.begins) == len(self.battles):
            return self
        took, battles = self.by_pair(self.took), self.by_pair(self.battles)
        return replace(self, begins=np.arange(len(self.begins)), took=took, battles=battles, style=took[:0])

    def by_pair(self, values: Floats) -> Floats:
        """Sums [.., P] of values [.., o]."""
        sums: Floats = np.add.reduceat(values, self.begins, axis=-1)
        return sums

    def spread(self, values: Floats) -> Floats:
        """Values [P] of the pairs at each of their observations [o]."""
        if len(self.begins) == len(self.battles):
            return values
        return np.repeat(values, np.diff(self.begins, append=len(self.battles)))

    def edges(self) -> Iterator[tuple[int, int, Ints, Ints, float]]:
        """The contrasts of two options: their rows in `took`, their nodes [P], and how much of the style tells them
        apart."""
        yield 0, 1, self.first, self.second, 1.0
        if self.outside:
            neither = np.full_like(self.first, self.models)
            yield 0, 2, self.first, neither, 0.5
            yield 1, 2, self.second, neither, -0.5

    def lead(self, parameters: Floats) -> Floats:
        """By how much the first is ahead of the second, in logits [o]."""
        lead = self.spread(parameters[self.first] - parameters[self.second])
        return lead + parameters[self.nodes :] @ self.style if len(self.style) else lead

    def logs(self, parameters: Floats) -> Floats:
        """Logarithms of the probabilities of taking the first, the second, neither: [2 or 3, o]."""
        lead = self.lead(parameters)
        if not self.outside:
            return np.stack([ahead := log_expit(lead), ahead - lead])
        away = self.spread((parameters[self.first] + parameters[self.second]) / 2 - parameters[self.models])
        odds = np.stack([away + lead / 2, away - lead / 2, np.zeros_like(lead)])
        odds -= odds.max(axis=0)
        logs: Floats = odds - np.log(np.exp(odds).sum(axis=0))
        return logs

    def probabilities(self, parameters: Floats) -> Floats:
        """Of taking the first, the second, neither: [2 or 3, o]."""
        p: Floats = np.exp(self.logs(parameters))
        return p

    def value(self, parameters: Floats) -> float:
        """The logarithm of the likelihood."""
        return float((self.took * self.logs(parameters)).sum())

    def score(self, residual: Floats) -> Floats:
        """The derivative [size] that belongs to residuals [2 or 3, o]: taken less expected."""
        along = self.style @ (residual[0] - residual[1]) / 2
        return np.concatenate([self._of_nodes(self.by_pair(residual)), along])

    def _of_nodes(self, residual: Floats) -> Floats:
        """The nodes' part of the score, of residuals by pair [2 or 3, P]."""
        score = np.zeros(self.nodes)
        score += np.bincount(self.first, residual[0], self.nodes) + np.bincount(self.second, residual[1], self.nodes)
        if self.outside:
            score[self.models] += residual[2].sum()
        return score

    def products(self, weights: Floats) -> Floats:
        """The sum [size, size] of w x x' over contrasts, with a weight for each edge and observation [1 or 3, o]."""
        sums = _Sums.of(self)
        for pair, rows, part in self._parts():
            sums.add(pair, part, weights[:, rows])
        return sums.matrix(self)

    def terms(self, parameters: Floats) -> tuple[float, Floats, Floats]:
        """Value, score and information, in one pass over parts that stay in a core's cache."""
        value, residual, sums = 0.0, np.zeros((len(self.took), len(self.first))), _Sums.of(self)
        along = np.zeros(len(self.style))
        for pair, _, part in self._parts():
            logs = part.logs(parameters)
            value += float((part.took * logs).sum())
            p = np.exp(logs)
            left = part.took - part.battles * p
            residual[:, pair : pair + len(part.first)] = part.by_pair(left)
            along += part.style @ (left[0] - left[1]) / 2
            sums.add(pair, part, part.information_weights(p))
        return value, np.r_[self._of_nodes(residual), along], sums.matrix(self)

    def _parts(self) -> Iterator[tuple[int, slice, Choices]]:
        """Slices of some ten thousand observations, each after the number of its first pair and its rows."""
        ends = np.append(self.begins, len(self.battles))
        begin = 0
        while begin < len(self.first):
            low = int(ends[begin])
            end = max(begin + 1, int(np.searchsorted(ends, low + _PART, side="right")) - 1)
            pairs, rows = slice(begin, end), slice(low, int(ends[end]))
            part = replace(
                self,
                first=self.first[pairs],
                second=self.second[pairs],
                begins=self.begins[pairs] - low,
                took=self.took[:, rows],
                battles=self.battles[rows],
                style=self.style[:, rows],
            )
            yield begin, rows, part
            begin = end

    def information_weights(self, p: Floats) -> Floats:
        """The weights [1 or 3, o] of the contrasts in the information."""
        return np.stack([self.battles * p[c] * p[d] for c, d, *_ in self.edges()])

    def variances(self, covariance: Floats) -> Floats:
        """x' V x of the contrasts [1 or 3, o], of a covariance V of the parameters."""
        nodes, diagonal, found = self.nodes, np.diag(covariance), []
        for _, _, i, j, share in self.edges():
            variance = self.spread(diagonal[i] + diagonal[j] - 2 * covariance[i, j])
            if len(self.style):
                cross = 2 * (covariance[nodes:, i] - covariance[nodes:, j])
                along = np.stack([self.spread(row) for row in cross])
                along += share * covariance[nodes:, nodes:] @ self.style
                variance = variance + share * (along * self.style).sum(axis=0)
            found.append(variance.clip(0))
        return np.stack(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Sums over the observations of each pair: of an edge's weights [edges, P], of weights times style [edges, k, P],
    and over all of them of weights times products of styles [k, k]."""

    weights: Floats
    pulls: Floats
    styles: Floats

    @classmethod
    def of(cls, choices: Choices) -> _Sums:
        pairs, k, edges = len(choices.first), len(choices.style), 3 if choices.outside else 1
        return cls(np.zeros((edges, pairs)), np.zeros((edges, k, pairs)), np.zeros((k, k)))

    def add(self, pair: int, part: Choices, weights: Floats) -> None:
        """Adds observations whose first pair has this number."""
        here = slice(pair, pair + len(part.first))
        self.weights[:, here] = part.by_pair(weights)
        if not len(part.style):
            return
        for at, ((*_, share), weight) in enumerate(zip(part.edges(), weights, strict=True)):
            weighted = part.style * weight
            self.pulls[at, :, here] = part.by_pair(weighted)
            self.styles[:] += share**2 * (weighted @ part.style.T)

    def matrix(self, choices: Choices) -> Floats:
        """The sum [size, size] of w x x'."""
        nodes = choices.nodes
        matrix = np.zeros((choices.size, choices.size))
        for (_, _, i, j, share), weight, pulls in zip(choices.edges(), self.weights, self.pulls, strict=True):
            flat = np.bincount(i * nodes + j, weight, nodes * nodes).reshape(nodes, nodes)
            between = flat + flat.T
            matrix[:nodes, :nodes] += np.diag(between.sum(axis=1)) - between
            for k, pull in enumerate(share * pulls, start=nodes):
                matrix[k, :nodes] += np.bincount(i, pull, nodes) - np.bincount(j, pull, nodes)
        matrix[:nodes, nodes:] = matrix[nodes:, :nodes].T
        matrix[nodes:, nodes:] = self.styles
        return matrix


def inverse(information: Floats, nodes: int, ridge: float = 0.0) -> Floats:
    """The inverse of information + ridge I on the space where the nodes' parameters have mean zero.

    The null space of a connected graph's Laplacian is the constant vector; filling it with the Laplacian's own scale
    makes an invertible matrix, and taking the filling out again leaves the generalised inverse. Raises DataError where
    style cannot be told from the models, as with very few battles.
    """
    scale = float(np.trace(information[:nodes, :nodes])) / nodes
    filled = information + np.diag(np.full(len(information), ridge))
    filled[:nodes, :nodes] += scale / nodes
    try:
        found = np.linalg.inv(filled)
    except np.linalg.LinAlgError:
        raise DataError(
            "With so few battles, what an answer's style is worth cannot be told from who wrote it; rate without style "
            "control, or add battles."
        ) from None
    found[:nodes, :nodes] -= 1 / ((scale + ridge) * nodes)
    symmetric: Floats = (found + found.T) / 2
    return symmetric


def strong_parts(choices: Choices) -> Ints:
    """For each node the number of its part: within a part every one took a point from every other, perhaps by way of
    others. The estimate is finite where there is one part (Ford, 1957)."""
    took = choices.by_pair(choices.took)
    giver, taker = [], []
    for c, d, i, j, _ in choices.edges():
        giver += [j[took[c] > 0], i[took[d] > 0]]
        taker += [i[took[c] > 0], j[took[d] > 0]]
    return _parts(np.concatenate(giver), np.concatenate(taker), choices.nodes, "strong")


def parts_that_met(choices: Choices) -> Ints:
    """For each node the number of its part: within a part, battles join all, perhaps by way of others."""
    met = choices.by_pair(choices.battles) > 0
    ends = [(i[met], j[met]) for _, _, i, j, _ in choices.edges()]
    i, j = (np.concatenate(end) for end in zip(*ends, strict=True))
    return _parts(i, j, choices.nodes, "weak")


def _parts(i: Ints, j: Ints, nodes: int, connection: str) -> Ints:
    graph: csr_array = coo_array((np.ones(len(i)), (i, j)), shape=(nodes, nodes)).tocsr()
    labels: NDArray[np.int32] = connected_components(graph, directed=connection == "strong", connection=connection)[1]
    return labels.astype(np.int64)


def maximise(choices: Choices, penalised: bool, ridge: float = 0.0) -> Floats:
    """The (penalised) maximum likelihood estimate [size] by Newton's method with step halving; mean of the nodes zero.

    Firth's adjusted score of a logit model is y - p + h (1/2 - p), h being the leverage; so each contrast gets h drawn
    games, computed anew at every step (Firth, 1993, section 3; Heinze and Schemper, 2002, equation 3). `ridge`, times
    the battles, is half the penalty on the squares of the style's coefficients.

    Raises DataError where it does not settle.
    """
    nodes = choices.nodes
    shrink = np.r_[np.zeros(nodes), np.full(len(choices.style), ridge * float(choices.battles.sum()))]

    def terms(parameters: Floats) -> tuple[float, Floats, Floats]:
        value, score, information = _firth(choices, parameters) if penalised else choices.terms(parameters)
        value -= float((shrink * parameters**2).sum()) / 2
        return value, score - shrink * parameters, information + np.diag(shrink)

    parameters = np.zeros(choices.size)
    value, score, information = terms(parameters)
    enough = 1e-10 if penalised else 1e-7  # logits: 2e-8 points; without a penalty the error is squared at each step
    for _ in range(_STEPS):
        step = inverse(information, nodes) @ score
        longest = float(np.abs(step).max())
        if longest < enough:
            return parameters + step
        # A leap of many logits lands where the likelihood is flat to the last bit, and there is no way back.
        size = min(1.0, 2 / longest)
        while (found := terms(parameters + size * step))[0] < value - 1e-12 * abs(value) and size > 1e-9:
            size /= 2
        parameters = parameters + size * step
        parameters[:nodes] -= parameters[:nodes].mean()
        value, score, information = found
    raise DataError(
        f"The ratings did not settle in {_STEPS} steps, so none is given; look for a damaged row in the battles."
    )


def _firth(choices: Choices, parameters: Floats) -> tuple[float, Floats, Floats]:
    """Value, score and information with Jeffreys' prior; the information counts the drawn games."""
    nodes = choices.nodes
    p = choices.probabilities(parameters)
    weights = choices.information_weights(p)
    information = choices.products(weights)
    drawn = weights * choices.variances(inverse(information, nodes))
    took, battles = choices.took.copy(), choices.battles + drawn.sum(axis=0)
    for (c, d, *_), games in zip(choices.edges(), drawn, strict=True):
        took[c] += games / 2
        took[d] += games / 2
    information[:nodes, :nodes] += 1 / nodes  # fills the null space, whose part in the determinant is then constant
    value = choices.value(parameters) + 0.5 * float(np.linalg.slogdet(information)[1])
    filled = replace(choices, took=took, battles=battles)
    return value, filled.score(took - battles * p), filled.products(filled.information_weights(p))
