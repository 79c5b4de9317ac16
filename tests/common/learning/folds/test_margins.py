"""Targets by fold models, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from common.learning.folds.margins import NO_FOLD, OutOfFold, scaled_targets, standings
from common.learning.folds.settings import FoldsConfig

NAN = np.nan


def three(*values: float) -> np.ndarray:
    return np.tile(np.array(values, dtype=float), (3, 1))


def test_a_target_stands_among_never_seen_patients_as_the_patient_does_by_the_model_without_them() -> None:
    # Under fold model 1 the never-seen have mean 2 and deviation 1: a margin of 5 stands three deviations above.
    scores = OutOfFold(np.array([1, 0]), three(5.0, -1.0), np.stack([three(0.0, 4.0), three(1.0, 3.0)]))
    found = standings(scores)
    assert found.scaled.tolist() == three(3.0, -1.5).tolist()
    assert found.raw.tolist() == three(5.0, -1.0).tolist()
    # Now they have mean 10 and deviation 2.
    assert scaled_targets(found.scaled, three(8.0, 12.0)).tolist() == three(16.0, 7.0).tolist()


@pytest.mark.parametrize("patients", [1, 3])
def test_one_patient_gets_their_own_target_and_not_the_middle_one(patients: int) -> None:
    scores = OutOfFold(np.zeros(patients, dtype=np.int64), three(*range(4, 4 + patients)), three(-1.0, 1.0)[None])
    assert (
        scaled_targets(standings(scores).scaled, three(-1.0, 1.0)).tolist() == three(*range(4, 4 + patients)).tolist()
    )


def test_who_has_no_score_or_nobody_to_compare_with_has_no_standing() -> None:
    scores = OutOfFold(
        np.array([NO_FOLD, 0, 1, 0]),
        three(NAN, 1.0, 1.0, NAN),
        np.stack([three(0.0, 2.0, NAN), three(0.0, NAN, NAN)]),
    )
    assert scores.known().tolist() == [False, True, False, False]
    found = standings(scores)
    assert found.known().tolist() == [False, True, False, False]
    assert np.isnan(found.raw[:, [0, 2, 3]]).all()
    assert found.scaled[:, 1].tolist() == [0.0, 0.0, 0.0]


def test_a_model_that_says_the_same_of_all_puts_patients_at_its_mean() -> None:
    scores = OutOfFold(np.array([0]), three(9.0), three(2.0, 2.0)[None])
    assert standings(scores).scaled.tolist() == [[0.0], [0.0], [0.0]]


@pytest.mark.parametrize("family", ["targets", "audit"])
def test_a_single_fold_is_refused_because_its_model_would_be_trained_on_nobody(family: str) -> None:
    with pytest.raises(ValidationError, match="leaves nobody to train on"):
        FoldsConfig.model_validate({family: 1})


def test_fold_models_cost_a_training_less_than_there_are() -> None:
    assert FoldsConfig(targets=4, audit=2).trainings == 4.0
    assert FoldsConfig().trainings == 0.0
