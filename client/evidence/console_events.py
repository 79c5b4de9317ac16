"""What people did at the console: sign-ins, views of patients, comments. The log of the site commits to all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from client.database import Base
from common.evidence.canonical import Json, canonical
from common.evidence.schema import time_text
from common.platform.event_log.store import Record
from common.platform.sql import transaction

_AT_ONCE = 1000
"""Largest number of events that one turn of the log takes up."""
COMMENT = "comment"


class ConsoleEventRow(Base):
    """Something that a person did at the console. Rows are only added."""

    __tablename__ = "console_events"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    issuer: Mapped[str]
    subject: Mapped[str]
    name: Mapped[str]
    receipt: Mapped[str] = mapped_column(index=True)
    """The receipt that it is about; empty for none."""
    details: Mapped[dict[str, Any]]
    """Further facts, which identify no patient."""


def add_event(
    engine: Engine, at: datetime, kind: str, person: tuple[str, str, str], details: Mapping[str, str]
) -> None:
    """Store an event about a person: issuer, subject, name. It is on the disk when this returns."""
    issuer, subject, name = (text[:200] for text in person)
    others = {key: value for key, value in details.items() if key != "receipt"}
    row = {"at": at, "kind": kind, "issuer": issuer, "subject": subject, "name": name, "details": others}

    with transaction(engine) as session:
        session.execute(insert(ConsoleEventRow), [{**row, "receipt": details.get("receipt", "")}])


def events_of(session: Session, receipt: str, kind: str, most: int) -> list[ConsoleEventRow]:
    """The newest events of a kind about a receipt, oldest first."""
    query = select(ConsoleEventRow).where(ConsoleEventRow.receipt == receipt, ConsoleEventRow.kind == kind)
    rows = [*session.scalars(query.order_by(ConsoleEventRow.id.desc()).limit(most))]
    # The rows are read after the session has ended.
    session.expunge_all()

    return rows[::-1]


def console_records(session: Session, last: int) -> Iterator[tuple[datetime, Record]]:
    """Records of the log for events after number `last`, oldest first. Comments are for the case alone."""
    query = select(ConsoleEventRow).where(ConsoleEventRow.id > last, ConsoleEventRow.kind != COMMENT)

    for row in session.scalars(query.order_by(ConsoleEventRow.id).limit(_AT_ONCE)):
        document: dict[str, Json] = {"at": time_text(row.at), "kind": row.kind, "name": row.name}
        document |= {"issuer": row.issuer, "subject": row.subject, "receipt": row.receipt}
        document |= {key: str(value) for key, value in row.details.items()}
        yield row.at, Record(f"{SOURCE}{row.id}", f"console-{row.kind}", canonical(document))


SOURCE = "console:"
