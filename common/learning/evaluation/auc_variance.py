"""The variance of an AUC, from the AUC and the group sizes alone."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Values = TypeVar("Values", float, NDArray[np.float64])


def hanley_mcneil(auc: Values, positives: float, negatives: float) -> Values:
    """Variance of an AUC (Hanley & McNeil 1982, doi 10.1148/radiology.143.1.7063747); 0 where it is 0 or 1."""
    q1 = auc / (2 - auc)
    q2 = 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)

    return spread / (positives * negatives)


def least_variance(auc: Values, positives: float, negatives: float) -> Values:
    """Smallest variance that an estimate from so few patients may claim: Hanley & McNeil with half a win each way.

    Resampling finds no spread if all losses are tied, or if all of one group lie below the other's. Neither makes a
    result from five patients certain.
    """
    pairs = positives * negatives
    return hanley_mcneil((auc * pairs + 0.5) / (pairs + 1), positives, negatives)
