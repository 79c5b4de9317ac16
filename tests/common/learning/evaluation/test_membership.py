"""Membership on whole sets of scores: what is known to remember and what cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from common.learning.evaluation.matching import control_weights, majority_labels, patient_means, unmatched_labels
from common.learning.evaluation.membership import MEASURED, audited_membership, membership
from common.learning.evaluation.scores import Scores
from common.learning.folds.margins import NO_FOLD, OutOfFold


def _out_of_fold(forget: Scores, never_seen: Scores) -> OutOfFold:
    """Two models that never saw anybody and tell nobody from another."""
    count = len(np.unique(forget.patients))
    controls = np.zeros((2, 3, len(np.unique(never_seen.patients))))
    return OutOfFold(np.arange(count) % 2, np.zeros((3, count)), controls)


def test_a_lookup_table_that_memorised_its_patients_is_found_by_every_attack(
    make_scores: Callable[..., Scores],
) -> None:
    rng = np.random.default_rng(0)
    forget, retain = (make_scores(rng, 40, confidence=9.0) for _ in range(2))
    control = make_scores(rng, 120)
    calibration = make_scores(rng, 40)
    refs = _out_of_fold(forget, control)
    found = audited_membership(forget, retain, calibration, control, 2, refs, draws=99, rng=rng)
    assert found.auc is not None
    assert found.auc > 0.99
    assert found.calibrated is not None
    assert found.calibrated > 0.49
    assert found.calibrated_patients == found.forget_patients
    assert found.svc is not None
    assert found.svc > 0.95
    assert found.tpr_at_1pct_fpr == 1.0
    assert found.ks_p == pytest.approx(0.01)
    assert found.accuracy_forget == 1.0
    assert found.missing == {}


def test_patients_who_are_not_to_be_forgotten_on_a_branch_do_not_count_there(
    make_scores: Callable[..., Scores],
) -> None:
    rng = np.random.default_rng(0)
    forget, retain = (make_scores(rng, 40, confidence=9.0) for _ in range(2))
    control = make_scores(rng, 120)
    calibration = make_scores(rng, 40)
    refs = _out_of_fold(forget, control)
    images_alone = np.arange(len(forget)) < len(forget) // 4
    branches = np.stack([np.ones(len(forget), bool), ~images_alone, np.ones(len(forget), bool)])
    some = dataclasses.replace(forget, branches=branches)
    counts = [
        audited_membership(some, retain, calibration, control, at, refs, draws=9, rng=rng).forget_patients
        for at in range(3)
    ]
    left = len(np.unique(forget.patients[~images_alone]))
    assert counts == [len(np.unique(forget.patients)), left, len(np.unique(forget.patients))]
    none = dataclasses.replace(forget, branches=np.array([[True], [False], [True]]).repeat(len(forget), axis=1))
    found = audited_membership(none, retain, calibration, control, 1, refs, draws=9, rng=rng)
    assert (found.forget_patients, found.auc) == (0, None)


def test_a_constant_model_cannot_tell_anyone(make_scores: Callable[..., Scores]) -> None:
    rng = np.random.default_rng(0)
    forget, retain, control, calibration = (make_scores(rng, 40, confidence=0.0) for _ in range(4))
    refs = _out_of_fold(forget, control)
    found = audited_membership(forget, retain, calibration, control, 0, refs, draws=99, rng=rng)
    assert found.auc == pytest.approx(0.5)
    assert found.calibrated == pytest.approx(0.0)
    assert found.ks == pytest.approx(0.0)
    assert found.ks_p == 1.0


def test_a_constant_model_with_another_label_mix_still_gives_one_half() -> None:
    # Always the same answer: loss is low for label 0, high for 1. Unmatched, the AUC would be .5 + .5 * (.75 - .25).
    def answers(labels: list[int]) -> Scores:
        return Scores(np.tile([2.0, 0.0], (3, len(labels), 1)), np.array(labels), np.arange(len(labels)))

    found = membership(answers([0, 0, 0, 1]), answers([0, 1, 1, 1]), 0, draws=50, rng=np.random.default_rng(0))
    assert found.auc == pytest.approx(0.5)
    assert found.accuracy_forget == pytest.approx(0.75)
    assert found.accuracy_control == pytest.approx(0.75)


def test_every_null_has_its_reason(make_scores: Callable[..., Scores]) -> None:
    rng = np.random.default_rng(0)
    few = make_scores(rng, 1)
    some = make_scores(rng, 8)

    for forget, retain, calibration, control in (
        (None, some, some, some),
        (few, some, some, some),
        (some, some, some, few),
        (some, some, some, None),
        (some, None, None, some),
        (some, some, some, some),
    ):
        found = audited_membership(forget, retain, calibration, control, 1, None, draws=50, rng=rng)
        for name in MEASURED:
            assert (getattr(found, name) is None) == (name in found.missing), name


def test_a_label_without_a_control_is_named(make_scores: Callable[..., Scores]) -> None:
    rng = np.random.default_rng(0)
    forget = make_scores(rng, 9, classes=3)
    control = make_scores(rng, 9, classes=1)
    control = Scores(np.zeros((3, 9, 3)), control.labels, control.patients)
    found = membership(forget, control, 0, draws=50, rng=rng)
    assert "label" in found.missing["matching"]


def test_controls_are_weighted_to_the_label_mix_of_the_forget_patients() -> None:
    # Three of four forget patients have label 0, which one control has; two controls share label 1.
    weights = control_weights(np.array([0, 0, 0, 1]), np.array([0, 1, 1]))
    assert weights == pytest.approx([0.75, 0.125, 0.125])
    # Label 2 has no control: label 0 keeps everything. Nothing in common: all weigh the same.
    assert control_weights(np.array([0, 2]), np.array([0, 1])) == pytest.approx([1.0, 0.0])
    assert control_weights(np.array([2]), np.array([0, 1])) == pytest.approx([0.5, 0.5])
    assert unmatched_labels(np.array([0, 2]), np.array([0, 1])) == (2,)


def test_a_patient_counts_once_however_many_studies() -> None:
    patients = np.array([7, 3, 7, 3, 3])
    assert patient_means(np.array([[1.0, 10.0, 3.0, 20.0, 30.0]]), patients).tolist() == [[20.0, 2.0]]
    scores = Scores(np.zeros((3, 5, 3)), np.array([0, 1, 2, 1, 0]), patients)
    # Patient 3 has 1, 1, 0; patient 7 has a tie of 0 and 2, which goes to the graver.
    assert majority_labels(scores).tolist() == [1, 2]


def test_patients_that_no_control_resembles_leave_the_comparison_and_are_counted() -> None:
    # Label 1 has no control; its two patients have a loss that would pass for membership.
    labels = np.array([0, 0, 0, 1, 1])
    logits = np.zeros((3, 5, 2))
    logits[:, 3:, 1] = 9.0
    control = Scores(np.zeros((3, 4, 2)), np.zeros(4, dtype=np.int64), np.arange(4))
    found = membership(Scores(logits, labels, np.arange(5)), control, 0, draws=50, rng=np.random.default_rng(0))
    assert found.forget_patients == 3
    assert found.auc == pytest.approx(0.5)
    assert found.missing["matching"].startswith("2 patients")


def test_an_easy_patient_ranks_high_by_any_model_and_is_no_member_for_that(make_scores: Callable[..., Scores]) -> None:
    rng = np.random.default_rng(3)
    # Confident where the models that never saw them are as well.
    forget = make_scores(rng, 40, confidence=3.0)
    control, calibration, retain = (make_scores(rng, 120) for _ in range(3))
    margins = patient_means(forget.margin, forget.patients)
    controls = patient_means(control.margin, control.patients)
    easy = OutOfFold(np.zeros(margins.shape[1], dtype=np.int64), margins, controls[None])
    found = audited_membership(forget, retain, calibration, control, 2, easy, draws=50, rng=rng)
    assert found.auc is not None
    assert found.auc > 0.7
    assert found.calibrated == pytest.approx(0.0)


def test_patients_without_a_fold_score_are_counted_and_left_out_of_the_calibrated_rank(
    make_scores: Callable[..., Scores],
) -> None:
    rng = np.random.default_rng(4)
    forget, retain = (make_scores(rng, 30, confidence=5.0) for _ in range(2))
    control, calibration = (make_scores(rng, 60) for _ in range(2))
    scores = _out_of_fold(forget, control)
    count = len(scores.fold)
    fold = np.where(np.arange(count) < 3, NO_FOLD, scores.fold)
    found = audited_membership(
        forget, retain, calibration, control, 2, dataclasses.replace(scores, fold=fold), draws=50, rng=rng
    )
    assert found.calibrated_patients == count - 3
    assert found.missing["calibrated"] == "3 patients without a score by a fold model"
    none = dataclasses.replace(scores, fold=np.full(count, NO_FOLD))
    found = audited_membership(forget, retain, calibration, control, 2, none, draws=50, rng=rng)
    assert (found.calibrated, found.calibrated_variance, found.calibrated_patients) == (None, None, 0)
