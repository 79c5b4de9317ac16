"""Loss of test AUC through rehearsals, paired by patient (DeLong et al. 1988, doi 10.2307/2531595)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.qualification.figures import ClassLoss, Moments, Shared
from common.learning.evaluation.qualification.tally import moments, shared_variance

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def class_loss(before: Floats, after: Floats, positive: NDArray[np.bool_]) -> ClassLoss:
    """Of one class: scores before `[T]` or `[M, T]` and after each rehearsal `[M, T]`, high for the class.

    The test patients are the same for all rehearsals, so that their variance does not fall with M.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return ClassLoss(loss=Moments(), shared=Shared(), positives=positives, negatives=negatives)

    at_positives, at_negatives = _placements(np.atleast_2d(before), positive)
    after_positives, after_negatives = _placements(after, positive)
    of_positives = at_positives - after_positives
    of_negatives = at_negatives - after_negatives
    # A test patient serves all rehearsals, so contributions are summed before their variance is taken.
    contributions = np.concatenate([of_positives.sum(axis=0), of_negatives.sum(axis=0)])
    strata = np.repeat([1, 0], [positives, negatives])

    return ClassLoss(
        loss=moments(of_positives.mean(axis=1), np.ones(len(after))),
        shared=shared_variance(contributions, strata),
        positives=positives,
        negatives=negatives,
    )


def _placements(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Share of the other group that each member beats, or is beaten by: `[M, positives]` and `[M, negatives]`."""
    ours = scores[:, positive, None]
    theirs = scores[:, None, ~positive]
    wins = (ours > theirs) + 0.5 * (ours == theirs)

    return wins.mean(axis=2), wins.mean(axis=1)
