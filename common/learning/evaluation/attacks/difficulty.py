"""Membership by a rank that takes each patient's difficulty into account: an easy patient ranks high by any model.

The score of a patient is their rank among never-seen patients by the audited model, less the same by a model that
never saw them (a fold model). Calibration by difficulty: Watson et al. 2022, arXiv 2111.08440.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def calibrated_wins(member: Floats, control: Floats, member_floor: Floats, control_floor: Floats) -> Floats:
    """How much more often each patient beats each control by the audited model than by one that never saw them.

    Args:
        member: margins of patients under the audited model, `[n]`; high for members.
        control: margins of never-seen patients under it, `[c]`.
        member_floor: margins of the patients under the models that never saw them, `[n]`.
        control_floor: margins of the never-seen patients under each patient's model, `[n, c]`.

    Returns:
        `[n, c]` in [-1, 1]: `[member > control]` less the same of the floors; ties count one half.
    """
    return _wins(member[:, None], control[None, :]) - _wins(member_floor[:, None], control_floor)


def calibrated_ranks(wins: Floats, control_weights: Floats) -> Floats:
    """P(i) of each patient, `[n]` in [-1, 1]: 0 is what never-seen patients have, above 0 remembers.

    Args:
        wins: of `calibrated_wins`, `[n, c]`.
        control_weights: `[c]`, which give the controls the patients' label mix.
    """
    ranks: Floats = wins @ control_weights / control_weights.sum()
    return ranks


def calibrated_variance(wins: Floats, control_weights: Floats, draws: int, rng: np.random.Generator) -> float:
    """Variance of the mean of `calibrated_ranks` when patients and controls are drawn again, with replacement."""
    n, c = wins.shape
    members = rng.multinomial(n, np.full(n, 1.0 / n), size=draws) / n
    controls = rng.multinomial(c, np.full(c, 1.0 / c), size=draws) * control_weights
    # A resample may hold only controls without weight; it then counts all of them.
    controls[controls.sum(axis=1) == 0] = control_weights
    controls = controls / controls.sum(axis=1, keepdims=True)
    means = np.einsum("dn,nc,dc->d", members, wins, controls, optimize=True)
    # Resampling n values understates a variance by (n - 1)/n, as in `bootstrap_variance`.
    smaller = max(2, min(n, c))

    return float(np.var(means, ddof=1) * smaller / (smaller - 1))


def _wins(left: Floats, right: Floats) -> Floats:
    return np.asarray((left > right) + 0.5 * (left == right), dtype=float)
