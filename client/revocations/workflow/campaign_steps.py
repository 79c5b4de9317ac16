"""What a campaign does to revocations: it takes them up, returns them to the queue, or settles them."""

from __future__ import annotations

from collections.abc import Collection

from client.revocations.ledger import Ledger, Writing
from client.revocations.revocation import (
    TO_FORGET,
    State,
)
from client.revocations.rows.ledger_rows import of_patients, standing_of
from client.revocations.rows.ledger_tables import RevocationEventRow
from client.revocations.workflow.steps import SOFTWARE_ACTOR, take_step
from common.platform.actor import Actor


def take_up(ledger: Ledger, writing: Writing, campaign: int, pseudonyms: Collection[str]) -> None:
    """Record that a campaign has begun to make the model forget these patients; escalates an earlier campaign first."""
    stale = [
        s for s in of_patients(writing.session, pseudonyms) if s.state is State.IN_CAMPAIGN and s.campaign != campaign
    ]
    reason = "the campaign ended without a version that has forgotten"
    take_step(ledger, writing, stale, State.ESCALATED, actor=SOFTWARE_ACTOR, reason=reason)
    ready = [s for s in of_patients(writing.session, pseudonyms) if s.state in TO_FORGET - {State.IN_CAMPAIGN}]
    take_step(ledger, writing, ready, State.IN_CAMPAIGN, actor=SOFTWARE_ACTOR, campaign=campaign)


def escalate(ledger: Ledger, campaign: int, reason: str, actor: Actor = SOFTWARE_ACTOR) -> int:
    """Return the revocations of a rejected or inconclusive campaign to the queue; returns their number.

    Raises:
        RefusedError: no reason.
    """
    with ledger.writing() as writing:
        of_campaign = RevocationEventRow.campaign == campaign
        revocations = [s for s in standing_of(writing.session, of_campaign) if s.state is State.IN_CAMPAIGN]
        take_step(ledger, writing, revocations, State.ESCALATED, actor=actor, reason=reason)

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
        take_step(
            ledger, writing, revocations, state, actor=SOFTWARE_ACTOR, campaign=campaign, model=model, reason=reason
        )

    return len({s.pseudonym for s in revocations})
