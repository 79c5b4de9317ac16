"""Reads and adds rows of the ledger within a transaction, without interpreting them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Select, Table, exists, func, insert, or_, select
from sqlalchemy.orm import Session, aliased

from client.database import Base
from client.revocations.revocation import Event, Request, RevocationStatus, Source, State
from client.revocations.rows.ledger_tables import RevocationEventRow, RevocationRow
from client.revocations.workflow.transitions import remediation_of

_AT_ONCE = 500
"""Values in one statement; SQLite limits their number."""


def _current() -> Select[RevocationRow, RevocationEventRow]:
    """Every revocation with its newest step.

    A revocation restored from a tombstone counts until the request itself arrives again, which says more.
    """
    later = aliased(RevocationEventRow)
    whole = aliased(RevocationRow)
    newest = select(func.max(later.seq)).where(later.revocation == RevocationRow.id).scalar_subquery()
    again = exists().where(
        whole.receipt == RevocationRow.receipt,
        whole.pseudonym == RevocationRow.pseudonym,
        whole.source_kind != "restored",
    )

    return (
        select(RevocationRow, RevocationEventRow)
        .join(RevocationEventRow, RevocationEventRow.revocation == RevocationRow.id)
        .where(RevocationEventRow.seq == newest, or_(RevocationRow.source_kind != "restored", ~again))
        .order_by(RevocationRow.id)
    )


_CURRENT = _current()
"""Built once: building it takes longer than running it."""


def standing_of(session: Session, *conditions: ColumnElement[bool]) -> list[RevocationStatus]:
    """Revocations in their current state, in the order in which they were recorded."""
    return [_standing(row, step) for row, step in session.execute(_CURRENT.where(*conditions))]


def of_patients(session: Session, pseudonyms: Collection[str]) -> list[RevocationStatus]:
    """Revocations of some patients."""
    return [s for some in chunks(pseudonyms) for s in standing_of(session, RevocationRow.pseudonym.in_(some))]


def history_of(session: Session, receipt: str) -> list[Event]:
    """Every step of a receipt's revocations, in the order in which they were taken."""
    rows = session.scalars(
        select(RevocationEventRow)
        .join(RevocationRow, RevocationRow.id == RevocationEventRow.revocation)
        .where(RevocationRow.receipt == receipt)
        .order_by(RevocationEventRow.id)
    )
    return [
        Event(
            revocation=row.revocation,
            seq=row.seq,
            at=row.at,
            state=State(row.state),
            actor=row.actor,
            due=row.due,
            reason=row.reason,
            remediation=remediation_of(State(row.state)),
            campaign=row.campaign,
            model=row.model,
            identity=row.identity,
            signature=row.signature,
        )
        for row in rows
    ]


def add_revocations(session: Session, rows: Sequence[tuple[Request, str]], recorded: datetime) -> dict[str, int]:
    """A row for each request and pseudonym; returns their numbers by pseudonym, of which each stands in one row."""
    columns: dict[int, dict[str, object]] = {}
    values = []
    for request, pseudonym in rows:
        # By identity: the patients of a list share one request, and its columns are made once.
        common = columns.get(id(request))
        if common is None:
            common = columns[id(request)] = columns_of(request, recorded)
        values.append({**common, "pseudonym": pseudonym})

    new_rows = session.execute(insert(RevocationRow).returning(RevocationRow.pseudonym, RevocationRow.id), values)

    return {row.pseudonym: row.id for row in new_rows}


def columns_of(request: Request, recorded: datetime) -> dict[str, object]:
    """The columns of a request's revocations, but for the pseudonym."""
    source = request.source
    return {
        "receipt": request.receipt,
        "source_kind": source.kind,
        "source_id": source.id,
        "source_version": source.version,
        "source_digest": source.digest,
        "scope": request.scope,
        "policies": sorted(request.policies),
        "kind": request.kind,
        "legal_basis": request.basis,
        "requester": request.requester,
        "identity_check": request.identity_check,
        "steward": request.steward,
        "identity": request.identity,
        "received": request.received,
        "effective": request.effective or request.received,
        "recorded": recorded,
    }


def add_events(session: Session, events: Sequence[Event]) -> None:
    """Add steps; the database refuses one whose number another has taken."""
    if events:
        session.execute(
            insert(table_of(RevocationEventRow)),
            [{"revocation": event.revocation, **step_columns(event)} for event in events],
        )


def step_columns(event: Event) -> dict[str, object]:
    """The columns of a step, but for the revocation's number."""
    return {
        "seq": event.seq,
        "at": event.at,
        "state": str(event.state),
        "actor": event.actor,
        "reason": event.reason,
        "remediation": event.remediation,
        "campaign": event.campaign,
        "model": event.model,
        "due": event.due,
        "identity": event.identity,
        "signature": event.signature,
    }


def table_of(row: type[Base]) -> Table:
    """The table of a mapped class, which takes many rows in one statement.

    The class itself would take rows with and without empty columns apart, and send them one by one.
    """
    table = row.__table__
    if not isinstance(table, Table):
        raise TypeError(f"{row.__name__} is not a table")
    return table


def chunks(values: Collection[str]) -> Iterator[Sequence[str]]:
    """Split values into chunks that fit in a statement."""
    values_in_order = [*values]
    return (values_in_order[start : start + _AT_ONCE] for start in range(0, len(values_in_order), _AT_ONCE))


def _standing(row: RevocationRow, step: RevocationEventRow) -> RevocationStatus:
    state = State(step.state)
    return RevocationStatus(
        number=row.id,
        receipt=row.receipt,
        pseudonym=row.pseudonym,
        source=Source(row.source_kind, row.source_id, row.source_version, row.source_digest),  # type: ignore[arg-type]  # as written
        scope=row.scope,  # type: ignore[arg-type]  # as written
        policies=tuple(row.policies),
        kind=row.kind,  # type: ignore[arg-type]  # as written
        legal_basis=row.legal_basis,
        requester=row.requester,
        identity_check=row.identity_check,
        steward=row.steward,
        identity=row.identity,
        received=row.received,
        effective=row.effective,
        recorded=row.recorded,
        due=step.due,
        state=state,
        since=step.at,
        reason=step.reason,
        remediation=remediation_of(state),
        campaign=step.campaign,
        model=step.model,
        steps=step.seq,
    )
