from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.learning.evaluation.scores import Scores
from common.learning.folds.margins import Standings
from common.learning.unlearning.calibration import Aims, margin_targets, patient_mean, true_margin, weighted_quantile


def scores(margins: list[float], labels: list[int], patients: list[int]) -> Scores:
    """Two classes, so that the margin is the difference of the logits, equal on all branches."""
    logits = np.zeros((3, len(margins), 2))
    logits[:, np.arange(len(margins)), labels] = margins
    return Scores(logits, np.array(labels), np.array(patients))


def test_a_margin_is_the_true_logit_over_all_others() -> None:
    logits = torch.tensor([[[2.0, 0.0, 0.0], [1.0, 3.0, 1.0]]]).expand(3, -1, -1)
    found = true_margin(logits, torch.tensor([0, 2]))
    assert found.shape == (3, 2)
    assert found[0].tolist() == pytest.approx([2 - math.log(2), 1 - math.log(math.e + math.e**3)])


def test_the_margin_is_that_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 6, 4))
    labels = rng.integers(0, 4, 6)
    found = true_margin(torch.from_numpy(logits), torch.from_numpy(labels)).numpy()
    np.testing.assert_allclose(found, Scores(logits, labels, np.arange(6)).margin, atol=1e-12)


def test_a_sure_model_still_has_a_gradient() -> None:
    logits = torch.tensor([[[40.0, 0.0]]], requires_grad=True)
    torch.autograd.backward(true_margin(logits, torch.tensor([0])).sum())
    assert logits.grad is not None
    assert logits.grad[0, 0].tolist() == [1.0, -1.0]


def test_a_patient_counts_by_the_mean_of_the_studies() -> None:
    values = torch.tensor([[1.0, 5.0, 3.0]]).expand(3, -1)
    assert patient_mean(values, torch.tensor([1, 0, 1]), 2)[0].tolist() == [5.0, 2.0]


def test_a_quantile_of_equal_weights_lies_between_the_midpoints_of_the_steps() -> None:
    values = np.array([3.0, 0.0, 2.0, 1.0])
    weights = np.ones(4)
    found = weighted_quantile(values, weights, np.array([0.01, 0.125, 0.25, 0.5, 0.99]))
    assert found.tolist() == pytest.approx([0.0, 0.0, 0.5, 1.5, 3.0])


def test_weight_moves_a_quantile() -> None:
    # Midpoints .375 and .875: halfway between them lies .625.
    assert weighted_quantile(np.array([0.0, 8.0]), np.array([3.0, 1.0]), np.array([0.625])).tolist() == [4.0]


def test_a_control_without_weight_has_no_influence() -> None:
    levels = np.array([0.05, 0.5, 0.95])
    with_it = weighted_quantile(np.array([-90.0, 0.0, 1.0, 99.0]), np.array([0.0, 0.5, 0.5, 0.0]), levels)
    assert with_it.tolist() == weighted_quantile(np.array([0.0, 1.0]), np.array([0.5, 0.5]), levels).tolist()


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20))
def test_targets_stay_within_the_calibration_patients(margins: list[float]) -> None:
    level = scores(margins, [0] * len(margins), list(range(len(margins))))
    ranking = np.random.default_rng(0).normal(size=(3, 5))
    found = margin_targets(ranking, np.zeros(5, dtype=np.int64), level, 0.5)
    assert found.shape == (3, 5)
    assert found.min() >= min(margins) - 1e-9
    assert found.max() <= max(margins) + 1e-9
    for branch in range(3):
        assert np.all(np.diff(found[branch][np.argsort(ranking[branch])]) >= -1e-9)


def test_the_target_is_the_quantile_at_the_patients_rank() -> None:
    level = scores([0.0, 1.0, 2.0, 3.0], [0, 0, 0, 0], [0, 1, 2, 3])
    ranking = np.array([[5.0, -1.0], [0.0, 1.0], [2.0, 2.0]])
    found = margin_targets(ranking, np.array([0, 0]), level, 0.5)
    assert found.tolist() == [[2.5, 0.5], [0.5, 2.5], [0.5, 2.5]]


def test_a_calibration_patient_counts_once_however_many_studies() -> None:
    level = scores([0.0, 0.0, 0.0, 8.0, 4.0], [0] * 5, [0, 0, 0, 1, 1])
    assert margin_targets(np.zeros((3, 1)), np.array([0]), level, 0.5)[0].tolist() == [3.0]


def test_targets_come_from_controls_with_the_forget_patients_labels() -> None:
    level = scores([-9.0, -8.0, 1.0, 2.0], [0, 0, 1, 1], [0, 1, 2, 3])
    found = margin_targets(np.array([[1.0, 2.0]] * 3), np.array([1, 1]), level, 0.5)
    assert found[0].tolist() == [1.0, 2.0]


def test_who_has_a_standing_gets_its_target_and_the_others_a_drawn_quantile() -> None:
    level = scores([0.0, 1.0, 2.0, 3.0], [0, 0, 0, 0], [0, 1, 2, 3])
    margins = np.array([[np.nan, 7.0]] * 3)
    standing = Standings(margins, np.array([[np.nan, 2.0]] * 3))
    deviation = np.std([0.0, 1.0, 2.0, 3.0])

    def targets(how: Literal["scaled", "raw", "off"], within: float) -> list[float]:
        aims = Aims(np.array([[5.0, -1.0]] * 3), np.array([0, 0]), standing, how, within)
        found = aims.at(level)
        assert (found == found[0]).all()
        return [float(target) for target in found[0]]

    assert targets("scaled", 0.5) == [1.5, 1.5 + 2 * deviation]
    assert targets("raw", 0.25) == [0.5, 7.0]
    assert targets("off", 0.5) == [2.5, 0.5]


def test_one_patient_without_a_standing_may_be_moved_anywhere_among_the_never_seen() -> None:
    level = scores(list(map(float, range(10))), [0] * 10, list(range(10)))
    ends = {
        Aims(np.zeros((3, 1)), np.array([0]), None, "scaled", within).at(level)[0, 0] for within in (0.05, 0.45, 0.95)
    }
    assert ends == {0.0, 4.0, 9.0}
