"""The table of states, the rules of approval, and the calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.revocations.deadline import check_extension, first_due, months_after
from client.revocations.revocation import LIFTED, OPEN, TERMINAL, State
from client.revocations.workflow.transitions import (
    NEEDS_REASON,
    TRANSITIONS,
    check_transition,
    classified,
    remediation_of,
)
from common.errors import InputError, RefusedError
from common.learning.records import Subset

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))


@pytest.mark.parametrize("before", [None, *State])
@pytest.mark.parametrize("after", list(State))
def test_a_step_may_be_taken_exactly_when_the_table_has_it(before: State | None, after: State) -> None:
    if after in TRANSITIONS[before]:
        check_transition(before, after, "a reason")
    else:
        with pytest.raises(RefusedError, match="cannot become"):
            check_transition(before, after, "a reason")


@pytest.mark.parametrize("after", sorted(NEEDS_REASON))
def test_what_a_person_must_account_for_needs_a_reason(after: State) -> None:
    before = next(state for state, following in TRANSITIONS.items() if after in following)
    with pytest.raises(RefusedError, match="only with a reason"):
        check_transition(before, after, "  ")


def test_every_end_says_what_was_done_and_every_other_state_leads_to_one() -> None:
    reached: set[State] = set()
    while grown := {s for s in OPEN if TRANSITIONS[s] & (TERMINAL | reached)} - reached:
        reached |= grown
    assert reached == OPEN
    assert all(remediation_of(state) == state for state in TERMINAL)
    # What was answered can be taken back, once; a refusal and a re-admission stop nobody, so that there is nothing to.
    assert all(TRANSITIONS[state] == {State.READMITTED} for state in TERMINAL - LIFTED)
    assert all(not TRANSITIONS[state] for state in LIFTED)


def test_after_the_model_may_have_begun_to_forget_nothing_leads_to_a_refusal() -> None:
    found = set[State]()
    grown = {State.IN_CAMPAIGN}
    while grown:
        found |= grown
        grown = {after for state in grown for after in TRANSITIONS[state]} - found

    assert State.REFUSED not in found
    assert State.ON_HOLD not in found


def test_only_who_was_trained_on_waits_for_a_campaign_and_for_a_second_person() -> None:
    assert classified(None, two_person=True) is State.EXCLUDED
    assert {classified(s, two_person=True) for s in Subset if s is not Subset.TRAIN} == {State.EVALUATION_ONLY}
    assert classified(Subset.TRAIN, two_person=True) is State.AWAITING_APPROVAL
    assert classified(Subset.TRAIN, two_person=False) is State.PENDING


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2026-03-05T10:00", "2026-04-05T10:00"),
        ("2026-01-31T23:59", "2026-02-28T23:59"),
        ("2028-01-31T00:00", "2028-02-29T00:00"),
        ("2026-12-15T08:00", "2027-01-15T08:00"),
        ("2026-11-30T08:00", "2026-12-30T08:00"),
    ],
)
def test_a_month_ends_on_the_same_date_or_on_the_last_day(received: str, due: str) -> None:
    assert first_due(datetime.fromisoformat(received)) == datetime.fromisoformat(due)


@given(MOMENTS, st.floats(0.5, 60))
def test_a_promise_of_days_makes_the_month_shorter_and_never_longer(received: datetime, days: float) -> None:
    month = months_after(received, 1)
    assert timedelta(days=28) <= month - received <= timedelta(days=31)
    assert first_due(received, days) == min(month, received + timedelta(days=days))


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=120)), st.timedeltas(timedelta(0), timedelta(days=120)))
def test_an_extension_holds_exactly_within_the_law(received: datetime, after: timedelta, by: timedelta) -> None:
    month = months_after(received, 1)
    due = first_due(received)
    now = received + after
    allowed = now <= month and due < due + by <= months_after(received, 3)

    try:
        check_extension(received, due, due + by, now, "many requests at once")
    except (InputError, RefusedError):
        assert not allowed
    else:
        assert allowed


def test_an_extension_needs_a_reason() -> None:
    received = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(InputError, match="reason"):
        check_extension(received, first_due(received), months_after(received, 2), received, " ")
