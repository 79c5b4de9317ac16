"""The steps of a revocation after receipt: approval, extension, refusal, campaigns and settlement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from client.revocations.access import open_campaigns
from client.revocations.deadline import check_extension
from client.revocations.exemptions import Exemption, check_whole, record
from client.revocations.ledger import SOFTWARE, Ledger, Writing
from client.revocations.revocation import (
    LIFTED,
    OPEN,
    TO_FORGET,
    Event,
    RevocationStatus,
    State,
    alike_receipt,
    is_alike,
    is_doubt,
)
from client.revocations.rows.covered import forget_doubts, uncovered
from client.revocations.rows.ledger_rows import add_events, chunks, history_of, of_patients, standing_of
from client.revocations.rows.ledger_tables import RevocationEventRow, RevocationRow
from client.revocations.tombstones.file import Tombstone, stop
from client.revocations.transitions import TRANSITIONS, check_transition
from common.errors import InputError, RefusedError
from common.platform.actor import Actor, check_second

_SOFTWARE = Actor(SOFTWARE)


class PersonDecision(NamedTuple):
    """The person who decides, and the reason."""

    actor: Actor
    reason: str


def approve(ledger: Ledger, receipt: str, actor: Actor, reason: str = "", signature: str = "") -> int:
    """Let campaigns take up a receipt's revocations; returns the number approved.

    The first person is the one who recorded them or, if software did, e.g. for an unclear consent, the one who decided
    that these are revocations.

    Args:
        signature: the steward's signature, if `actor` is bound to a key.

    Raises:
        InputError: no such receipt.
        RefusedError: none awaits approval, or `actor` is the first person, under any name, or is unknown.
    """
    with ledger.writing() as writing:
        revocations = _of_receipt(ledger, writing, receipt, State.AWAITING_APPROVAL)
        decisions = {
            step.revocation: Actor("" if step.actor == SOFTWARE else step.actor, step.identity)
            for step in history_of(writing.session, receipt)
            if step.state is State.AWAITING_APPROVAL
        }
        for standing in revocations:
            recorder = Actor(standing.steward, standing.identity)
            check_second(recorder if any(recorder) else decisions[standing.number], actor, ledger.shared_accounts)

        _step(ledger, writing, revocations, State.PENDING, actor=actor, reason=reason, signature=signature)

    return len(revocations)


def readmit(
    ledger: Ledger,
    writing: Writing,
    receipt: str,
    actor: Actor,
    reason: str,
    *,
    form: tuple[str, str],
    patients: Collection[str] | None = None,
    signature: str = "",
) -> tuple[int, int]:
    """Let a receipt's patients take part again from the next campaign, as if they were new.

    What the model has forgotten stays forgotten, retired weights stay retired, and deleted data must be imported again.

    Args:
        form: name in the vault of the form by which they take part again, and the commitment to it.
        patients: pseudonyms of those who do; None: the only patient of the receipt.
        signature: the steward's signature, if `actor` is bound to a key.

    Returns:
        The number of revocations, and of patients whom another revocation still stops.

    Raises:
        InputError: no such receipt, or it has several patients, or not all of `patients`.
        RefusedError: no reason or name, nothing can be taken back, or a campaign may be running.
    """
    if not actor.name.strip():
        raise RefusedError("a readmission needs the name of the person who decides")
    if not reason.strip():
        raise RefusedError("a readmission needs a reason")
    if running := sorted(open_campaigns(writing.session)):
        raise RefusedError(f"campaign {running[0]} is reading patients who have revoked: readmit after its end")
    can = (state for state in State if State.READMITTED in TRANSITIONS[state])
    revocations = _chosen(_decided(writing, _of_receipt(ledger, writing, receipt, *can)), patients)
    reason_text = f"{reason.strip()} (form {form[0]}, commitment {form[1]})"
    _step(ledger, writing, revocations, State.READMITTED, actor=actor, reason=reason_text, signature=signature)
    _lift(ledger, writing, revocations)
    others = of_patients(writing.session, {s.pseudonym for s in revocations})

    return len(revocations), len({s.pseudonym for s in others if s.state not in LIFTED})


def extend(ledger: Ledger, receipt: str, due: datetime, actor: Actor, reason: str) -> int:
    """Extend the due date of a receipt; the patient is told the reason. Returns the number of revocations.

    Raises:
        InputError: no such receipt, no reason, or not later than the present date.
        RefusedError: none of them is open, or the law does not allow it: see `check_extension`.
    """
    with ledger.writing() as writing:
        revocations = _of_receipt(ledger, writing, receipt, *OPEN)
        now = ledger.clock()
        for s in revocations:
            check_extension(s.received, s.due, due, now, reason)
        add_events(
            writing.session,
            [
                Event(
                    s.number,
                    s.steps + 1,
                    now,
                    s.state,
                    actor.name,
                    due,
                    reason,
                    campaign=s.campaign,
                    identity=actor.identity,
                )
                for s in revocations
            ],
        )

    return len(revocations)


def refuse(ledger: Ledger, receipt: str, actor: Actor, reason: str, exemption: Exemption | None = None) -> int:
    """Refuse a receipt's revocations: the patients may be used again, unless another revocation stops it.

    Args:
        exemption: the exception of GDPR Art. 17(3) by which they are refused; None: on another ground.

    Raises:
        InputError: no such receipt.
        RefusedError: no reason, none of them is open, the model may have begun to forget, or the exception does not
            fit.
    """
    with ledger.writing() as writing:
        waiting = _of_receipt(ledger, writing, receipt, *OPEN)
        # Of a receipt with patients on hold, only these are decided about: the others' revocations are not in doubt.
        holds = [s for s in waiting if s.state is State.ON_HOLD]
        revocations = _decided(writing, holds or waiting)
        if exemption is not None:
            check_whole(revocations)
            record(writing.session, exemption, revocations, actor, reason, ledger.clock())
        _step(ledger, writing, revocations, State.REFUSED, actor=actor, reason=reason)
        _lift(ledger, writing, revocations)

    return len(revocations)


def hold(ledger: Ledger, receipt: str, actor: Actor, reason: str) -> int:
    """Keep campaigns from taking up a receipt until a steward releases it; use stays stopped.

    Raises:
        InputError: no such receipt.
        RefusedError: no reason, none of them is open, or a campaign has taken it up.
    """
    with ledger.writing() as writing:
        revocations = _decided(writing, _of_receipt(ledger, writing, receipt, *OPEN))
        _step(ledger, writing, revocations, State.ON_HOLD, actor=actor, reason=reason)

    return len(revocations)


def release(ledger: Ledger, receipt: str, actor: Actor, reason: str = "") -> int:
    """Release a receipt from hold, as if it were received now; its dates stay.

    Raises:
        InputError: no such receipt.
        RefusedError: none of them is on hold.
    """
    with ledger.writing() as writing:
        revocations = _decided(writing, _of_receipt(ledger, writing, receipt, State.ON_HOLD))
        subsets = ledger.subsets()
        for standing in revocations:
            after = ledger.classified(subsets.get(standing.pseudonym), standing.kind)
            _step(ledger, writing, [standing], after, actor=actor, reason=reason)

    return len(revocations)


def end_holds(ledger: Ledger, writing: Writing, pseudonym: str, reason: str) -> int:
    """End the holds caused by the unclear consents of a patient, as these have become clear; returns their number.

    The patient, and those who were on hold because their identifiers look like the patient's, may be used again, unless
    a revocation stops it.
    """
    own = [s for s in of_patients(writing.session, [pseudonym]) if is_doubt(s.receipt)]
    alike = {alike_receipt(s.receipt, pseudonym): s.receipt for s in own}
    of_others = [s for some in chunks(alike) for s in standing_of(writing.session, RevocationRow.receipt.in_(some))]
    # Once a person has said who is meant, these patients are on hold under the receipt of the consent itself.
    alike_patients = {alike[s.receipt] for s in of_others}
    of_others += [
        s
        for some in chunks(alike_patients)
        for s in standing_of(writing.session, RevocationRow.receipt.in_(some))
        if s.pseudonym != pseudonym
    ]
    holds = [s for s in (*own, *of_others) if s.state is State.ON_HOLD]
    _step(ledger, writing, holds, State.REFUSED, actor=_SOFTWARE, reason=reason)
    writing.lifts += [Tombstone("lift", s.pseudonym, s.receipt, s.received) for s in holds]
    writing.lifts += forget_doubts(writing.session, pseudonym)

    return len(holds)


def end_alike(
    ledger: Ledger,
    writing: Writing,
    asked: RevocationStatus,
    candidates: Collection[RevocationStatus],
    meant: Collection[int],
    said: PersonDecision,
) -> None:
    """End the holds on all candidates, after a person has said whom the identifier of `asked` means.

    Args:
        meant: numbers of the `candidates` who are meant and whose revocation is already recorded.
    """
    for one in candidates:
        why = "is meant" if one.number in meant else "is not meant"
        _step(ledger, writing, [one], State.REFUSED, actor=said.actor, reason=f"{why}: {said.reason}")

    writing.lifts += [Tombstone("lift", one.pseudonym, one.receipt, one.received) for one in candidates]
    now = [s for s in of_patients(writing.session, [asked.pseudonym]) if s.number == asked.number]
    cohort = ledger.subsets()
    # A patient of the cohort is no stranger, whatever was decided about a look-alike. An unclear consent excludes
    # nobody: its own hold ends when the consent becomes clear.
    waits = [s for s in now if s.state is State.ON_HOLD and s.pseudonym not in cohort and not is_doubt(asked.receipt)]
    who = "another spelling of a patient here" if meant else "nobody here"
    _step(ledger, writing, waits, State.EXCLUDED, actor=said.actor, reason=f"{who}: {said.reason}")


def take_up(ledger: Ledger, writing: Writing, campaign: int, pseudonyms: Collection[str]) -> None:
    """Record that a campaign has begun to make the model forget these patients; escalates an earlier campaign first."""
    stale = [
        s for s in of_patients(writing.session, pseudonyms) if s.state is State.IN_CAMPAIGN and s.campaign != campaign
    ]
    reason = "the campaign ended without a version that has forgotten"
    _step(ledger, writing, stale, State.ESCALATED, actor=_SOFTWARE, reason=reason)
    ready = [s for s in of_patients(writing.session, pseudonyms) if s.state in TO_FORGET - {State.IN_CAMPAIGN}]
    _step(ledger, writing, ready, State.IN_CAMPAIGN, actor=_SOFTWARE, campaign=campaign)


def escalate(ledger: Ledger, campaign: int, reason: str, actor: Actor = _SOFTWARE) -> int:
    """Return the revocations of a rejected or inconclusive campaign to the queue; returns their number.

    Raises:
        RefusedError: no reason.
    """
    with ledger.writing() as writing:
        of_campaign = RevocationEventRow.campaign == campaign
        revocations = [s for s in standing_of(writing.session, of_campaign) if s.state is State.IN_CAMPAIGN]
        _step(ledger, writing, revocations, State.ESCALATED, actor=actor, reason=reason)

    return len(revocations)


def close(
    ledger: Ledger,
    pseudonyms: Collection[str],
    state: State,
    *,
    campaign: int | None = None,
    model: str = "",
    reason: str = "",
) -> int:
    """Settle the revocations of patients whom the model has forgotten; returns the number of patients settled.

    Raises:
        RefusedError: `state` does not settle a waiting revocation.
    """
    with ledger.writing() as writing:
        revocations = [s for s in of_patients(writing.session, pseudonyms) if s.state in TO_FORGET]
        _step(ledger, writing, revocations, state, actor=_SOFTWARE, campaign=campaign, model=model, reason=reason)

    return len({s.pseudonym for s in revocations})


def _of_receipt(ledger: Ledger, writing: Writing, receipt: str, *states: State) -> list[RevocationStatus]:
    revocations = standing_of(writing.session, RevocationRow.receipt == receipt)
    if not revocations:
        raise InputError("no such receipt", where=str(ledger.folder.root), remedy="fedforget-site revocations list")
    some = [s for s in revocations if s.state in states]
    if not some:
        state_text = states[0] if len(states) == 1 else "open"
        raise RefusedError(f"no revocation under this receipt is {state_text}")

    return some


def _decided(writing: Writing, revocations: Sequence[RevocationStatus]) -> list[RevocationStatus]:
    """The revocations of which it is clear who is meant; raises a `RefusedError` if there are none."""
    numbers = {alike_receipt(s.receipt, s.pseudonym) for s in revocations if s.state is State.ON_HOLD}
    open_receipts = {
        s.receipt
        for some in chunks(numbers)
        for s in standing_of(writing.session, RevocationRow.receipt.in_(some))
        if s.state is State.ON_HOLD
    }
    clear = [
        s for s in revocations if not is_alike(s.receipt) and alike_receipt(s.receipt, s.pseudonym) not in open_receipts
    ]
    if not clear:
        raise RefusedError("a person must first say who is meant: fedforget-site revocations doubtful")
    return clear


def _lift(ledger: Ledger, writing: Writing, revocations: Sequence[RevocationStatus]) -> None:
    """Lift what was refused or readmitted, and record the requests that it had covered.

    Args:
        revocations: as they were before.
    """
    subsets = ledger.subsets()
    forgotten = {s.pseudonym: s for s in revocations if s.state in (State.UNLEARNED, State.RETRAINED)}

    for request, pseudonyms in uncovered(writing.session, {s.pseudonym for s in revocations}):
        ledger.insert(writing, request, {pseudonym: subsets.get(pseudonym) for pseudonym in pseudonyms})
        writing.stops += [stop(request, pseudonym) for pseudonym in pseudonyms]
        for standing in standing_of(writing.session, RevocationRow.receipt == request.receipt):
            before = forgotten.get(standing.pseudonym)
            if before is not None and standing.pseudonym in pseudonyms:
                _settle_like(ledger, writing, standing, before)

    writing.lifts += [Tombstone("lift", s.pseudonym, s.receipt, s.received) for s in revocations]


def _settle_like(ledger: Ledger, writing: Writing, standing: RevocationStatus, before: RevocationStatus) -> None:
    """Settle a revocation of which the model has already forgotten the patient: no campaign is needed again."""
    if standing.state is State.AWAITING_APPROVAL:
        _step(ledger, writing, [standing], State.PENDING, actor=_SOFTWARE)
        standing = replace(standing, state=State.PENDING, steps=standing.steps + 1)
    if standing.state is State.PENDING:
        reason = "the model had already forgotten the patient"
        campaign = before.campaign
        model = before.model
        _step(ledger, writing, [standing], before.state, actor=_SOFTWARE, reason=reason, campaign=campaign, model=model)


def _chosen(revocations: Sequence[RevocationStatus], patients: Collection[str] | None) -> list[RevocationStatus]:
    """The revocations of `patients`: a list may name many, of whom one takes part again."""
    there = {s.pseudonym for s in revocations}
    if patients is None:
        if len(there) > 1:
            raise InputError(
                f"the receipt stands for {len(there)} patients",
                remedy="give those who take part again by --patient-file, or --everybody",
            )
        return [*revocations]

    missing = len(set(patients) - there)
    if missing or not patients:
        raise InputError(
            f"{missing} of {len(set(patients))} patients have no revocation under this receipt that can be taken back",
            remedy="check the list",
        )

    return [s for s in revocations if s.pseudonym in patients]


def everybody_of(writing: Writing, receipt: str) -> frozenset[str]:
    """Pseudonyms of all patients of a receipt whose revocation can be taken back."""
    revocations = standing_of(writing.session, RevocationRow.receipt == receipt)
    return frozenset(s.pseudonym for s in revocations if State.READMITTED in TRANSITIONS[s.state])


def _step(
    ledger: Ledger,
    writing: Writing,
    found: Sequence[RevocationStatus],
    state: State,
    *,
    actor: Actor,
    reason: str = "",
    campaign: int | None = None,
    model: str = "",
    signature: str = "",
) -> None:
    now = ledger.clock()
    events = []

    for s in found:
        remediation = check_transition(s.state, state, reason)
        number = s.campaign if campaign is None else campaign
        step = (s.number, s.steps + 1, now, state, actor.name, s.due, reason, remediation, number, model)
        events.append(Event(*step, actor.identity, signature))

    add_events(writing.session, events)
