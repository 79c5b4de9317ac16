"""What follows a receipt: approval, extension, refusal, campaigns and the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from client.revocations.ledger import Ledger
from client.revocations.revocation import Event, Request, State
from client.revocations.rows.ledger_rows import add_events, of_patients
from client.revocations.workflow.campaign_steps import close, escalate, take_up
from client.revocations.workflow.decisions import approve, extend, hold, refuse, release
from common.errors import InputError, RefusedError
from common.platform.actor import Actor

RequestFactory = Callable[..., Request]
Opening = Callable[[], AbstractContextManager[Ledger]]
DUE = datetime(2026, 4, 1, 12, tzinfo=UTC)


def states(ledger: Ledger, receipt: str = "r-1") -> list[State]:
    return [standing.state for standing in ledger.standing(receipt)]


def by(name: str) -> Actor:
    """Somebody with a login of their own."""
    return Actor(name, f"user:{1000 + sum(name.casefold().encode())}:{name}" if name else "")


def begin(ledger: Ledger, campaign: int, *patients: str) -> None:
    with ledger.writing() as writing:
        take_up(ledger, writing, campaign, [ledger.pseudonyms.of(p) for p in patients])


def test_where_two_persons_are_asked_for_a_second_one_must_approve(
    configure: Callable[..., None], opening: Opening, asked: RequestFactory
) -> None:
    configure(two_person_approval=True)
    with opening() as ledger:
        ledger.record(asked(steward="mueller", identity=by("mueller").identity), ["p-0", "p-5"])
        assert states(ledger) == [State.AWAITING_APPROVAL, State.EVALUATION_ONLY]
        assert ledger.is_stopped("p-0")
        assert ledger.waiting() == (0, DUE)
        begin(ledger, 1, "p-0")
        assert states(ledger)[0] is State.AWAITING_APPROVAL
        for nobody in ("", "Mueller"):
            with pytest.raises(RefusedError):
                approve(ledger, "r-1", by(nobody))

        assert approve(ledger, "r-1", by("schmidt")) == 1
        assert ledger.waiting() == (1, DUE)
        assert ledger.history("r-1")[-1].actor == "schmidt"
        with pytest.raises(RefusedError, match="awaiting-approval"):
            approve(ledger, "r-1", by("schmidt"))


def test_who_makes_a_revocation_of_what_software_held_is_the_first_person_and_not_the_second(
    configure: Callable[..., None], opening: Opening, asked: RequestFactory
) -> None:
    configure(two_person_approval=True)
    with opening() as ledger:
        ledger.record(asked(hold="nobody can judge"), ["p-0"])
        release(ledger, "r-1", by("mueller"), "a withdrawal indeed")
        assert states(ledger) == [State.AWAITING_APPROVAL]
        with pytest.raises(RefusedError, match="a second person"):
            approve(ledger, "r-1", by("Mueller"))
        assert approve(ledger, "r-1", by("schmidt")) == 1
        # What came without a person, as from the EHR, has its first one there: anybody here may approve it.
        ledger.record(asked("r-2"), ["p-1"])
        assert approve(ledger, "r-2", by("mueller")) == 1
        # Who recorded may not approve, whoever has released it in between.
        ledger.record(asked("r-3", steward="mueller", identity=by("mueller").identity), ["p-2"])
        hold(ledger, "r-3", by("schmidt"), "look again")
        release(ledger, "r-3", by("schmidt"), "as it was")
        with pytest.raises(RefusedError, match="a second person"):
            approve(ledger, "r-3", by("mueller"))
        assert approve(ledger, "r-3", by("schmidt")) == 1


def test_an_extension_moves_the_due_date_and_keeps_its_reason(
    ledger: Ledger, asked: RequestFactory, clock: Any
) -> None:
    ledger.record(asked(), ["p-0"])
    new = DUE + timedelta(days=40)
    assert extend(ledger, "r-1", new, by("mueller"), "many requests at once") == 1
    (found,) = ledger.standing("r-1")
    assert (found.due, found.state, found.reason) == (new, State.PENDING, "many requests at once")
    assert ledger.waiting().first_due == new
    clock.now += timedelta(days=40)
    with pytest.raises(RefusedError, match="within one month"):
        extend(ledger, "r-1", new + timedelta(days=1), by("mueller"), "again")
    begin(ledger, 1, "p-0")
    assert ledger.standing("r-1")[0].due == new


def test_a_refusal_lets_the_patient_be_used_again_unless_another_revocation_stands(
    ledger: Ledger, opening: Opening, asked: RequestFactory
) -> None:
    ledger.record(asked("r-1", scope="images"), ["p-0", "p-1"])
    ledger.record(asked("r-2"), ["p-1"])
    with pytest.raises(RefusedError, match="reason"):
        refuse(ledger, "r-1", by("mueller"), "")
    assert ledger.is_stopped("p-0")
    assert refuse(ledger, "r-1", by("mueller"), "not the patient's own request") == 2
    assert not ledger.is_stopped("p-0")
    assert ledger.is_stopped("p-1")
    with opening() as other:
        assert not other.is_stopped("p-0")
    assert ledger.record(asked("r-3"), ["p-0"]).earlier == 0
    assert ledger.is_stopped("p-0")


def test_a_decision_about_a_hold_leaves_the_plain_revocations_of_the_same_receipt_alone(
    ledger: Ledger, asked: RequestFactory
) -> None:
    ledger.record(asked("r-1"), ["p-0", "p-1"])
    with ledger.writing() as writing:
        held = [s for s in of_patients(writing.session, [ledger.pseudonyms.of("p-1")]) if s.receipt == "r-1"]
        add_events(
            writing.session,
            [Event(held[0].number, held[0].steps + 1, ledger.clock(), State.ON_HOLD, "lee", held[0].due, "unclear")],
        )

    assert refuse(ledger, "r-1", by("mueller"), "not the patient's own request") == 1
    assert ledger.is_stopped("p-0")
    assert not ledger.is_stopped("p-1")


def test_once_a_campaign_has_begun_nothing_is_refused_or_put_on_hold(ledger: Ledger, asked: RequestFactory) -> None:
    ledger.record(asked(), ["p-0"])
    begin(ledger, 1, "p-0")
    for step in (refuse, hold):
        with pytest.raises(RefusedError, match="cannot become"):
            step(ledger, "r-1", Actor("mueller"), "a reason")

    assert ledger.is_stopped("p-0")


def test_what_is_on_hold_is_stopped_waits_for_a_steward_and_goes_on_as_classified(
    ledger: Ledger, asked: RequestFactory
) -> None:
    ledger.record(asked(hold="entered in error"), ["p-0", "p-5"])
    assert states(ledger) == [State.ON_HOLD] * 2
    assert ledger.is_stopped("p-0")
    assert ledger.waiting() == (0, DUE)
    assert release(ledger, "r-1", by("mueller")) == 2
    assert states(ledger) == [State.PENDING, State.EVALUATION_ONLY]
    assert hold(ledger, "r-1", by("mueller"), "asked back") == 1


def test_a_plain_revocation_does_not_wait_behind_one_that_is_on_hold(ledger: Ledger, asked: RequestFactory) -> None:
    ledger.record(asked("r-1", hold="unclear"), ["p-0"])
    assert ledger.record(asked("r-2"), ["p-0"]).receipt == "r-2"
    assert states(ledger, "r-2") == [State.PENDING]


def test_a_campaign_that_ends_without_a_version_is_escalated_and_another_takes_up_what_it_left(
    ledger: Ledger, asked: RequestFactory
) -> None:
    ledger.record(asked(), ["p-0", "p-1"])
    begin(ledger, 1, "p-0")
    assert escalate(ledger, 1, "rejected") == 1
    assert [(s.state, s.remediation) for s in ledger.standing()] == [
        (State.ESCALATED, "inconclusive"),
        (State.PENDING, None),
    ]
    assert ledger.waiting() == (2, DUE)
    begin(ledger, 2, "p-0", "p-1")
    begin(ledger, 2, "p-0", "p-1")
    begin(ledger, 3, "p-1")
    assert [(e.state, e.campaign) for e in ledger.history("r-1") if e.campaign] == [
        (State.IN_CAMPAIGN, 1),
        (State.ESCALATED, 1),
        (State.IN_CAMPAIGN, 2),
        (State.IN_CAMPAIGN, 2),
        (State.ESCALATED, 2),
        (State.IN_CAMPAIGN, 3),
    ]


def test_a_version_that_has_forgotten_closes_what_waited_for_it(
    ledger: Ledger, asked: RequestFactory, clock: Any
) -> None:
    ledger.record(asked(), ["p-0", "p-1", "p-5"])
    begin(ledger, 1, "p-0")
    clock.now += timedelta(hours=5)
    names = [ledger.pseudonyms.of(p) for p in ("p-0", "p-5")]
    assert close(ledger, names, State.UNLEARNED, campaign=1, model="d" * 64) == 1
    assert close(ledger, names, State.UNLEARNED, campaign=1, model="d" * 64) == 0
    first, second, _ = ledger.standing()
    assert (first.state, first.remediation, first.campaign, first.model, first.closed) == (
        State.UNLEARNED,
        "unlearned",
        1,
        "d" * 64,
        clock.now,
    )
    assert (second.state, second.closed) == (State.PENDING, None)
    assert ledger.is_stopped("p-0")


@pytest.mark.parametrize(
    "step",
    [
        lambda ledger: approve(ledger, "nothing", by("a")),
        lambda ledger: extend(ledger, "nothing", DUE, by("a"), "b"),
        lambda ledger: refuse(ledger, "nothing", by("a"), "b"),
        lambda ledger: release(ledger, "nothing", by("a")),
    ],
)
def test_a_receipt_that_is_unknown_is_said_to_be(ledger: Ledger, step: Callable[[Ledger], object]) -> None:
    with pytest.raises(InputError, match="no such receipt"):
        step(ledger)
