"""Ratios of sums over texts (a mean over sentences, bits over bytes), compared on the same resampled texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fairground.evaluation.intervals import RESAMPLES, Floats, Interval, bootstrap_means, expanded_tail

METHOD = "cluster bootstrap"


class Ratios:
    """For each name sum(tops) / sum(bottoms), with the expanded percentile interval of `intervals.cluster_bootstrap`.

    Row i of every name is the same text, or was written on the same beginning: all names see the same resampled rows,
    so a difference is paired. A bottom of 0 is a row without anything to measure. The rare resample in which a name has
    no other row is left out of that name's interval.

    tops, bottoms: for each name a list of R numbers, R the same everywhere. Raises ValueError where it is not.
    """

    def __init__(
        self,
        tops: Mapping[str, Sequence[float]],
        bottoms: Mapping[str, Sequence[float]],
        *,
        resamples: int = RESAMPLES,
    ) -> None:
        self.names = tuple(tops)
        columns = [np.asarray(bottoms[name] if lower else tops[name], float) for lower in (0, 1) for name in tops]
        if len({len(column) for column in columns}) != 1:
            raise ValueError("every name needs one number for each row")
        values = np.stack(columns, axis=1)
        half = len(self.names)
        rows = [str(row) for row in range(len(values))]
        means = bootstrap_means(values, rows, resamples) if rows else np.zeros((resamples, 2 * half))
        with np.errstate(invalid="ignore", divide="ignore"):
            self._values = values[:, :half].sum(axis=0) / values[:, half:].sum(axis=0)
            self._resampled_BM = means[:, :half] / means[:, half:]
        self._rows = (values[:, half:] > 0).sum(axis=0)

    def interval(self, name: str) -> Interval | None:
        """The ratio and its interval; None for fewer than two rows with something in them. n: such rows."""
        at = self.names.index(name)
        return _interval(float(self._values[at]), self._resampled_BM[:, at], int(self._rows[at]))

    def difference(self, a: str, b: str) -> Interval | None:
        """The ratio of `a` less that of `b`, paired by row; None where either has no interval."""
        i, j = self.names.index(a), self.names.index(b)
        between = self._resampled_BM[:, i] - self._resampled_BM[:, j]
        return _interval(float(self._values[i] - self._values[j]), between, int(min(self._rows[i], self._rows[j])))


def _interval(value: float, resampled: Floats, rows: int) -> Interval | None:
    if rows < 2:
        return None
    tail = expanded_tail(rows)
    low, high = np.quantile(resampled[np.isfinite(resampled)], [tail, 1 - tail])
    return Interval(value, float(low), float(high), rows, METHOD)
