"""From studies to patients: one row per patient (losses) or per patient and label (probabilities)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.evaluation.scores import Scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Units:
    """A patient once per label: somebody whose label changed between studies counts once for each.

    Attributes:
        probabilities: float64 `[3, units, classes]`, the mean over the studies of one patient with one label.
        labels: int64 `[units]`.
    """

    probabilities: Floats
    labels: Ints


@dataclass(frozen=True, slots=True)
class Patients:
    """One row per patient.

    Attributes:
        loss: float64 `[3, patients]`, mean cross-entropy over the patient's studies, in nats.
        correct: float64 `[3, patients]`, share of the patient's studies classified right.
        labels: int64 `[patients]`, the most frequent label; the most severe (highest) one where two are as frequent.
    """

    loss: Floats
    correct: Floats
    labels: Ints

    def __len__(self) -> int:
        return len(self.labels)


def units_of(scores: Scores) -> Units:
    """Average the probabilities of each patient's studies with the same label."""
    classes = scores.logits.shape[2]
    keys, group = np.unique(scores.patients * classes + scores.labels, return_inverse=True)
    return Units(_mean_by(np.exp(scores.log_probs), group, len(keys)), np.asarray(keys % classes, dtype=np.int64))


def patients_of(scores: Scores) -> Patients:
    """Average loss and hits over each patient's studies."""
    numbers, group = np.unique(scores.patients, return_inverse=True)
    classes = scores.logits.shape[2]
    votes = np.zeros((len(numbers), classes), dtype=np.int64)
    np.add.at(votes, (group, scores.labels), 1)
    labels = classes - 1 - np.argmax(votes[:, ::-1], axis=1)
    correct = (scores.logits.argmax(axis=2) == scores.labels).astype(np.float64)
    count = len(numbers)
    return Patients(_mean_by(scores.loss, group, count), _mean_by(correct, group, count), labels.astype(np.int64))


def mean_over_studies(values: Floats, scores: Scores) -> Floats:
    """Average `[..., studies]` over each patient's studies: `[..., patients]`, in the row order of `patients_of`."""
    numbers, group = np.unique(scores.patients, return_inverse=True)
    moved = np.moveaxis(values, -1, 0)
    return np.asarray(np.moveaxis(_mean_rows(moved, group, len(numbers)), 0, -1))


def _mean_by(values: Floats, group: NDArray[np.intp], count: int) -> Floats:
    """Average the second axis of `values` by `group`."""
    return np.asarray(np.swapaxes(_mean_rows(np.swapaxes(values, 0, 1), group, count), 0, 1))


def _mean_rows(rows: Floats, group: NDArray[np.intp], count: int) -> Floats:
    total = np.zeros((count, *rows.shape[1:]))
    np.add.at(total, group, rows)
    size = np.bincount(group, minlength=count).reshape(-1, *[1] * (rows.ndim - 1))
    return np.asarray(total / size)
