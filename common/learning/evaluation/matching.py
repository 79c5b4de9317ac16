"""From studies to patients, and never-seen patients weighted to resemble the forget patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.scores import Scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def patient_means(values: Floats, patients: Ints) -> Floats:
    """Mean over each patient's studies: `[3, n]` to `[3, patients]`, patients in order of their numbers."""
    # A part of a set keeps the patients' numbers, with gaps; `inverse` counts without gaps.
    _, at = np.unique(patients, return_inverse=True)
    count = np.bincount(at)
    return np.stack([np.bincount(at, weights=row) / count for row in values])


def majority_labels(scores: Scores) -> Ints:
    """The commonest label of each patient, `[patients]`; a tie goes to the higher, the graver one of a severity."""
    _, at = np.unique(scores.patients, return_inverse=True)
    table = np.zeros((at.max() + 1 if len(at) else 0, scores.logits.shape[2]), dtype=np.int64)
    np.add.at(table, (at, scores.labels), 1)
    top: Ints = table.shape[1] - 1 - np.argmax(table[:, ::-1], axis=1)

    return top


def control_weights(forget: Ints, control: Ints) -> Floats:
    """Weight of each control patient so that the controls have the forget patients' label mix; they add up to 1.

    Labels that no control has cannot be matched: the others then share their weight. With no label in common all
    controls weigh the same.
    """
    classes = int(max(forget.max(initial=0), control.max(initial=0))) + 1
    target = np.bincount(forget, minlength=classes).astype(float)
    there = np.bincount(control, minlength=classes)
    # The weight of a label is shared by its controls; labels without a control get none.
    per_patient = np.divide(target, there, out=np.zeros(classes), where=there > 0)
    weights: Floats = per_patient[control]
    total = weights.sum()

    return weights / total if total > 0 else np.full(len(control), 1.0 / len(control))


def unmatched_labels(forget: Ints, control: Ints) -> tuple[int, ...]:
    """Labels of forget patients that no control has."""
    return tuple(int(label) for label in np.setdiff1d(forget, control))
