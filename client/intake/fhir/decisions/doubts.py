"""Withdrawals by FHIR whose patient nobody knows, but who may be one of the cohort; and what the sender is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from client.account.summary import summarised
from client.revocations.ledger import Ledger, Writing
from client.revocations.revocation import Request, alike_receipt, nobody_asked
from client.revocations.rows.ledger_rows import standing_of
from client.revocations.rows.ledger_tables import RevocationRow
from client.revocations.tombstones.tombstone import stop


@dataclass(frozen=True, slots=True)
class Counts:
    """Patients of a withdrawal: known here, of nobody here, or looking like one here without being the same."""

    known: int = 0
    unknown: int = 0
    doubtful: int = 0


def hold_alike(ledger: Ledger, writing: Writing, request: Request, key: str, patients: Collection[str]) -> None:
    """Hold a name that the patient map lacks, and those `patients` of the cohort whose names there look like it.

    The same ones are held once, also when a longer map adds others.
    """
    pseudonym = ledger.pseudonyms.of(key)
    receipts = (request.receipt, alike_receipt(request.receipt, pseudonym))
    pseudonyms_on_hold = {
        standing.pseudonym for standing in standing_of(writing.session, RevocationRow.receipt.in_(receipts))
    }
    others = {patient for patient in patients if ledger.pseudonyms.of(patient) not in pseudonyms_on_hold}
    if not others:
        return

    if pseudonym not in pseudonyms_on_hold:
        ledger.insert(writing, request, {pseudonym: None}, {pseudonym})
        writing.stops.append(stop(request, pseudonym))
        ledger.seal(writing.session, {pseudonym: key})
    ledger.hold_alike(writing, request, pseudonym, others)


def counts_of_all(ledger: Ledger) -> Counts:
    """Of all withdrawals that came by FHIR, without those whose patient the map does not name yet."""
    revocations = summarised(s for s in ledger.standing() if s.source.kind == "fhir" and not nobody_asked(s.receipt))
    known_count = sum(one.known for one in revocations)
    doubtful = sum(one.doubtful for one in revocations)

    return Counts(known_count, sum(one.patients for one in revocations) - known_count - doubtful, doubtful)


def counts_of(ledger: Ledger, receipt: str) -> Counts:
    """Of one withdrawal; before the patient map names its patient, that is an unknown one."""
    revocations = summarised(ledger.standing(receipt))
    if not revocations:
        return Counts(unknown=1)
    (summary,) = revocations

    return Counts(summary.known, summary.patients - summary.known - summary.doubtful, summary.doubtful)
