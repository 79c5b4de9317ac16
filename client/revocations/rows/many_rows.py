"""Rows of one request with very many patients: the database makes them itself, of a list of pseudonyms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, Insert, MetaData, String, Table, Text, insert, literal, select
from sqlalchemy.orm import Session

from client.database import Base
from client.revocations.revocation import Request, State
from client.revocations.rows.ledger_rows import columns_of, table_of
from client.revocations.rows.ledger_tables import RevocationEventRow, RevocationRow

Columns = dict[str, Any]

MANY = 2000
"""Patients of one request from which on this is faster."""
_AT_ONCE = 20_000

_LISTED = Table(
    "listed_patients",
    MetaData(),
    Column("pseudonym", String(200), primary_key=True),
    Column("state", String(200)),
    Column("reason", Text),
    Column("remediation", String(200)),
    prefixes=["TEMPORARY"],
)


class Listed(NamedTuple):
    """A patient of the request, with the step after receipt."""

    pseudonym: str
    state: State
    reason: str
    remediation: str | None


def add_many(session: Session, request: Request, patients: Sequence[Listed], first: Columns, second: Columns) -> None:
    """Add a revocation and its first two steps for each patient.

    They are added in the order of their pseudonyms: each index grows at its end, and not at a million places.

    Args:
        patients: each once.
        first: columns of the first step, which are the same for all.
        second: those of the second one, but for what `patients` says.
    """
    in_order = sorted(patients)
    connection = session.connection()
    _LISTED.create(connection, checkfirst=True)

    try:
        for start in range(0, len(patients), _AT_ONCE):
            rows = [
                {
                    "pseudonym": one.pseudonym,
                    "state": str(one.state),
                    "reason": one.reason,
                    "remediation": one.remediation,
                }
                for one in in_order[start : start + _AT_ONCE]
            ]
            session.execute(insert(_LISTED), rows)

        session.execute(_revocations(request, first["at"]))
        session.execute(_steps(request, first))
        session.execute(_steps(request, second, is_second=True))
    finally:
        _LISTED.drop(connection)


def _revocations(request: Request, recorded: datetime) -> Insert:
    values = {name: _literal(RevocationRow, name, value) for name, value in columns_of(request, recorded).items()}
    pseudonym_rows = select(*values.values(), _LISTED.c.pseudonym).order_by(_LISTED.c.pseudonym)
    return insert(table_of(RevocationRow)).from_select([*values, "pseudonym"], pseudonym_rows)


def _steps(request: Request, values: Columns, *, is_second: bool = False) -> Insert:
    values_of_event: dict[str, Any] = {
        name: _literal(RevocationEventRow, name, value) for name, value in values.items()
    }
    if is_second:
        values_of_event |= {"state": _LISTED.c.state, "reason": _LISTED.c.reason, "remediation": _LISTED.c.remediation}
    # Source and pseudonym are unique together, so these are the revocations that were just added.
    source = request.source
    steps = (
        select(RevocationRow.id, *values_of_event.values())
        .join(_LISTED, _LISTED.c.pseudonym == RevocationRow.pseudonym)
        .where(
            RevocationRow.source_kind == source.kind,
            RevocationRow.source_id == source.id,
            RevocationRow.source_version == source.version,
        )
        .order_by(RevocationRow.id)
    )

    return insert(table_of(RevocationEventRow)).from_select(["revocation", *values_of_event], steps)


def _literal(row: type[Base], name: str, value: object) -> Any:
    return literal(value, table_of(row).c[name].type).label(name)
