"""Attacks against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from common.learning.evaluation.attacks.difficulty import calibrated_ranks, calibrated_variance, calibrated_wins
from common.learning.evaluation.attacks.ks import ks_distance, ks_p_value
from common.learning.evaluation.attacks.loss_auc import bootstrap_variance, loss_auc
from common.learning.evaluation.attacks.svc import svc_member_share
from common.learning.evaluation.attacks.tpr import tpr_at_1pct_fpr
from common.learning.evaluation.sample_size.power import estimates


def test_loss_auc_counts_pairs_in_which_the_member_has_the_lower_loss_and_ties_as_half() -> None:
    member = np.array([1.0, 2.0])
    control = np.array([1.0, 3.0])
    # 1 ties with 1 (.5) and beats 3 (1); 2 loses to 1 (0) and beats 3 (1): 2.5 of 4.
    assert loss_auc(member, control, np.ones(2), np.ones(2)) == pytest.approx(0.625)


def test_loss_auc_weighs_controls() -> None:
    # Only against 1: .5 and 0. Only against 3: 1 and 1. At 3 : 1 that is .75 * .25 + .25 * 1.
    auc = loss_auc(np.array([1.0, 2.0]), np.array([1.0, 3.0]), np.ones(2), np.array([0.75, 0.25]))
    assert auc == pytest.approx(0.4375)


def test_the_bootstrap_variance_tends_to_its_closed_form() -> None:
    rng = np.random.default_rng(3)
    member = rng.normal(-0.4, 2.0, 30)
    control = rng.normal(0.0, 1.0, 30)
    drawn = bootstrap_variance(member, control, np.full(30, 1 / 30), 10_000, rng)
    assert drawn == pytest.approx(float(estimates(member[None], control[None]).error[0]) ** 2, rel=0.06)


def test_tied_losses_of_five_patients_are_not_certain() -> None:
    five = np.ones(5)
    # No ties would give (5 + 5 + 1) / (12 * 25).
    variance = bootstrap_variance(five, five, five / 5, 200, np.random.default_rng(0))
    assert variance == pytest.approx(11 / 300)


def test_ks_is_the_largest_gap_of_the_distribution_functions() -> None:
    member = np.array([1.0, 2.0, 3.0, 4.0])
    control = np.array([3.0, 4.0, 5.0, 6.0])
    assert ks_distance(member, control, np.ones(4)) == pytest.approx(0.5)
    # With all the weight on 6 the gap at 4 is that of 1 and 0.
    assert ks_distance(member, control, np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(1.0)


def test_ks_p_is_the_share_of_permutations_at_least_as_far_apart() -> None:
    labels = np.zeros(3, dtype=np.int64)
    member = np.array([1.0, 2.0, 3.0])
    control = np.array([4.0, 5.0, 6.0])
    # Of the 20 ways to split six values, two are fully apart.
    p = ks_p_value(member, control, labels, labels, 4000, np.random.default_rng(0))
    assert p == pytest.approx(0.1, abs=0.02)


def test_ks_p_does_not_take_a_difference_of_labels_for_membership() -> None:
    rng = np.random.default_rng(1)
    ours = np.repeat([0, 1], [5, 25])
    theirs = np.repeat([0, 1], [25, 5])
    # The loss depends on the label only, and within a label it is noise.
    member = ours * 10 + rng.random(30)
    control = theirs * 10 + rng.random(30)
    assert ks_p_value(member, control, ours, theirs, 400, rng) > 0.05


def test_ks_p_values_of_equal_groups_are_below_five_percent_about_as_often_as_that() -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros(12, dtype=np.int64)
    low = [ks_p_value(rng.random(12), rng.random(12), labels, labels, 99, rng) <= 0.05 for _ in range(200)]
    assert np.mean(low) <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_the_calibrated_rank_subtracts_what_a_model_says_that_never_saw_the_patient() -> None:
    # By the audited model the first beats both controls, the second one of them.
    member, control = np.array([3.0, 1.0]), np.array([0.0, 2.0])
    # By their own fold models the first beats one control, the second ties with both.
    floors = np.array([5.0, 7.0]), np.array([[4.0, 6.0], [7.0, 7.0]])
    wins = calibrated_wins(member, control, *floors)
    assert wins.tolist() == [[0.0, 1.0], [0.5, -0.5]]
    assert calibrated_ranks(wins, np.array([1.0, 1.0])).tolist() == [0.5, 0.0]
    assert calibrated_ranks(wins, np.array([3.0, 1.0])).tolist() == [0.25, 0.25]


def test_the_calibrated_ranks_variance_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(0)
    means, variances = [], []
    for _ in range(200):
        member, control = rng.normal(0.5, 1, 20), rng.normal(0, 1, 40)
        wins = calibrated_wins(member, control, rng.normal(0, 1, 20), rng.normal(0, 1, (20, 40)))
        means.append(calibrated_ranks(wins, np.ones(40)).mean())
        variances.append(calibrated_variance(wins, np.ones(40), 100, rng))
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.3)


def test_svc_calls_low_losses_members_and_high_ones_not() -> None:
    rng = np.random.default_rng(0)
    retain = rng.normal(0.1, 0.02, 60)
    unseen = rng.normal(2.0, 0.2, 40)
    assert svc_member_share(rng.normal(0.1, 0.02, 20), retain, unseen) == 1.0
    assert svc_member_share(rng.normal(2.0, 0.1, 20), retain, unseen) == 0.0
    assert svc_member_share(np.array([0.1, 2.0, 2.0, 2.0]), retain, unseen) == 0.25


def test_svc_says_nothing_where_all_losses_are_equal() -> None:
    assert svc_member_share(np.ones(4), np.ones(20), np.ones(10)) is None


def test_tpr_counts_members_below_all_but_one_percent_of_the_controls() -> None:
    control = np.arange(100.0)
    # One control, 0, may lie below the threshold, which is 1.
    assert tpr_at_1pct_fpr(np.array([-1.0, 0.5, 1.0, 50.0]), control, np.ones(100)) == 0.5
    assert tpr_at_1pct_fpr(np.array([-1.0]), control[:99], np.ones(99)) is None


def test_tpr_does_not_take_a_difference_of_labels_for_membership() -> None:
    # Half of 400 controls have a label with low losses, which no member has: unweighted they would set the threshold.
    control = np.concatenate([np.linspace(0, 1, 200), np.linspace(10, 20, 200)])
    member = np.linspace(10, 20, 50)
    weights = np.repeat([0.0, 1 / 200], 200)
    found = tpr_at_1pct_fpr(member, control, weights)
    assert found is not None
    assert found <= 0.02
    # With two controls alone of the right label there is nothing to say about 1 %.
    assert tpr_at_1pct_fpr(member, control, np.repeat([0.0, 0.5], [398, 2])) is None
    # Tied controls are all below a loss, or none of them is.
    assert tpr_at_1pct_fpr(np.array([0.5]), np.repeat([0.0, 1.0], [2, 98]), np.ones(100)) == 0.0
