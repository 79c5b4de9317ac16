"""Batches: no due date passes, and otherwise enough patients are waited for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.revocations.deadline import first_due
from simulations.stream.arrivals import Arrival
from simulations.stream.batching import batches, batches_apart
from simulations.stream.settings import ArrivalsConfig, BatchingConfig

START = ArrivalsConfig().start


def at(day: float, site: str = "site-1", name: str = "") -> Arrival:
    return Arrival(START + timedelta(days=day), site, name or f"{site}-{day}")


several = st.lists(st.tuples(st.floats(0, 200), st.sampled_from(["site-1", "site-2", "site-3"])), max_size=40)


@given(several, st.integers(1, 9), st.floats(1, 20))
def test_every_revocation_is_in_one_batch_that_starts_before_its_due_date(
    drawn: list[tuple[float, str]], least: int, lead: float
) -> None:
    arrived = [at(day, site, f"{n}") for n, (day, site) in enumerate(drawn)]
    found = batches(arrived, BatchingConfig(min_batch=least, lead_days=lead).policy())
    assert sorted(a.patient for b in found for a in b.arrivals) == sorted(a.patient for a in arrived)

    for batch in found:
        assert batch.due == min(first_due(a.at) for a in batch.arrivals)
        assert batch.at <= batch.due - timedelta(days=lead)
        assert all(a.at <= batch.at for a in batch.arrivals)


@given(several, st.integers(1, 9), st.floats(1, 20))
def test_a_batch_that_is_not_full_has_waited_as_long_as_it_could(
    drawn: list[tuple[float, str]], least: int, lead: float
) -> None:
    arrived = [at(day, site, f"{n}") for n, (day, site) in enumerate(drawn)]
    for batch in batches(arrived, BatchingConfig(min_batch=least, lead_days=lead).policy()):
        if batch.reason == "the batch is full":
            assert len(batch.arrivals) >= least
        else:
            assert batch.at == batch.due - timedelta(days=lead)


def test_by_hand() -> None:
    policy = BatchingConfig(min_batch=3, lead_days=7).policy()
    found = batches([at(0), at(1, "site-2"), at(2), at(10)], policy)
    assert [(b.at - START).days for b in found] == [2, 34]
    assert [len(b.arrivals) for b in found] == [3, 1]
    # Received on 11 January, due on 11 February, a week before that is day 34.
    assert found[1].due == START + timedelta(days=41)
    assert found[1].reason == "the batch has waited long enough"


def test_a_lead_as_long_as_the_month_is_refused() -> None:
    with pytest.raises(ValueError, match="lead_days"):
        BatchingConfig(lead_days=31)


@given(several, st.integers(1, 9), st.floats(1, 20))
def test_hospitals_apart_have_batches_of_their_own_and_lose_no_revocation(
    drawn: list[tuple[float, str]], least: int, lead: float
) -> None:
    arrived = [at(day, site, f"{n}") for n, (day, site) in enumerate(drawn)]
    result = batches_apart(arrived, BatchingConfig(min_batch=least, lead_days=lead).policy())
    assert sorted(a.patient for batch in result for a in batch.arrivals) == sorted(a.patient for a in arrived)
    assert all(len({a.site for a in batch.arrivals}) == 1 for batch in result)
    assert [batch.at for batch in result] == sorted(batch.at for batch in result)
    assert all(batch.at <= batch.due - timedelta(days=lead) for batch in result)
