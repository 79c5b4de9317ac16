"""What a person decides about a receipt: approval, extension, refusal, hold and release."""

from __future__ import annotations

from datetime import datetime

from client.revocations.deadline import check_extension
from client.revocations.exemptions import Exemption, check_whole, record
from client.revocations.ledger import SOFTWARE, Ledger
from client.revocations.revocation import (
    OPEN,
    Event,
    State,
)
from client.revocations.rows.ledger_rows import add_events, history_of
from client.revocations.workflow.steps import decided, lift, of_receipt, take_step
from common.platform.actor import Actor, check_second


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
        revocations = of_receipt(ledger, writing, receipt, State.AWAITING_APPROVAL)
        decisions = {
            step.revocation: Actor("" if step.actor == SOFTWARE else step.actor, step.identity)
            for step in history_of(writing.session, receipt)
            if step.state is State.AWAITING_APPROVAL
        }
        for standing in revocations:
            recorder = Actor(standing.steward, standing.identity)
            check_second(recorder if any(recorder) else decisions[standing.number], actor, ledger.shared_accounts)

        take_step(ledger, writing, revocations, State.PENDING, actor=actor, reason=reason, signature=signature)

    return len(revocations)


def extend(ledger: Ledger, receipt: str, due: datetime, actor: Actor, reason: str) -> int:
    """Extend the due date of a receipt; the patient is told the reason. Returns the number of revocations.

    Raises:
        InputError: no such receipt, no reason, or not later than the present date.
        RefusedError: none of them is open, or the law does not allow it: see `check_extension`.
    """
    with ledger.writing() as writing:
        revocations = of_receipt(ledger, writing, receipt, *OPEN)
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
        waiting = of_receipt(ledger, writing, receipt, *OPEN)
        # Of a receipt with patients on hold, only these are decided about: the others' revocations are not in doubt.
        holds = [s for s in waiting if s.state is State.ON_HOLD]
        revocations = decided(writing, holds or waiting)
        if exemption is not None:
            check_whole(revocations)
            record(writing.session, exemption, revocations, actor, reason, ledger.clock())
        take_step(ledger, writing, revocations, State.REFUSED, actor=actor, reason=reason)
        lift(ledger, writing, revocations)

    return len(revocations)


def hold(ledger: Ledger, receipt: str, actor: Actor, reason: str) -> int:
    """Keep campaigns from taking up a receipt until a steward releases it; use stays stopped.

    Raises:
        InputError: no such receipt.
        RefusedError: no reason, none of them is open, or a campaign has taken it up.
    """
    with ledger.writing() as writing:
        revocations = decided(writing, of_receipt(ledger, writing, receipt, *OPEN))
        take_step(ledger, writing, revocations, State.ON_HOLD, actor=actor, reason=reason)

    return len(revocations)


def release(ledger: Ledger, receipt: str, actor: Actor, reason: str = "") -> int:
    """Release a receipt from hold, as if it were received now; its dates stay.

    Raises:
        InputError: no such receipt.
        RefusedError: none of them is on hold.
    """
    with ledger.writing() as writing:
        revocations = decided(writing, of_receipt(ledger, writing, receipt, State.ON_HOLD))
        subsets = ledger.subsets()
        # One by one: the next state depends on the patient's set.
        for standing in revocations:
            after = ledger.classified(subsets.get(standing.pseudonym), standing.kind)
            take_step(ledger, writing, [standing], after, actor=actor, reason=reason)

    return len(revocations)
