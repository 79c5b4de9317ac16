"""The real model with real studies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.learning.data.tensors import StudyTensors
from common.learning.records import Cohort
from common.learning.unlearning.base import UnlearnSets


@pytest.fixture
def real_sets(cohort_of: Callable[..., Cohort], tensors_of: Callable[[Cohort], StudyTensors]) -> UnlearnSets:
    """6 forget, 8 retain and 8 calibration patients with two studies each."""
    return UnlearnSets(
        forget=tensors_of(cohort_of(6, name="f", seed=1)),
        retain=tensors_of(cohort_of(8, name="r", seed=2)),
        calibration=tensors_of(cohort_of(8, name="c", seed=3)),
    )
