"""Are the losses of forget and never-seen patients from one distribution, in its whole shape and not only by rank?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.matching import control_weights

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def ks_distance(member: Floats, control: Floats, weights: Floats) -> float:
    """Largest difference of the two (weighted) distribution functions: 0 the same, 1 apart. Lower is better."""
    points = np.concatenate([member, control])
    member_cdf = (member[None, :] <= points[:, None]).mean(axis=1)
    control_cdf = (control[None, :] <= points[:, None]) @ weights / weights.sum()

    return float(np.abs(member_cdf - control_cdf).max())


def ks_p_value(
    member: Floats,
    control: Floats,
    member_labels: Ints,
    control_labels: Ints,
    draws: int,
    rng: np.random.Generator,
) -> float:
    """Permutation p-value of `ks_distance` with controls weighted to the label mix.

    Membership is shuffled among patients of one label, so that the label mix stays what it was. Small: they differ.
    """
    values = np.concatenate([member, control])
    labels = np.concatenate([member_labels, control_labels])
    weights = control_weights(member_labels, control_labels)
    count = len(member)
    distance = ks_distance(member, control, weights)
    order = np.argsort(values, kind="stable")
    # Tied values form one step of the distribution function: only the last of each counts.
    last = np.append(np.diff(values[order]) > 0, True)
    hits = 0

    for _ in range(draws):
        permutation = values.copy()
        for label in np.unique(labels):
            at = np.flatnonzero(labels == label)
            permutation[at] = values[rng.permutation(at)]

        place = np.argsort(permutation, kind="stable")
        steps = np.where(place < count, 1.0 / count, 0.0)
        steps[place >= count] -= weights[place[place >= count] - count]
        # The same distance, summed in another order, may differ in its last bits; it is a hit.
        hits += float(np.abs(np.cumsum(steps)[last]).max()) >= distance - 1e-12

    # The observed labelling is one of the permutations, so that p is never 0 (Phipson & Smyth 2010).
    return (hits + 1) / (draws + 1)
