"""Compare forget patients with never-seen patients of the same hospital, one branch at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.attacks.difficulty import calibrated_ranks, calibrated_variance, calibrated_wins
from common.learning.evaluation.attacks.ks import ks_distance, ks_p_value
from common.learning.evaluation.attacks.loss_auc import bootstrap_variance, loss_auc
from common.learning.evaluation.attacks.svc import svc_member_share
from common.learning.evaluation.attacks.tpr import MIN_CONTROLS, tpr_at_1pct_fpr
from common.learning.evaluation.figures import Membership
from common.learning.evaluation.matching import control_weights, majority_labels, patient_means, unmatched_labels
from common.learning.evaluation.scores import Scores
from common.learning.folds.margins import OutOfFold

Floats = NDArray[np.float64]
MIN_PATIENTS = 2
_COUNTS = {"forget_patients", "control_patients", "calibrated_patients", "forget_studies", "missing", "rmia_auc"}
MEASURED = tuple(Membership.model_fields.keys() - _COUNTS)


def membership(
    forget: Scores | None, control: Scores | None, branch: int, *, draws: int, rng: np.random.Generator
) -> Membership:
    """Matched loss AUC with its variance, KS with its p-value, and accuracies. Too few patients give nulls."""
    # A patient who withdrew images alone does not count on the text branch.
    forget = None if forget is None else forget.of(forget.rows_on(branch))
    m = 0 if forget is None else len(np.unique(forget.patients))
    c = 0 if control is None else len(np.unique(control.patients))

    if forget is None or control is None or m < MIN_PATIENTS or c < MIN_PATIENTS:
        reason = "no patients to forget here" if m == 0 else f"needs {MIN_PATIENTS} patients in each group"
        return Membership(
            forget_patients=m, control_patients=c, auc=None, variance=None, ks=None, ks_p=None,
            missing=dict.fromkeys(MEASURED, reason),
        )  # fmt: skip

    ours = majority_labels(forget)
    theirs = majority_labels(control)
    missing_labels = unmatched_labels(ours, theirs)
    if missing_labels:
        # Without a control of the same label, a patient would be compared with other labels and look like a leak.
        return _without_labels(forget, ours, missing_labels, control, branch, draws=draws, rng=rng)

    weights = control_weights(ours, theirs)
    forget_losses = patient_means(forget.loss, forget.patients)[branch]
    control_losses = patient_means(control.loss, control.patients)[branch]
    correct = patient_means(_correct(forget), forget.patients)[branch]
    control_correct = patient_means(_correct(control), control.patients)[branch]
    control_mean = float(control_correct @ weights)
    # Unequal weights carry less information: as much as this number of equal ones (Kish 1965).
    effective = 1.0 / float((weights**2).sum())

    return Membership(
        forget_patients=m,
        control_patients=c,
        auc=float(loss_auc(forget_losses, control_losses, np.ones(m), weights)),
        variance=bootstrap_variance(forget_losses, control_losses, weights, draws, rng),
        ks=ks_distance(forget_losses, control_losses, weights),
        ks_p=ks_p_value(forget_losses, control_losses, ours, theirs, draws, rng),
        accuracy_forget=float(correct.mean()),
        accuracy_control=control_mean,
        accuracy_variance=float(_share_variance(correct.mean(), m) + _share_variance(control_mean, effective)),
    )


def _without_labels(
    forget: Scores,
    labels: NDArray[np.int64],
    unmatched: tuple[int, ...],
    control: Scores,
    branch: int,
    *,
    draws: int,
    rng: np.random.Generator,
) -> Membership:
    """`membership` of the patients whose label occurs among controls; `missing` counts the patients left out."""
    out = np.isin(labels, unmatched)
    keep = ~np.isin(forget.patients, np.unique(forget.patients)[out])
    rest = forget.of(keep) if keep.any() else None
    figures = membership(rest, control, branch, draws=draws, rng=rng)
    reason = f"{out.sum()} patients have a label ({', '.join(map(str, unmatched))}) that no control has"

    return figures.model_copy(update={"missing": figures.missing | {"matching": reason}})


def audited_membership(
    forget: Scores | None,
    retain: Scores | None,
    calibration: Scores | None,
    never_seen: Scores | None,
    branch: int,
    out_of_fold: OutOfFold | None,
    *,
    draws: int,
    rng: np.random.Generator,
) -> Membership:
    """`membership` against the audit patients, with the calibrated rank, the paper's SVC and the TPR at 1 % FPR.

    `out_of_fold` holds the scores of the forget patients, in order of their numbers, and of the audit patients as
    controls, by the audit's fold models.
    """
    base = membership(forget, never_seen, branch, draws=draws, rng=rng)
    if base.auc is None or forget is None or never_seen is None:
        return base
    # `out_of_fold` is in the order of all forget patients, so they are numbered before any is left out.
    everyone = np.unique(forget.patients)
    forget = forget.of(forget.rows_on(branch))
    missing = dict(base.missing)
    rank_figures: dict[str, float | int] = {}
    svc = None

    if out_of_fold is None:
        missing["calibrated"] = "no fold models"
    else:
        own = out_of_fold.of(np.isin(everyone, np.unique(forget.patients)))
        rank_figures = _calibrated(forget, never_seen, own, branch, draws=draws, rng=rng)
        without = base.forget_patients - rank_figures.get("calibrated_patients", 0)
        if without:
            missing["calibrated"] = f"{without} patients without a score by a fold model"
    if not rank_figures:
        missing["calibrated_variance"] = missing["calibrated"]

    if retain is None or calibration is None:
        missing["svc"] = "needs retained and calibration patients"
    else:
        svc = svc_member_share(forget.loss[branch], retain.loss[branch], calibration.loss[branch])
        if svc is None:
            missing["svc"] = "retained and calibration losses are all equal"

    tpr = tpr_at_1pct_fpr(
        patient_means(forget.loss, forget.patients)[branch],
        patient_means(never_seen.loss, never_seen.patients)[branch],
        control_weights(majority_labels(forget), majority_labels(never_seen)),
    )
    if tpr is None:
        reason = f"needs {MIN_CONTROLS} never-seen patients of the forget patients' labels"
        missing["tpr_at_1pct_fpr"] = f"{reason}, {base.control_patients} are here"

    attacks = {"svc": svc, "forget_studies": len(forget), "tpr_at_1pct_fpr": tpr, "missing": missing}

    return base.model_copy(update={**rank_figures, **attacks})


def _calibrated(
    forget: Scores, control: Scores, out_of_fold: OutOfFold, branch: int, *, draws: int, rng: np.random.Generator
) -> dict[str, float | int]:
    """The mean calibrated rank with its variance; empty with fewer than two patients or controls with scores."""
    labels = majority_labels(forget)
    # Controls must have a score by every model, or they would differ between patients.
    has_scores = np.isfinite(out_of_fold.controls).all(axis=(0, 1))
    weights = control_weights(labels, majority_labels(control)[has_scores])
    usable = out_of_fold.known() & np.isin(labels, majority_labels(control)[has_scores])
    if usable.sum() < MIN_PATIENTS or has_scores.sum() < MIN_PATIENTS:
        return {}

    own = patient_means(forget.margin, forget.patients)[branch]
    theirs = patient_means(control.margin, control.patients)[branch]
    floors = out_of_fold.controls[out_of_fold.fold[usable], branch][:, has_scores]
    wins = calibrated_wins(own[usable], theirs[has_scores], out_of_fold.margins[branch, usable], floors)

    return {
        "calibrated": float(calibrated_ranks(wins, weights).mean()),
        "calibrated_variance": calibrated_variance(wins, weights, draws, rng),
        "calibrated_patients": int(usable.sum()),
    }


def _correct(scores: Scores) -> Floats:
    return np.asarray((scores.logits.argmax(axis=2) == scores.labels).astype(float))


def _share_variance(share: float, count: float) -> float:
    # Agresti & Coull: add two right and two wrong answers, or a share of 1 would have no variance.
    estimate = (share * count + 2) / (count + 4)
    return estimate * (1 - estimate) / (count + 4)
