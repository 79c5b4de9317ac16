"""Offline robust membership inference (RMIA; Zarifzadeh et al. 2024, arXiv 2312.03262)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def rmia_scores(
    target: Floats, target_references: Floats, population: Floats, population_references: Floats, gamma: float = 1.0
) -> Floats:
    """Share of population points z for which x is `gamma` times more likely under the model than z is; member high.

        LR(x, z) = [p(x | model) / p(x)] / [p(z | model) / p(z)]        score(x) = mean over z of [LR(x, z) > gamma]

    with `p(x)` the mean of the probability of the true class over reference models that never saw x. Ties of `LR`
    and `gamma` count one half.

    Args:
        target: log-probabilities of the true class under the audited model, `[n]`.
        target_references: the same under the references, `[references, n]`.
        population: as `target`, for never-seen patients who are nobody's control, `[z]`.
        population_references: `[references, z]`.
        gamma: how much more likely, 1 or above.
    """
    ratio = target - _log_mean(target_references)
    background = population - _log_mean(population_references) + np.log(gamma)
    wins = (ratio[:, None] > background[None, :]) + 0.5 * (ratio[:, None] == background[None, :])

    return np.asarray(wins.mean(axis=1))


def _log_mean(log_probs: Floats) -> Floats:
    top = log_probs.max(axis=0)
    return np.asarray(top + np.log(np.exp(log_probs - top).mean(axis=0)))
