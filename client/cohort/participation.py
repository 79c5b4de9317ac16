"""The site's record of which patients were used in which step of a campaign, and of the weights before it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.orm import Session

from client.database import MemberRow, ParticipationRow
from common.platform.sql import transaction

Use = Literal["cohort", "train", "unlearn", "evaluate"]
"""`cohort` is not a use: it fixes the patients whom a campaign must forget at its first request."""


@dataclass(frozen=True, slots=True)
class Participation:
    """Patients were used in a step.

    Attributes:
        campaign: its number; 0 outside a campaign.
        step: the coordinator's name for the step.
        use: what the patients were used for.
        weights: digest of the received weights.
        at: when the use began.
    """

    campaign: int
    step: str
    use: Use
    weights: str
    at: datetime


def record(engine: Engine, patients: Collection[str], entry: Participation) -> None:
    """Record a use before it begins: an interrupted use has happened too."""
    with transaction(engine) as session:
        _add(session, patients, entry)


def versions_that_saw(engine: Engine, patients: Collection[str]) -> tuple[Participation, ...]:
    """Every step in which any of these patients changed the weights, earliest first.

    Such a step started from `weights`. Every model that resulted from it or a later step may remember the patients.
    """
    with transaction(engine) as session:
        cohorts: set[str] = set()
        for some in _chunks(patients):
            cohorts |= set(session.scalars(select(MemberRow.cohort).distinct().where(MemberRow.patient.in_(some))))
        rows: list[ParticipationRow] = []
        for some in _chunks(cohorts):
            used = ParticipationRow.use.in_(("train", "unlearn"))
            rows += session.scalars(select(ParticipationRow).where(ParticipationRow.cohort.in_(some), used))

        return tuple(_entry(row) for row in sorted(rows, key=lambda row: row.id))


def members(engine: Engine, campaign: int, use: Use, step: str | None = None) -> frozenset[str]:
    """All patients of such a use in a campaign."""
    with transaction(engine) as session:
        query = select(ParticipationRow.cohort).distinct()
        query = query.where(ParticipationRow.campaign == campaign, ParticipationRow.use == use)
        if step is not None:
            query = query.where(ParticipationRow.step == step)
        return frozenset(session.scalars(select(MemberRow.patient).where(MemberRow.cohort.in_(query))))


def last_uses(engine: Engine, campaigns: Collection[int]) -> dict[int, datetime]:
    """When each campaign last began a use, if it did."""
    with transaction(engine) as session:
        query = select(ParticipationRow.campaign, func.max(ParticipationRow.at).label("last"))
        query = query.where(ParticipationRow.campaign.in_(campaigns)).group_by(ParticipationRow.campaign)
        return {row.campaign: row.last for row in session.execute(query)}


def first_use(session: Session, campaign: int) -> datetime | None:
    """When a campaign was first seen here, or None."""
    return session.scalar(select(func.min(ParticipationRow.at)).where(ParticipationRow.campaign == campaign))


def fixed_cohort(engine: Engine, campaign: int, patients: Collection[str], at: datetime) -> frozenset[str]:
    """The patients whom a campaign must forget here: `patients` at the first call, unchanged afterwards."""
    with transaction(engine) as session:
        return fixed_cohort_in(session, campaign, patients, at)


def fixed_cohort_in(session: Session, campaign: int, patients: Collection[str], at: datetime) -> frozenset[str]:
    """`fixed_cohort` within a transaction."""
    of_campaign = select(ParticipationRow.cohort).where(
        ParticipationRow.campaign == campaign, ParticipationRow.use == "cohort"
    )
    cohort = session.scalar(of_campaign)
    if cohort is None:
        _add(session, patients, Participation(campaign, "", "cohort", "", at))
        return frozenset(patients)

    return frozenset(session.scalars(select(MemberRow.patient).where(MemberRow.cohort == cohort)))


def _add(session: Session, patients: Collection[str], entry: Participation) -> None:
    cohort = _digest(patients)
    # A cohort is stored once, however many steps use it.
    if patients and session.scalar(select(MemberRow.cohort).where(MemberRow.cohort == cohort).limit(1)) is None:
        session.execute(insert(MemberRow), [{"cohort": cohort, "patient": patient} for patient in sorted(patients)])
    session.add(
        ParticipationRow(
            campaign=entry.campaign,
            step=entry.step,
            use=entry.use,
            weights=entry.weights,
            cohort=cohort,
            at=entry.at,
        )
    )


def _entry(row: ParticipationRow) -> Participation:
    return Participation(row.campaign, row.step, row.use, row.weights, row.at)  # type: ignore[arg-type]  # as written


def _digest(patients: Collection[str]) -> str:
    """SHA-256 over the lengths and ids in order, so that no two cohorts share a digest."""
    total = hashlib.sha256()
    for patient in sorted(set(patients)):
        name_bytes = patient.encode()
        total.update(len(name_bytes).to_bytes(4, "big") + name_bytes)

    return total.hexdigest()


def _chunks(values: Collection[str]) -> Iterator[Sequence[str]]:
    """Split values into chunks that fit in a statement of SQLite."""
    values_in_order = sorted(values)
    return (values_in_order[start : start + 500] for start in range(0, len(values_in_order), 500))
