"""Members found at a very low rate of false alarms (Carlini et al. 2022, arXiv 2112.03570)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_CONTROLS = 100
"""With fewer controls a false-positive rate of 1 % cannot be told from 0."""


def tpr_at_1pct_fpr(member: NDArray[np.float64], control: NDArray[np.float64]) -> float | None:
    """Share of members whose loss is below all but 1 % of the controls'; None with under 100 controls."""
    if len(control) < MIN_CONTROLS:
        return None
    threshold = np.sort(control)[int(0.01 * len(control))]
    return float((member < threshold).mean())
