"""A campaign's patients are as far from never-seen ones as a rehearsal of the same patients would report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.learning.evaluation.qualification.campaign import campaign_distance
from common.learning.evaluation.scores import Scores
from common.learning.folds.margins import NO_FOLD, OutOfFold

CONTROLS = 60


def scores(rng: np.random.Generator, patients: int, lift: float = 0.0, label: int | None = None) -> Scores:
    """One study a patient; the logit of the true class is raised by `lift`."""
    labels = rng.integers(0, 2, patients) if label is None else np.full(patients, label)
    logits = rng.normal(0, 1, (3, patients, 2))
    logits[:, np.arange(patients), labels] += lift
    return Scores(logits, labels, np.arange(patients))


def folds(rng: np.random.Generator, patients: int) -> OutOfFold:
    return OutOfFold(
        rng.integers(0, 2, patients), rng.normal(0, 1.4, (3, patients)), rng.normal(0, 1.4, (2, 3, CONTROLS))
    )


def test_patients_who_are_remembered_are_farther_than_patients_who_are_not() -> None:
    rng = np.random.default_rng(1)
    never_seen = scores(rng, CONTROLS)
    far = [campaign_distance(scores(rng, 5, 4.0), never_seen, folds(rng, 5)) for _ in range(20)]
    near = [campaign_distance(scores(rng, 5), never_seen, folds(rng, 5)) for _ in range(20)]
    assert None not in (*far, *near)
    assert np.median(far) > 2 * np.median(near)  # type: ignore[arg-type]


def test_one_patient_has_a_distance_and_it_is_rounded_to_a_tenth() -> None:
    rng = np.random.default_rng(2)
    found = campaign_distance(scores(rng, 1), scores(rng, CONTROLS), folds(rng, 1))
    assert found is not None
    assert found == round(found, 1)


@pytest.mark.parametrize("what", ["no fold", "label", "images alone"])
def test_who_cannot_be_compared_with_rehearsals_has_none(what: str) -> None:
    rng = np.random.default_rng(3)
    forget = scores(rng, 2, label=1)
    never_seen = scores(rng, CONTROLS)
    found = folds(rng, 2)
    assert campaign_distance(forget, never_seen, found) is not None
    if what == "no fold":
        found = replace(found, fold=np.array([0, NO_FOLD]))
    elif what == "label":
        never_seen = scores(rng, CONTROLS, label=0)
    else:
        forget = replace(forget, branches=np.array([[True, True], [True, False], [True, True]]))
    assert campaign_distance(forget, never_seen, found) is None


def test_never_seen_patients_without_scores_by_all_fold_models_are_left_out() -> None:
    rng = np.random.default_rng(4)
    forget = scores(rng, 3)
    never_seen = scores(rng, CONTROLS)
    found = folds(rng, 3)
    controls = found.controls.copy()
    controls[1, :, :20] = np.nan
    rest = replace(found, controls=found.controls[:, :, 20:])
    kept = never_seen.of(np.arange(CONTROLS) >= 20)
    assert campaign_distance(forget, never_seen, replace(found, controls=controls)) == campaign_distance(
        forget, kept, rest
    )
