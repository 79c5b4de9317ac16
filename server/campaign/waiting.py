"""What the coordinator's record says of sites whose revocations wait: what the policy decides by, and people see."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.campaign.policy import SiteState
from server.campaign.tries import backoff
from server.database import CampaignRow, EventRow, SiteRow, VersionRow
from server.membership.registration import waiting as waiting_count
from server.registry.manifest import Manifest
from server.rounds.states import CampaignState
from server.settings import PolicyConfig

FORGETTING = ("unlearning", "retraining")
"""Kinds of campaigns by which patients are forgotten."""
_UNSUCCESSFUL = (CampaignState.FAILED, CampaignState.REJECTED, CampaignState.INCONCLUSIVE)
_LONGEST = timedelta(days=1)


def site_states(session: Session, policy: PolicyConfig) -> list[SiteState]:
    """Every enrolled site that is not revoked, by name."""
    rows = session.scalars(select(SiteRow).where(SiteRow.state != "revoked").order_by(SiteRow.name)).all()
    ended = session.scalars(
        select(CampaignRow)
        .where(CampaignRow.kind.in_(FORGETTING), CampaignRow.open.is_(None))
        .order_by(CampaignRow.number.desc())
    ).all()
    seen_by_model = _in_the_lineage(session)
    states = []

    for row in rows:
        failed = _failed_in_a_row(row.name, ended)
        free_at = (
            failed[0].changed + backoff(len(failed), timedelta(minutes=policy.retry_minutes), _LONGEST)
            if failed
            else None
        )
        states.append(
            SiteState(
                row.name,
                active=row.state == "active",
                pending=row.pending,
                waiting_since=row.announced,
                first_due=row.first_due,
                failures=len(failed),
                free_at=max((at for at in (free_at, row.aside_until) if at is not None), default=None),
                aside_until=row.aside_until,
                absent=seen_by_model is not None and row.name not in seen_by_model,
                last_failure=f"campaign {failed[0].number} is {failed[0].state}: {failed[0].reason}" if failed else "",
            )
        )

    return states


def needs(session: Session, policy: PolicyConfig) -> dict[str, list[str]]:
    """What a person has to see to, by site."""
    found: dict[str, list[str]] = {}

    for site in site_states(session, policy):
        wanted = []
        if site.pending and site.needs_person(policy):
            wanted.append(f"{site.failures} campaigns in a row forgot nobody here; {site.last_failure}")
        elif site.pending and site.failures:
            wanted.append(f"the last campaign forgot nobody here; {site.last_failure}")

        if site.aside_until is not None:
            wanted.append(f"does not unlearn, set aside until {site.aside_until:%Y-%m-%d %H:%M} UTC")
        count = waiting_count(session, site.name)
        if count is not None:
            wanted.append(
                f"registers {count.train_studies} studies: site approve-counts {site.name} {count.train_studies}"
            )
        if wanted:
            found[site.name] = wanted

    return found


def earliest_due(session: Session, policy: PolicyConfig) -> datetime | None:
    """Of all revocations that wait anywhere."""
    waiting = [site for site in site_states(session, policy) if site.pending]
    return min((due for site in waiting if (due := site.due(policy)) is not None), default=None)


def report_escalated(session: Session, sites: Sequence[SiteState], policy: PolicyConfig, now: datetime) -> None:
    """Write down, once for each campaign that failed, which sites' campaigns need a person from here on."""
    for site in sites:
        if not site.pending or not site.needs_person(policy):
            continue
        detail = f"needs a person after {site.failures} campaigns without a version; {site.last_failure}"
        known = select(EventRow.id).where(EventRow.site == site.name, EventRow.kind == "escalated")
        if session.scalars(known.where(EventRow.detail == detail)).first() is None:
            session.add(EventRow(at=now, site=site.name, kind="escalated", detail=detail))


def _failed_in_a_row(name: str, ended: Sequence[CampaignRow]) -> list[CampaignRow]:
    """The newest campaigns for a site's revocations, as far back as none of them was published."""
    failed = []

    for row in ended:
        if row.sites is None or name not in row.sites:
            # A retraining forgets whoever waits, also where it was not planned for them.
            if row.kind == "retraining" and row.state == CampaignState.PUBLISHED:
                break
            continue

        if row.state == CampaignState.PUBLISHED:
            break
        if row.state in _UNSUCCESSFUL:
            failed.append(row)

    return failed


def _in_the_lineage(session: Session) -> frozenset[str] | None:
    """Sites that the active version learned from, itself or by its parents; None without an active version."""
    row = session.scalars(select(VersionRow).where(VersionRow.state == "active")).first()
    if row is None:
        return None
    sites: set[str] = set()
    while row is not None:
        sites |= set(Manifest.model_validate(row.manifest).provenance.sites)
        row = session.get(VersionRow, row.parent) if row.parent else None

    return frozenset(sites)
