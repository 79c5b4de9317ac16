"""An aim is shown by an equivalence test, and neither by a mean that is near enough nor by an interval that holds 0."""

from __future__ import annotations

import numpy as np
import pytest

from simulations.equivalence import interval, reading, reading_below


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ([0.01, -0.01, 0.0, 0.01, -0.01], "shown"),
        ([0.2, -0.2, 0.1, -0.1, 0.0], "not shown"),
        ([0.09, 0.1, 0.11, 0.1, 0.1], "refuted"),
        ([-0.09, -0.1, -0.11, -0.1, -0.1], "refuted"),
        ([0.0], "not shown"),
    ],
)
def test_a_mean_near_zero_shows_nothing_by_itself(values: list[float], answer: str) -> None:
    assert reading(values, 0.05) == answer


def test_a_cost_is_shown_below_its_aim_from_one_side_alone() -> None:
    assert reading_below([0.02, 0.021, 0.019], 0.1) == "shown"
    assert reading_below([0.05, 0.2, 0.02], 0.1) == "not shown"
    assert reading_below([0.2, 0.21, 0.19], 0.1) == "refuted"


def test_an_aim_that_the_truth_just_misses_is_shown_in_at_most_five_percent_of_studies() -> None:
    rng = np.random.default_rng(4)
    studies = rng.normal(0.05, 0.02, (4000, 6))
    shown = np.mean([reading(study, 0.05) == "shown" for study in studies])
    assert shown <= 0.05 + 3 * (0.05 * 0.95 / 4000) ** 0.5
    _, low, high = interval([1.0, 2.0, 3.0], 0.9)
    assert (low, high) == pytest.approx((2 - 2.92 / 3**0.5, 2 + 2.92 / 3**0.5), abs=1e-3)
