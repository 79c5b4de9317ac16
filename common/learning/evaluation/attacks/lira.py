"""The likelihood-ratio attack LiRA (Carlini et al. 2022, arXiv 2112.03570), with variances shared by all patients.

Fixed variances are what that paper advises with fewer than some 64 shadow models. Scores are high for
members. `confidence` is always `Scores.margin`, the logit-scaled confidence, averaged over a patient's studies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST_DEVIATION = 1e-6
"""Avoids a division by 0 for a model that gives the same answer whatever it has seen."""


@dataclass(frozen=True, slots=True)
class Gaussians:
    """One for each patient: means `[n]`, NaN where no model was there to fit, and the deviation that all share."""

    means: Floats
    deviation: float

    def log_density(self, values: Floats) -> Floats:
        """`[..., n]`, but for the constant of every normal distribution."""
        return np.asarray(-(((values - self.means) / self.deviation) ** 2) / 2 - np.log(self.deviation))


def fit_gaussians(confidence: Floats, chosen: Bools) -> Gaussians:
    """Means over the chosen models of each patient, and the deviation of all from their own patient's mean.

    Args:
        confidence: `[models, n]`.
        chosen: `[models, n]`, which of them count.
    """
    counts = chosen.sum(axis=0)
    # From the first model's value on, so that equal values have exactly that mean and tie with it.
    first = confidence[0]
    total = np.where(chosen, confidence - first, 0.0).sum(axis=0)
    means = first + np.divide(total, counts, out=np.full(confidence.shape[1], np.nan), where=counts > 0)
    squares = np.where(chosen, (confidence - means) ** 2, 0.0).sum()
    freedom = np.maximum(counts - 1, 0).sum()
    deviation = float(np.sqrt(squares / freedom)) if freedom else 0.0

    return Gaussians(means, max(deviation, LEAST_DEVIATION))


def lira_offline(target: Floats, shadows: Floats, member: Bools) -> Floats:
    """How far the target's confidence lies above what models say that never saw the patient: `(phi - mu) / sigma`.

    The paper's `1 - P(Z > phi)` is the distribution function of this and ranks alike, but is 1 for all who are far
    above. NaN for a patient whom every shadow saw.

    Args:
        target: confidence of the audited model, `[n]`.
        shadows: of the shadow models, `[models, n]`.
        member: `[models, n]`, who was trained on.
    """
    out = fit_gaussians(shadows, ~member)
    return np.asarray((target - out.means) / out.deviation)


def lira_online(target: Floats, shadows: Floats, member: Bools) -> Floats:
    """`log N(phi; mu_in, sigma_in) - log N(phi; mu_out, sigma_out)`, in nats; NaN without shadows of both kinds.

    Arguments as of `lira_offline`.
    """
    inside = fit_gaussians(shadows, member)
    outside = fit_gaussians(shadows, ~member)
    return inside.log_density(target) - outside.log_density(target)
