"""Utility on a group of patients, in a form that can be merged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.figures import ClassAuc, SelectionFigures, Utility
from common.learning.evaluation.histograms import EDGES, binned_median, histogram, merge_histograms
from common.learning.evaluation.matching import patient_means
from common.learning.evaluation.scores import Scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def utility(scores: Scores | None, branch: int, classes: int) -> Utility:
    """Score one branch; probabilities are averaged over a patient's studies with one label. None is an empty group."""
    if scores is None or len(scores) == 0:
        empty = tuple(tuple(0 for _ in range(classes)) for _ in range(classes))
        none = tuple(ClassAuc(wins=0.0, pairs=0, positives=0, negatives=0) for _ in range(classes))
        return Utility(patients=0, confusion=empty, auc=none, loss_sum=0.0, loss_median=None)

    probs, labels = unit_probabilities(scores, branch)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (labels, probs.argmax(axis=1)), 1)
    losses = patient_means(scores.loss, scores.patients)[branch]

    return Utility(
        patients=len(losses),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        auc=tuple(_class_auc(probs[:, c], labels == c) for c in range(classes)),
        loss_sum=float(losses.sum()),
        loss_median=float(np.median(losses)),
        losses=histogram(losses),
    )


def unit_probabilities(scores: Scores, branch: int) -> tuple[Floats, Ints]:
    """Mean class probabilities `[units, classes]` and labels `[units]` of each patient and label."""
    classes = scores.logits.shape[2]
    keys, at = np.unique(scores.patients * classes + scores.labels, return_inverse=True)
    probs = np.zeros((len(keys), classes))
    np.add.at(probs, at, np.exp(scores.log_probs[branch]))

    return probs / np.bincount(at)[:, None], keys % classes


def _class_auc(values: Floats, positive: NDArray[np.bool_]) -> ClassAuc:
    high = values[positive]
    low = values[~positive]
    wins = (high[:, None] > low[None, :]).sum() + 0.5 * (high[:, None] == low[None, :]).sum()
    return ClassAuc(wins=float(wins), pairs=len(high) * len(low), positives=len(high), negatives=len(low))


def merge_utility(parts: list[Utility]) -> Utility:
    """Add the parts; the AUC is stratified by site, as only pairs within a site are compared."""
    groups = [part for part in parts if part.patients]
    if len(groups) < 2:
        return groups[0] if groups else parts[0]
    losses = merge_histograms([part.losses for part in groups])
    middle = binned_median(losses)

    return Utility(
        patients=sum(part.patients for part in groups),
        confusion=tuple(map(tuple, np.sum([part.confusion for part in groups], axis=0).tolist())),
        auc=tuple(
            ClassAuc(
                wins=sum(a.wins for a in column),
                pairs=sum(a.pairs for a in column),
                positives=sum(a.positives for a in column),
                negatives=sum(a.negatives for a in column),
            )
            for column in zip(*(part.auc for part in groups), strict=True)
        ),
        loss_sum=sum(part.loss_sum for part in groups),
        # The last bin has no upper end, so its middle would mean nothing.
        loss_median=None if middle is None or middle[1] == EDGES[-1] else (middle[0] + middle[1]) / 2,
        median_is="binned",
        losses=losses,
    )


def macro_auc(group: Utility) -> float | None:
    """Mean one-vs-rest AUC of the classes that have pairs; None when none has. Higher is better."""
    aucs = [a.auc for a in group.auc if a.auc is not None]
    return float(np.mean(aucs)) if aucs else None


def macro_f1(group: Utility) -> float | None:
    """Mean F1 of the classes that occur or are predicted; None for an empty group. Higher is better."""
    table = np.asarray(group.confusion)
    total = table.sum(axis=0) + table.sum(axis=1)
    return float((2 * table.diagonal()[total > 0] / total[total > 0]).mean()) if table.sum() else None


def accuracy(group: Utility) -> float | None:
    """Share of units classified right; None for an empty group. Higher is better."""
    table = np.asarray(group.confusion)
    return float(table.trace() / table.sum()) if table.sum() else None


def mean_loss(group: Utility) -> float | None:
    """Mean cross-entropy over patients, nats; None for an empty group. Lower is better."""
    return group.loss_sum / group.patients if group.patients else None


def selection_loss(figures: SelectionFigures) -> float | None:
    """Mean cross-entropy of validation patients over the three branches, nats; None without such patients."""
    losses = [mean_loss(utility) for utility in figures.validation.values()]
    finite = [loss for loss in losses if loss is not None]

    return sum(finite) / len(finite) if finite else None
