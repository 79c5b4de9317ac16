"""Other names under which a consent gives its patient, kept until the patient map or the cohort knows one of them.

A consent may give a reference and identifiers. Where none of them is known yet it lies under the first; when another
becomes known, all that lay there moves to it.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from client.database import PatientRow
from client.intake.fhir.store.tables import ConsentRow, DecisionRow, OtherKeyRow
from client.revocations.tombstones.pseudonyms import Pseudonyms


def add_other_keys(session: Session, pseudonyms: Pseudonyms, patient: str, others: Collection[str]) -> None:
    """Remember other names of a patient, by pseudonym."""
    for name in others:
        other = pseudonyms.of(name)
        if other != patient and session.get(OtherKeyRow, (patient, other)) is None:
            session.add(OtherKeyRow(patient=patient, other=other, sealed=pseudonyms.seal(name)))


def move_to_known(session: Session, known: Collection[str]) -> None:
    """Move consents from names that nobody knows to one of their other names that is `known` now, by pseudonym."""
    rows = session.scalars(select(OtherKeyRow).order_by(OtherKeyRow.patient, OtherKeyRow.other)).all()

    for row in rows:
        if row.other not in known or row.patient in known:
            continue
        decision = session.get(DecisionRow, row.patient)
        if decision is not None and decision.recorded is None:
            session.delete(decision)
        if session.get(PatientRow, row.other) is None:
            session.add(PatientRow(patient=row.other, sealed=row.sealed))
        moved = update(ConsentRow).where(ConsentRow.patient == row.patient)
        session.execute(moved.values(patient=row.other, weighed=None))
        session.execute(delete(OtherKeyRow).where(OtherKeyRow.patient == row.patient))
        session.flush()
