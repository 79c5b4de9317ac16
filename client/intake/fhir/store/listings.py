"""How consents came here, which ones the FHIR server has listed, and which of these it lists no more."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.orm import Session

from client.intake.fhir.store.tables import ConsentRow, ListingRow
from client.revocations.rows.ledger_rows import chunks
from common.platform.sql import transaction

REASON = "the FHIR server lists this consent no more: was it deleted, or withdrawn?"


def interactions(engine: Engine) -> dict[str, str]:
    """By receipt, how the versions came that other systems handed in."""
    with transaction(engine) as session:
        rows = session.execute(select(ConsentRow.receipt, ConsentRow.interaction).where(ConsentRow.interaction != ""))
        return {receipt: str(interaction) for receipt, interaction in rows}


def note_listed(engine: Engine, resources: Collection[str]) -> None:
    """Note what a server has listed; what is there again is gone no more."""
    with transaction(engine) as session:
        for some in chunks(resources):
            resources_known = set(session.scalars(select(ListingRow.resource).where(ListingRow.resource.in_(some))))
            new = [{"resource": resource, "gone": None} for resource in some if resource not in resources_known]
            if new:
                session.execute(insert(ListingRow), new)
            is_back = ListingRow.resource.in_(resources_known) & ListingRow.gone.is_not(None)
            session.execute(update(ListingRow).where(is_back).values(gone=None))


def note_gone(engine: Engine, resources: Collection[str], at: datetime) -> None:
    """Note what a server that has just listed all its `resources` listed before.

    What was only pushed is not missed: it may come from a system that is not the server.
    """
    with transaction(engine) as session:
        before = session.scalars(select(ListingRow.resource).where(ListingRow.gone.is_(None)))
        for some in chunks([resource for resource in before if resource not in resources]):
            session.execute(update(ListingRow).where(ListingRow.resource.in_(some)).values(gone=at))


def gone_since(session: Session) -> list[tuple[str, str, datetime]]:
    """Consents that are listed no more, their patients' pseudonyms, and since when; the earliest first."""
    rows = session.execute(
        select(ListingRow.resource, ConsentRow.patient, ListingRow.gone)
        .join(ConsentRow, ConsentRow.resource == ListingRow.resource)
        .where(ListingRow.gone.is_not(None))
        .distinct()
        .order_by(ListingRow.gone, ListingRow.resource)
    )
    return [(resource, patient, gone_at) for resource, patient, gone_at in rows if gone_at is not None]
