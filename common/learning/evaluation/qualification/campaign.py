"""How far a real campaign's patients are from the never-seen level: the figure that rehearsals report of themselves."""

from __future__ import annotations

import numpy as np

from common.learning.evaluation.matching import majority_labels, patient_means
from common.learning.evaluation.qualification.comparison import Margins, compare, distance
from common.learning.evaluation.scores import BRANCHES, Scores
from common.learning.folds.margins import OutOfFold


def campaign_distance(forget: Scores, never_seen: Scores, out_of_fold: OutOfFold) -> float | None:
    """Studentised distance of the forget patients, rounded to a tenth, so that no patient's margin can be told.

    None where the campaign cannot be compared with rehearsals: a patient without a score by the audit fold model that
    never saw them, with a label that no never-seen patient has, or who withdrew images or reports alone.

    Args:
        forget: scores of the patients who are to be forgotten, by the candidate.
        never_seen: scores of the audit patients, by the candidate.
        out_of_fold: of the same patients, in order of their numbers, by the audit's fold models.
    """
    partial = any(not forget.rows_on(branch).all() for branch in range(len(BRANCHES)))
    # Each patient is compared under their own fold model, so a control needs a score by all of them.
    complete = np.isfinite(out_of_fold.controls).all(axis=(0, 1))
    if partial or not out_of_fold.known().all() or not complete.any():
        return None
    labels = majority_labels(forget)
    control_labels = majority_labels(never_seen)[complete]
    # Rehearsals compare within a label; without a control of the same label there is nothing to compare with.
    if not set(labels.tolist()) <= set(control_labels.tolist()):
        return None

    after = Margins(
        patient_means(forget.margin, forget.patients),
        patient_means(never_seen.margin, never_seen.patients)[:, complete],
    )
    controls = out_of_fold.controls[:, :, complete]
    floor = Margins(out_of_fold.margins, controls[out_of_fold.fold].transpose(1, 0, 2))
    # Only the residual is used, which the model before has no part in.
    residual = compare(after, after, floor, labels, control_labels).residual

    return round(distance(residual, len(labels)), 1)
