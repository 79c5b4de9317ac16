"""How many consents say nothing of the use that is asked for, by what they are about instead: numbers, of nobody."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from client.intake.fhir.store.tables import SilenceRow
from common.platform.sql import transaction


def set_silent(session: Session, patient: str, silent: Mapping[str, int]) -> Mapping[str, int]:
    """Replace the numbers of one patient; returns by how much each has grown."""
    rows = session.scalars(select(SilenceRow).where(SilenceRow.patient == patient)).all()
    before = {row.reason: row.number for row in rows}
    if before != dict(silent):
        session.execute(delete(SilenceRow).where(SilenceRow.patient == patient))
        session.add_all(SilenceRow(patient=patient, reason=reason, number=n) for reason, n in silent.items())

    return {reason: n - before.get(reason, 0) for reason, n in silent.items() if n > before.get(reason, 0)}


def count_silent(engine: Engine) -> dict[str, int]:
    """How many there are, by reason."""
    with transaction(engine) as session:
        total = select(SilenceRow.reason, func.sum(SilenceRow.number)).group_by(SilenceRow.reason)
        return {reason: int(number) for reason, number in session.execute(total.order_by(SilenceRow.reason))}


def in_words(silent: Mapping[str, int]) -> str:
    """The numbers as a line of a log."""
    return "; ".join(f"{number} {reason}" for reason, number in sorted(silent.items()))
