"""True-positive rate at a very low false-positive rate (Carlini et al. 2022, arXiv 2112.03570)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_CONTROLS = 100
"""With fewer controls a false-positive rate of 1 % cannot be told from 0."""
RATE = 0.01


def tpr_at_1pct_fpr(member: Floats, control: Floats, weights: Floats) -> float | None:
    """Share of members whose loss is below all but 1 % of the controls', these weighted to the label mix.

    None with under 100 controls; weighted ones count as their effective number, (sum of w)^2 / sum of w^2.
    """
    # Rounded: a hundred equal weights may come out as 99.99999999.
    if round(float(weights.sum() ** 2 / (weights**2).sum()), 6) < MIN_CONTROLS:
        return None
    order = np.argsort(control, kind="stable")
    values = control[order]
    total = np.cumsum(weights[order])
    first = np.searchsorted(values, values, side="left")
    below = np.where(first > 0, total[first - 1], 0.0) / total[-1]
    threshold = values[below <= RATE + 1e-9].max()

    return float((member < threshold).mean())
