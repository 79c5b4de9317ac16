"""Rules about rows of the store of consents: their age, and what a row waits for."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from client.consent.versions import without_meta
from client.intake.fhir.resources import IncomingConsent
from client.intake.fhir.store.tables import ConsentRow, DecisionRow


def written_again(session: Session, incoming: IncomingConsent, patient: str) -> ConsentRow | None:
    """The version that `incoming` repeats with another `meta`, as a server writes it after a move or with a new tag."""
    if not incoming.version:
        return None
    rows = session.scalars(
        select(ConsentRow).where(
            ConsentRow.resource == incoming.resource,
            ConsentRow.version == incoming.version,
            ConsentRow.patient == patient,
        )
    )
    return next((row for row in rows if without_meta(row.document) == without_meta(incoming.document)), None)


def age_of(row: ConsentRow) -> tuple[bool, int, datetime]:
    """Ascending with the version; ones without a number come after those that they were made from."""
    is_numbered = row.version.isdecimal()
    return (not is_numbered, int(row.version) if is_numbered else 0, moment_of(row))


def moment_of(row: ConsentRow) -> datetime:
    """When the version was made; its arrival where it does not say."""
    return row.updated or row.received


def waits_for_steward(row: DecisionRow) -> bool:
    """Whether a withdrawal is on record that no patient could be found for."""
    return row.receipt is not None and row.recorded is None


def why_unclear(row: DecisionRow) -> str:
    """Why a decision waits for the steward, in words."""
    if waits_for_steward(row):
        return "withdrawn, and it names nobody who is known"
    return "consented again after a withdrawal: stays excluded" if row.answer == "permit" else row.reason
