"""Other names under which a consent gives its patient: a request to revoke it may use any of them.

A consent may give a reference and identifiers. Where none of them is known yet it lies under the first; when another
becomes known, all that lay there moves to it.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from client.database import PatientRow
from client.intake.fhir.store.tables import ConsentRow, DecisionRow, OtherKeyRow
from client.revocations.rows.ledger_rows import chunks
from client.revocations.tombstones.pseudonyms import Pseudonyms


def add_other_keys(session: Session, pseudonyms: Pseudonyms, patient: str, others: Collection[str]) -> None:
    """Remember other names of a patient, by pseudonym."""
    for name in others:
        other = pseudonyms.of(name)
        if other != patient and session.get(OtherKeyRow, (patient, other)) is None:
            session.add(OtherKeyRow(patient=patient, other=other, sealed=pseudonyms.seal(name)))


def move_to_known(session: Session, known: Collection[str]) -> None:
    """Move consents from names that nobody knows to one of their other names that is `known` now, by pseudonym.

    The names that they had before stay other names of the patient.
    """
    rows = [
        row for some in chunks(known) for row in session.scalars(select(OtherKeyRow).where(OtherKeyRow.other.in_(some)))
    ]
    patients_moved = set[str]()

    for patient, other, sealed_key in sorted((row.patient, row.other, row.sealed) for row in rows):
        if patient in known or patient in patients_moved:
            continue
        patients_moved.add(patient)
        decision = session.get(DecisionRow, patient)
        # A decision that became a revocation stays, as it says which version withdrew.
        if decision is not None and decision.recorded is None:
            session.delete(decision)
        if session.get(PatientRow, other) is None:
            session.add(PatientRow(patient=other, sealed=sealed_key))
        versions = update(ConsentRow).where(ConsentRow.patient == patient)
        # To be weighed again, together with what lies under the known name already.
        session.execute(versions.values(patient=other, weighed=None))
        _rename(session, patient, other)
        session.flush()


def _rename(session: Session, patient: str, known: str) -> None:
    """Gather all other names of `patient`, and their first one, under the name that is known."""
    before = session.get(PatientRow, patient)
    names = {} if before is None else {patient: before.sealed}
    rows = session.scalars(select(OtherKeyRow).where(OtherKeyRow.patient == patient)).all()
    names |= {row.other: row.sealed for row in rows if row.other != known}

    for row in rows:
        session.delete(row)
    for other, sealed_key in names.items():
        if session.get(OtherKeyRow, (known, other)) is None:
            session.add(OtherKeyRow(patient=known, other=other, sealed=sealed_key))
