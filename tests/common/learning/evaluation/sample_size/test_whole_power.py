"""The paired drop of test AUC, and the power of the whole rule that uses it."""

from __future__ import annotations

import numpy as np
import pytest

from common.learning.evaluation.sample_size.utility_equivalence import paired_drop
from common.learning.evaluation.sample_size.whole_power import false_acceptance, ks_distance, row


def test_a_drop_is_the_difference_of_two_aucs_of_the_same_patients() -> None:
    positive = np.array([True, True, False, False])
    before = np.array([4.0, 3.0, 2.0, 1.0])
    after = np.array([4.0, 1.5, 2.0, 1.0])
    found = paired_drop(before, after, positive)
    assert found.drop == pytest.approx(0.25)
    assert (found.positives, found.negatives) == (2, 2)
    assert paired_drop(before, before, positive).drop == 0
    assert paired_drop(before, before, positive).variance > 0


def test_the_variance_of_a_drop_is_that_of_repeated_samples_and_pairing_makes_it_small() -> None:
    rng = np.random.default_rng(3)
    positive = np.arange(80) < 40
    drops = []
    variances = []
    for _ in range(400):
        before = rng.standard_normal(80) + 1.2 * positive
        after = before + 0.3 * rng.standard_normal(80)
        found = paired_drop(before, after, positive)
        drops.append(found.drop)
        variances.append(found.variance)
    assert np.mean(variances) == pytest.approx(np.var(drops), rel=0.25)
    assert np.mean(variances) < 0.5 * 2 * 0.048**2, "less than that of two independent AUCs"


def test_each_condition_of_the_whole_rule_lowers_the_share_that_is_accepted() -> None:
    rng = np.random.default_rng(5)
    shares = row(160, 300, rng)
    assert list(shares[:4]) == sorted(shares[:4], reverse=True)
    assert shares[0] == pytest.approx(0.85, abs=0.07)
    assert shares[1] == pytest.approx(0.66, abs=0.09)
    assert false_acceptance(160, 400, rng) <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


def test_the_distance_of_two_samples_is_the_largest_gap_of_their_distributions() -> None:
    member = np.array([[0.0, 1.0, 2.0, 3.0]])
    assert ks_distance(member, member + 10) == [1.0]
    assert ks_distance(member, member + 0.5) == [0.25]
