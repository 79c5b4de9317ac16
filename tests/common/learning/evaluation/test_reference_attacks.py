"""Attacks with shadow models: values worked by hand, a model that remembers everything, one that says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from common.learning.evaluation.attacks.forgetting_epsilon import (
    ForgettingEpsilon,
    forgetting_epsilon,
    resolvable_epsilon,
)
from common.learning.evaluation.attacks.lira import LEAST_DEVIATION, fit_gaussians, lira_offline, lira_online
from common.learning.evaluation.attacks.loss_auc import loss_auc, score_auc
from common.learning.evaluation.attacks.u_lira import u_lira, u_lira_held_out

PATIENTS = 200
SHADOWS = 32
YES = np.array([True, True, True])


def memory(rng: np.random.Generator, seen: np.ndarray, *, remembers: bool) -> np.ndarray:
    """Confidence of a lookup table, sure of whom it holds and else as difficult as the patient; or a constant."""
    if not remembers:
        return np.full(seen.shape, 0.7)
    difficulty = np.random.default_rng(99).normal(0, 2, seen.shape[-1])
    return np.where(seen, 12.0, difficulty + rng.normal(0, 1, seen.shape))


def test_the_auc_of_scores_is_that_of_losses_turned_round() -> None:
    rng = np.random.default_rng(0)
    member = rng.integers(0, 9, 30).astype(float)
    control = rng.integers(0, 9, 40).astype(float)
    weights = rng.random(40)
    turned = float(loss_auc(-member, -control, np.ones(30), weights))
    assert score_auc(member, control, control_weights=weights) == pytest.approx(turned)
    # 2 beats 1 and ties with 2; 0 loses to both.
    assert score_auc(np.array([2.0, 0.0]), np.array([1.0, 2.0])) == 1.5 / 4


def test_gaussians_have_a_mean_each_and_one_deviation() -> None:
    confidence = np.array([[1.0, 10.0, 5.0], [3.0, 10.0, 5.0], [99.0, 16.0, 5.0]])
    chosen = np.array([[True, True, False], [True, True, False], [False, True, False]])
    found = fit_gaussians(confidence, chosen)
    assert found.means[:2].tolist() == [2.0, 12.0]
    assert np.isnan(found.means[2])
    # Squares: 1 + 1 of one patient, 4 + 4 + 16 of the other, 1 + 2 degrees of freedom.
    assert found.deviation == pytest.approx((26 / 3) ** 0.5)
    assert fit_gaussians(np.ones((3, 2)), np.ones((3, 2), dtype=bool)).deviation == LEAST_DEVIATION


def test_offline_lira_counts_deviations_above_the_mean_of_those_who_never_saw_the_patient() -> None:
    shadows = np.array([[0.0, 5.0], [2.0, 7.0], [50.0, 9.0]])
    member = np.array([[False, False], [False, False], [True, False]])
    # Means 1 and 7, squares 1 + 1 + 4 + 0 + 4 over 1 + 2.
    deviation = (10 / 3) ** 0.5
    assert lira_offline(np.array([3.0, 7.0]), shadows, member).tolist() == pytest.approx([2 / deviation, 0.0])


def test_online_lira_is_the_log_ratio_of_two_densities() -> None:
    shadows = np.array([[4.0], [6.0], [0.0], [4.0]])
    member = np.array([[True], [True], [False], [False]])
    # In: mean 5, variance 2. Out: mean 2, variance 8. At 4: -1/4 - ln(2)/2 + 4/16 + ln(8)/2.
    assert lira_online(np.array([4.0]), shadows, member)[0] == pytest.approx(-0.25 + 0.25 + math.log(2))
    assert np.isnan(lira_online(np.array([4.0]), shadows, np.ones((4, 1), dtype=bool))[0])


def test_u_lira_is_the_same_ratio_between_unlearned_and_never_trained_on() -> None:
    confidence = np.array([[4.0], [6.0], [0.0], [4.0], [999.0]])
    unlearned = np.array([[1], [1], [0], [0], [0]], dtype=bool)
    never = np.array([[0], [0], [1], [1], [0]], dtype=bool)
    assert u_lira(np.array([[4.0], [5.0]]), confidence, unlearned, never)[0, 0] == pytest.approx(math.log(2))


@pytest.mark.parametrize(("remembers", "low", "high"), [(True, 0.98, 1.0), (False, 0.5, 0.5)])
def test_every_attack_finds_a_lookup_table_and_cannot_tell_a_constant(remembers: bool, low: float, high: float) -> None:
    rng = np.random.default_rng(1)
    member = rng.random((SHADOWS, PATIENTS)) < 0.5
    shadows = memory(rng, member, remembers=remembers)
    truth = rng.random(PATIENTS) < 0.5
    target = memory(rng, truth, remembers=remembers)
    log_p = -np.logaddexp(0, -target)
    scores = {
        "loss": log_p,
        "lira offline": lira_offline(target, shadows, member),
        "lira online": lira_online(target, shadows, member),
    }
    found = {name: score_auc(score[truth], score[~truth]) for name, score in scores.items()}
    found["u-lira"] = u_lira_held_out(shadows, member, ~member, folds=4, draws=20, rng=rng).auc
    assert all(low <= auc <= high for auc in found.values()), found


def test_held_out_u_lira_of_a_perfect_unlearning_is_one_half_on_average() -> None:
    rng = np.random.default_rng(2)
    found = []

    for _ in range(250):
        confidence = rng.normal(0, 1, (8, 40)) + rng.normal(0, 3, 40)
        unlearned = np.zeros((8, 40), dtype=bool)
        for column in range(40):
            unlearned[rng.permutation(8)[:4], column] = True
        found.append(u_lira_held_out(confidence, unlearned, ~unlearned, folds=4, draws=2, rng=rng).auc)

    assert np.mean(found) == pytest.approx(0.5, abs=3 * np.std(found) / 250**0.5)
    assert np.std(found) / 250**0.5 < 0.005


def test_held_out_u_lira_counts_its_pairs_and_names_who_leaks() -> None:
    rng = np.random.default_rng(3)
    unlearned = np.tile(np.array([[True], [False]]), (8, 30))
    # For one patient four of the models are of neither world.
    never = ~unlearned
    never[::4, 5] = unlearned[::4, 5] = False
    confidence = rng.normal(0, 1, (16, 30))
    confidence[:, 7] += 9.0 * unlearned[:, 7]
    found = u_lira_held_out(confidence, unlearned, never, folds=4, draws=200, rng=rng)
    assert found.pairs == 16 * 30 - 4
    assert found.most_leaking(1).tolist() == [7]
    assert found.by_patient[7] == 1.0
    assert found.interval[0] < found.auc < found.interval[1]


def test_held_out_u_lira_needs_both_worlds() -> None:
    everybody = np.ones((4, 3), dtype=bool)
    nobody = np.zeros((4, 3), dtype=bool)
    with pytest.raises(ValueError, match="both worlds"):
        u_lira_held_out(np.zeros((4, 3)), everybody, nobody, folds=2, draws=2, rng=np.random.default_rng(0))


def two_worlds(unlearned: NDArray[np.float64], never: NDArray[np.float64], delta: float = 0.0) -> ForgettingEpsilon:
    """Epsilon of `[u, n]` unlearned and `[r, n]` other models."""
    first = np.arange(len(unlearned) + len(never))[:, None] < len(unlearned)
    first = np.broadcast_to(first, (len(first), unlearned.shape[1]))
    return forgetting_epsilon(np.concatenate([unlearned, never]), first, ~first, delta)


def test_epsilon_by_hand() -> None:
    unlearned = np.repeat([1.0, 0.0], 5)[:, None]
    never = np.repeat([1.0, 0.0], [2, 8])[:, None]
    found = two_worlds(unlearned, never)
    # Called unlearned above 0: FNR .5, FPR .2, so log(.5 / .2); the other way round is below 0. Second bin of .5.
    assert found.patients.tolist() == pytest.approx([math.log(2.5)])
    assert found.score == 0.5
    assert found.caps.tolist() == pytest.approx([math.log(9)])
    assert "resolve no more than 2.20 to 2.20, which 0% of patients reach" in found.text


def test_epsilon_finds_what_lies_between_two_thresholds() -> None:
    # All other models but one in the middle, all unlearned ones but one outside of it.
    never = np.array([4.0, 4.5, 5.0, 5.5, 0.0])[:, None]
    unlearned = np.array([0.0, 1.0, 9.0, 9.5, 5.0])[:, None]
    assert two_worlds(unlearned, never).patients[0] == pytest.approx(math.log(4))


def test_epsilon_is_the_cap_where_all_is_told_and_0_where_nothing_is() -> None:
    rng = np.random.default_rng(4)
    told = two_worlds(rng.normal(9, 0.1, (16, 3)), rng.normal(0, 0.1, (16, 3)))
    assert told.patients.tolist() == told.caps.tolist()
    same = two_worlds(np.full((16, 3), 0.7), np.full((16, 3), 0.7))
    assert same.patients.tolist() == [0.0] * 3
    assert same.score == 1.0


def test_a_patient_without_models_of_both_kinds_has_no_epsilon_and_counts_nowhere() -> None:
    never = np.ones((6, 2), dtype=bool)
    never[:3, 0] = False
    found = forgetting_epsilon(np.zeros((6, 2)), ~never, never)
    assert np.isnan(found.patients).tolist() == [False, True]
    assert found.score == 1.0


def test_more_models_resolve_more() -> None:
    # With 512 models of each kind, as in the competition, its 13 bins of .5 are just used up.
    assert 6.0 < resolvable_epsilon(512, 512) < 6.5
    assert resolvable_epsilon(4, 4, delta=0.0) == pytest.approx(math.log(3))
