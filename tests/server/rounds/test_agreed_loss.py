"""One hospital's validation loss ends no training: what several report is agreed on, and stays between honest ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rounds.agreed_loss import agreed_loss

SHARES = {"a": 0.6, "b": 0.2, "c": 0.2}


@pytest.mark.parametrize("lie", [0.0, 1e6, 1e18])
def test_a_lie_of_the_largest_hospital_stays_between_the_others(lie: float) -> None:
    assert agreed_loss({"a": lie, "b": 0.4, "c": 0.6}, SHARES) in {0.4, 0.6}


@given(
    honest=st.lists(st.floats(0.0, 10.0), min_size=2, max_size=6),
    lie=st.floats(0.0, 1e18),
    shares=st.lists(st.floats(0.01, 1.0), min_size=7, max_size=7),
)
def test_among_three_or_more_no_single_hospital_moves_it_out_of_the_range_of_the_others(
    honest: list[float], lie: float, shares: list[float]
) -> None:
    losses = {str(at): loss for at, loss in enumerate(honest)} | {"liar": lie}
    registered = dict(zip([*losses], shares, strict=False))
    agreed = agreed_loss(losses, registered)
    assert agreed is not None
    assert min(honest) <= agreed <= max(honest)


def test_of_two_it_is_the_mean_and_of_nobody_nothing() -> None:
    assert agreed_loss({"a": 0.2, "b": 0.6}, SHARES) == pytest.approx(0.4)
    assert agreed_loss({"a": 0.2}, SHARES) == 0.2
    assert agreed_loss({}, SHARES) is None
    assert agreed_loss({"unregistered": 0.1}, SHARES) is None


def test_hospitals_without_validation_patients_do_not_weigh() -> None:
    agreed = agreed_loss({"b": 0.4, "c": 0.6}, SHARES)
    assert agreed is not None
    assert math.isclose(agreed, 0.5)
