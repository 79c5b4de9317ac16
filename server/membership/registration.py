"""How many studies each site has registered, with its signature: what it weighs in an average at most.

A number grows by a small drift without anybody; beyond that it is pending until an operator approves it. It may
always shrink. The drift is measured from the last approved number, so that many small steps are no way around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from common.errors import EvidenceError, RefusedError
from common.evidence.keys import PublicKey
from common.protocol.study_counts import read_counts
from server.database import EventRow, SiteRow, StudyCountRow
from server.settings import GateConfig

A_DAY = 24
"""Registrations of one site within 24 hours; an honest one has one after each import or purge."""
APPROVED = "approved"
REGISTERED = "registered"
PENDING = "pending"
REPLACED = "replaced"
_IN_FORCE = (APPROVED, REGISTERED)


def register(session: Session, site: SiteRow, data: bytes, gate: GateConfig, now: datetime) -> StudyCountRow:
    """Take down a statement; the row says whether it is in force. The same one again changes nothing.

    Raises:
        EvidenceError: not signed by the site, of another site, out of range, or older than what is known.
        RefusedError: too many within a day.
    """
    counts = read_counts(data, PublicKey.from_pem(site.signing_key.encode()))
    if counts.site != site.name:
        raise EvidenceError("the registered number of studies is another site's")
    rows = history(session, site.name)
    last = rows[-1] if rows else None

    if last is not None and counts.sequence <= last.sequence:
        if (counts.sequence, counts.train_studies) == (last.sequence, last.train_studies):
            return last
        raise EvidenceError("a number of studies is registered that is older than the last one")

    # Only new numbers count: a hospital whose connection breaks may repeat one as often as it likes.
    if sum(row.received > now - timedelta(days=1) for row in rows) >= A_DAY:
        raise RefusedError("too many registrations within a day")
    state, reason = _judged(rows, counts.train_studies, gate)
    for row in rows:
        # What waited for an approval was about a number that the site no longer says.
        if row.state == PENDING:
            row.state = REPLACED
            row.decided = now

    row = StudyCountRow(
        site=site.name,
        sequence=counts.sequence,
        train_studies=counts.train_studies,
        state=state,
        received=now,
        decided=None if state == PENDING else now,
        reason=reason,
        envelope=data.decode(),
    )
    session.add(row)
    detail = f"{counts.train_studies} studies, {state}: {reason}"
    session.add(EventRow(at=now, site=site.name, kind="counts", detail=detail))

    return row


def _judged(rows: Sequence[StudyCountRow], count: int, gate: GateConfig) -> tuple[str, str]:
    approved_counts = [row.train_studies for row in rows if row.state == APPROVED]
    if not approved_counts:
        return APPROVED, "the first registration"
    # The larger of the two: a share alone would hold up a small hospital for a handful of studies.
    most = approved_counts[-1] + max(int(approved_counts[-1] * gate.count_drift), gate.count_drift_studies)
    if count > most:
        return PENDING, f"{approved_counts[-1]} are approved, up to {most} need no approval"
    return REGISTERED, f"within the drift of {approved_counts[-1]} approved"


def approve(session: Session, name: str, studies: int, reason: str, now: datetime) -> StudyCountRow:
    """Let the number that waits into force, if it is the one that was checked: a site may register another meanwhile.

    Raises:
        RefusedError: none waits, or another one.
    """
    row = waiting(session, name)
    if row is None:
        raise RefusedError(f"no number of studies of {name} waits for an approval")
    if row.train_studies != studies:
        raise RefusedError(f"{name} registers {row.train_studies} studies, not {studies}: ask it again")
    row.state = APPROVED
    row.decided = now
    row.reason = reason or "approved by an operator"
    detail = f"{row.train_studies} studies, approved: {row.reason}"
    session.add(EventRow(at=now, site=name, kind="counts", detail=detail))

    return row


def history(session: Session, name: str) -> Sequence[StudyCountRow]:
    """All that a site ever registered, oldest first."""
    return session.scalars(select(StudyCountRow).where(StudyCountRow.site == name).order_by(StudyCountRow.id)).all()


def waiting(session: Session, name: str) -> StudyCountRow | None:
    """What an operator has to approve."""
    return next((row for row in reversed(history(session, name)) if row.state == PENDING), None)


def in_force(session: Session, by: datetime | None = None) -> dict[str, int]:
    """The number of each site that has registered one; with `by`, the one in force then."""
    newest = select(func.max(StudyCountRow.id)).where(StudyCountRow.state.in_(_IN_FORCE)).group_by(StudyCountRow.site)
    if by is not None:
        newest = newest.where(StudyCountRow.decided <= by)
    rows = session.scalars(select(StudyCountRow).where(StudyCountRow.id.in_(newest)))
    return {row.site: row.train_studies for row in rows}


def largest(session: Session) -> dict[str, int]:
    """The largest number that was ever in force, of each site: a site that deletes patients registers fewer."""
    most = select(StudyCountRow.site, func.max(StudyCountRow.train_studies)).where(StudyCountRow.state.in_(_IN_FORCE))
    return {site: int(count) for site, count in session.execute(most.group_by(StudyCountRow.site))}
