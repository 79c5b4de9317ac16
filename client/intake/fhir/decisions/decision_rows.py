"""The row of what a patient's consents come to: the newest answer, and the first withdrawal that was seen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from client.consent.rule import Deny, Permit
from client.intake.fhir.decisions.unclear import LONGEST_REASON
from client.intake.fhir.decisions.weighing import KnownVersion, Weighed
from client.intake.fhir.store.consents import AnswerName
from client.intake.fhir.store.tables import DecisionRow


def brought_up_to_date(
    session: Session, patient: str, versions: Sequence[KnownVersion], weighing: Weighed, now: datetime
) -> DecisionRow:
    """The decision's row; the first withdrawal that was seen stays in it."""
    answer: AnswerName = "permit" if isinstance(weighing.answer, Permit) else "unknown"
    if isinstance(weighing.answer, Deny):
        answer = "deny"
    reason = "" if isinstance(weighing.answer, Permit) else weighing.answer.reason[:LONGEST_REASON]
    last = max(versions, key=lambda version: version.moment)
    row = session.get(DecisionRow, patient)
    if row is None:
        row = DecisionRow(patient=patient, answer="", receipt=None, received=None, recorded=None)
        session.add(row)

    # `at` tells since when the answer is this one.
    if (row.answer, row.reason, row.resource, row.version) != (answer, reason, last.resource, last.number):
        row.answer = answer
        row.reason = reason
        row.at = now
        row.resource = last.resource
        row.version = last.number

    if weighing.withdrawal is not None and row.receipt is None:
        row.receipt = weighing.withdrawal.receipt
        row.received = weighing.withdrawal.known_since

    return row
