"""Steps of revocations within a transaction: which ones a receipt has, what changes, and what a lift uncovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from client.revocations.ledger import SOFTWARE, Ledger, Writing
from client.revocations.revocation import (
    Event,
    RevocationStatus,
    State,
    alike_receipt,
    is_alike,
)
from client.revocations.rows.covered import uncovered
from client.revocations.rows.ledger_rows import add_events, chunks, standing_of
from client.revocations.rows.ledger_tables import RevocationRow
from client.revocations.tombstones.tombstone import Tombstone, stop
from client.revocations.workflow.transitions import check_transition
from common.errors import InputError, RefusedError
from common.platform.actor import Actor

SOFTWARE_ACTOR = Actor(SOFTWARE)
"""Of steps that no person takes."""


def of_receipt(ledger: Ledger, writing: Writing, receipt: str, *states: State) -> list[RevocationStatus]:
    """The revocations of a receipt that are in one of these states.

    Raises:
        InputError: no such receipt.
        RefusedError: none of them is in such a state.
    """
    revocations = standing_of(writing.session, RevocationRow.receipt == receipt)
    if not revocations:
        raise InputError("no such receipt", where=str(ledger.folder.root), remedy="fedforget-site revocations list")
    some = [s for s in revocations if s.state in states]
    if not some:
        state_text = states[0] if len(states) == 1 else "open"
        raise RefusedError(f"no revocation under this receipt is {state_text}")

    return some


def decided(writing: Writing, revocations: Sequence[RevocationStatus]) -> list[RevocationStatus]:
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


def take_step(
    ledger: Ledger,
    writing: Writing,
    revocations: Sequence[RevocationStatus],
    state: State,
    *,
    actor: Actor,
    reason: str = "",
    campaign: int | None = None,
    model: str = "",
    signature: str = "",
) -> None:
    """Add a step to each of these revocations.

    Raises:
        RefusedError: one of them may not take it, or it needs a reason.
    """
    now = ledger.clock()
    events = []

    for s in revocations:
        remediation = check_transition(s.state, state, reason)
        number = s.campaign if campaign is None else campaign
        step = (s.number, s.steps + 1, now, state, actor.name, s.due, reason, remediation, number, model)
        events.append(Event(*step, actor.identity, signature))

    add_events(writing.session, events)


def lift(ledger: Ledger, writing: Writing, revocations: Sequence[RevocationStatus]) -> None:
    """Lift what was refused or readmitted, and record the requests that it had covered.

    Args:
        revocations: as they were before.
    """
    subsets = ledger.subsets()
    forgotten = {s.pseudonym: s for s in revocations if s.state in (State.UNLEARNED, State.RETRAINED)}

    # In the same transaction: between the lift and what it uncovers, use is never resumed.
    for request, pseudonyms in uncovered(writing.session, {s.pseudonym for s in revocations}):
        ledger.insert(writing, request, {pseudonym: subsets.get(pseudonym) for pseudonym in pseudonyms})
        writing.stops += [stop(request, pseudonym) for pseudonym in pseudonyms]
        # A model that has forgotten the patient by the lifted revocation need not forget them again.
        for standing in standing_of(writing.session, RevocationRow.receipt == request.receipt):
            before = forgotten.get(standing.pseudonym)
            if before is not None and standing.pseudonym in pseudonyms:
                _settle_like(ledger, writing, standing, before)

    writing.lifts += [Tombstone("lift", s.pseudonym, s.receipt, s.received) for s in revocations]


def _settle_like(ledger: Ledger, writing: Writing, standing: RevocationStatus, before: RevocationStatus) -> None:
    """Settle a revocation of which the model has already forgotten the patient: no campaign is needed again."""
    # From here every way to a settled state leads through `pending`.
    if standing.state is State.AWAITING_APPROVAL:
        take_step(ledger, writing, [standing], State.PENDING, actor=SOFTWARE_ACTOR)
        standing = replace(standing, state=State.PENDING, steps=standing.steps + 1)
    if standing.state is State.PENDING:
        reason = "the model had already forgotten the patient"
        campaign = before.campaign
        model = before.model
        take_step(
            ledger,
            writing,
            [standing],
            before.state,
            actor=SOFTWARE_ACTOR,
            reason=reason,
            campaign=campaign,
            model=model,
        )
