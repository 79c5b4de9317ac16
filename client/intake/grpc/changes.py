"""Reads of the ledger for pages and streams: by number, so that nothing is missed or repeated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, exists, func, select
from sqlalchemy.orm import Session, aliased

from client.account.summary import Summary, summarised
from client.revocations.revocation import RevocationStatus, Source
from client.revocations.rows.ledger_rows import chunks, standing_of
from client.revocations.rows.ledger_tables import RevocationEventRow, RevocationRow
from common.platform.sql import reading


@dataclass(frozen=True, slots=True)
class Change:
    """One step of one revocation; `sequence` grows with every step of the ledger."""

    sequence: int
    receipt: str
    revocation: int
    state: str
    at: datetime
    due: datetime


def changes_after(engine: Engine, sequence: int, receipt: str, at_most: int) -> list[Change]:
    """The next steps after a number, of one receipt or, if it is empty, of all."""
    step = RevocationEventRow
    query = (
        select(step.id, RevocationRow.receipt, step.revocation, step.state, step.at, step.due)
        .join(RevocationRow, RevocationRow.id == step.revocation)
        .where(step.id > sequence, *([RevocationRow.receipt == receipt] if receipt else []))
        .order_by(step.id)
        .limit(at_most)
    )
    with reading(engine) as session:
        return [Change(*row) for row in session.execute(query)]


def newest_change(engine: Engine) -> int:
    """Number of the newest step; 0 if the ledger is empty."""
    with reading(engine) as session:
        return session.scalar(select(func.max(RevocationEventRow.id))) or 0


def page_after(engine: Engine, number: int, size: int) -> tuple[Summary, ...]:
    """The next receipts after a revocation's number, in the order in which they were recorded."""
    earlier = aliased(RevocationRow)
    is_first = ~exists().where(earlier.receipt == RevocationRow.receipt, earlier.id < RevocationRow.id)
    first = select(RevocationRow.receipt).where(RevocationRow.id > number, is_first)
    with reading(engine) as session:
        receipts = [*session.scalars(first.order_by(RevocationRow.id).limit(size))]
        return summarised(standing_of(session, RevocationRow.receipt.in_(receipts)))


def of_receipt(session: Session, receipt: str) -> list[RevocationStatus]:
    """The revocations of a receipt."""
    return standing_of(session, RevocationRow.receipt == receipt)


def of_receipts(session: Session, receipts: Collection[str]) -> list[RevocationStatus]:
    """The revocations of some receipts."""
    return [s for some in chunks(receipts) for s in standing_of(session, RevocationRow.receipt.in_(some))]


def of_sources(session: Session, sources: Sequence[Source]) -> dict[tuple[str, str], list[RevocationStatus]]:
    """The revocations that came from some sources of one kind, by id and version."""
    statuses_by_source: dict[tuple[str, str], list[RevocationStatus]] = defaultdict(list)
    source_keys = {(source.kind, source.id, source.version) for source in sources}
    for some in chunks({source.id for source in sources}):
        for standing in standing_of(session, RevocationRow.source_id.in_(some)):
            source = standing.source
            if (source.kind, source.id, source.version) in source_keys:
                statuses_by_source[source.id, source.version].append(standing)

    return dict(statuses_by_source)
