"""How far test AUC fell between two models of the same patients, paired (DeLong et al. 1988, doi 10.2307/2531595)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PairedDrop:
    """AUC before less AUC after, its variance, and the patients it rests on."""

    drop: float
    variance: float
    positives: int
    negatives: int


def paired_drop(before: Floats, after: Floats, positive: Bools) -> PairedDrop:
    """Of one class, from scores `[n]` of the same patients, high for the class.

    Scores that both models order alike have no variance, however few they are: the variance is never below that of
    half a win.
    """
    of_positives, of_negatives = (
        b - a for b, a in zip(_placements(before, positive), _placements(after, positive), strict=True)
    )
    positives = len(of_positives)
    negatives = len(of_negatives)
    drop = float(of_positives.mean())
    variance = _of_mean(of_positives) + _of_mean(of_negatives)
    least = (0.5 / (positives * negatives)) ** 2

    return PairedDrop(drop, max(variance, least), positives, negatives)


def _placements(scores: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """Share of the other group that each positive beats, and that each negative is beaten by."""
    ours = scores[positive][:, None]
    theirs = scores[~positive][None, :]
    wins = (ours > theirs) + 0.5 * (ours == theirs)

    return wins.mean(axis=1), wins.mean(axis=0)


def _of_mean(values: Floats) -> float:
    # One value shows no spread; .25 is the largest variance of a share.
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.25
