"""Hospitals that do not answer or do not sign: nobody's attestation waits for them for ever, and it says so."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.database import AttestationRow, EventRow, PhaseRow, SiteRow

PATIENCE = timedelta(days=14)
"""From the publication to an attestation that is written without a hospital's answer, by default."""
SUSPENDED_PATIENCE = timedelta(days=1)
"""The same for a hospital that is suspended or revoked."""
UNANSWERED = "not-answered"
UNSIGNED = "not-signed"
"""Kinds of events, one for each hospital and attestation."""


def asked_since(session: Session, row: AttestationRow) -> datetime | None:
    """When the version was published, since when its hospitals are asked."""
    publication_time = select(PhaseRow.finished).where(PhaseRow.campaign == row.campaign, PhaseRow.step == "published")
    return session.scalars(publication_time).first()


def unanswered(row: AttestationRow) -> tuple[str, ...]:
    """Hospitals that have not said which revocations they answer."""
    return tuple(name for name, digests in sorted(row.sites.items()) if digests is None)


def waits_for(session: Session, row: AttestationRow, now: datetime, patience: timedelta) -> tuple[str, ...]:
    """Of those who have not answered, the ones whose time is not over."""
    since = asked_since(session, row)
    if since is None:
        return unanswered(row)
    active = set(session.scalars(select(SiteRow.name).where(SiteRow.state == "active")))

    def ends(name: str) -> datetime:
        return since + (patience if name in active else min(patience, SUSPENDED_PATIENCE))

    return tuple(name for name in unanswered(row) if now < ends(name))


def report_unanswered(session: Session, row: AttestationRow, now: datetime) -> None:
    """Write down whose answer the attestation is written without."""
    for name in unanswered(row):
        detail = f"{row.version}: the attestation is written without its answer; none of its patients is in it"
        session.add(EventRow(at=now, campaign=row.campaign, site=name, kind=UNANSWERED, detail=detail))


def report_unsigned(session: Session, row: AttestationRow, sites: tuple[str, ...], now: datetime) -> None:
    """Write down, once, who has not signed within its time. The attestation stands without the signature."""
    if row.issued is None:
        return
    noted_sites = select(EventRow.site).where(EventRow.campaign == row.campaign, EventRow.kind == UNSIGNED)
    sites_told = set(session.scalars(noted_sites))

    for name in sites:
        if name not in sites_told:
            detail = f"{row.version}: not signed since {row.issued:%Y-%m-%d}"
            session.add(EventRow(at=now, campaign=row.campaign, site=name, kind=UNSIGNED, detail=detail))


def limits_of(session: Session, row: AttestationRow) -> tuple[str, ...]:
    """What the statement says of hospitals that have not answered."""
    since = asked_since(session, row)
    if since is None:
        return ()

    return tuple(
        f"{name} has not said since {since:%Y-%m-%d} which revocations it answers: none of its patients is attested."
        for name in unanswered(row)
    )
