"""Weighted two-sample rank statistics, for one pair of weightings or for thousands of resampled ones at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RankStatistics:
    """For each row of weights: `auc` = P(x < y) + P(x = y) / 2 and `ks` = max |F_x - F_y|, both `[rows]`."""

    auc: Floats
    ks: Floats


def rank_statistics(values: Floats, x_weights: Floats, y_weights: Floats) -> RankStatistics:
    """Compare two weighted samples that share the points `values`.

    Args:
        values: `[n]`, the pooled points.
        x_weights: `[rows, n]`, weight of each point in the first sample; rows need not sum to 1.
        y_weights: `[rows, n]`, weight of each point in the second.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.concatenate(([0], np.flatnonzero(np.diff(ordered)) + 1))
    x = _normalised(np.add.reduceat(x_weights[:, order], starts, axis=1))
    y = _normalised(np.add.reduceat(y_weights[:, order], starts, axis=1))
    cumulative_x, cumulative_y = np.cumsum(x, axis=1), np.cumsum(y, axis=1)
    auc = np.sum(x * (1.0 - cumulative_y + y / 2.0), axis=1)
    return RankStatistics(np.clip(auc, 0.0, 1.0), np.abs(cumulative_x - cumulative_y).max(axis=1))


def _normalised(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
