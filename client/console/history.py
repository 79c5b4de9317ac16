"""A receipt's steps and its campaign's, as a page shows them: each step once, however many patients took it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from client.database import ParticipationRow
from client.revocations.exemptions import Exempted, exemptions_of
from client.revocations.revocation import State
from client.revocations.rows.ledger_tables import AccessRow, RevocationEventRow, RevocationRow
from common.platform.actor import in_words

MOST_STEPS = 200


@dataclass(frozen=True, slots=True)
class Step:
    """A step that some patients of a receipt took at the same moment."""

    at: datetime
    state: State
    patients: int
    by: str
    identity: str
    reason: str
    due: datetime
    campaign: int | None
    is_signed: bool


@dataclass(frozen=True, slots=True)
class CampaignStep:
    """A use of patients' data, or the opening or closing of an access, in a campaign."""

    at: datetime
    what: str
    step: str


def steps_of(session: Session, receipt: str) -> list[Step]:
    """The steps of a receipt, oldest first, at most `MOST_STEPS`."""
    event = RevocationEventRow
    same = (event.at, event.state, event.actor, event.identity, event.reason, event.due, event.campaign)
    query = (
        select(*same, func.count().label("patients"), func.max(event.signature).label("signature"))
        .join(RevocationRow, RevocationRow.id == event.revocation)
        .where(RevocationRow.receipt == receipt)
        .group_by(*same)
        .order_by(func.min(event.id))
        .limit(MOST_STEPS)
    )
    return [
        Step(
            at=row.at,
            state=State(row.state),
            patients=row.patients,
            by=row.actor,
            identity="" if row.actor == "fedforget" and not row.identity else in_words(row.identity),
            reason=row.reason,
            due=row.due,
            campaign=row.campaign,
            is_signed=bool(row.signature),
        )
        for row in session.execute(query)
    ]


def exceptions_of(session: Session, receipt: str) -> list[Exempted]:
    """Decisions by an exception of GDPR Art. 17(3), each once, at most `MOST_STEPS`."""
    query = select(RevocationRow.id).where(RevocationRow.receipt == receipt).order_by(RevocationRow.id)
    decisions = exemptions_of(session, session.scalars(query.limit(MOST_STEPS)).all())
    return list(dict.fromkeys(one for some in decisions.values() for one in some))


def campaign_steps(session: Session, campaign: int) -> list[CampaignStep]:
    """What has happened here in a campaign, oldest first."""
    # From the newest, so that the limit cuts off the oldest; sorted by time below.
    uses = session.execute(
        select(ParticipationRow.at, ParticipationRow.use, ParticipationRow.step)
        .where(ParticipationRow.campaign == campaign, ParticipationRow.use != "cohort")
        .order_by(ParticipationRow.id.desc())
        .limit(MOST_STEPS)
    )
    accesses = session.execute(select(AccessRow.at, AccessRow.what).where(AccessRow.campaign == campaign))
    steps = [CampaignStep(row.at, row.use, row.step) for row in uses]
    steps += [CampaignStep(row.at, f"access-{row.what}", "") for row in accesses]

    return sorted(steps, key=lambda step: step.at)
