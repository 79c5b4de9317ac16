"""The coordinator's log: the events of its database that matter, each as a leaf, in the order in which they are seen.

The events are written by whoever does something, in the same transaction; this follows them. So nothing that happened
is missing from the log for longer than a moment, also after a crash in between.
"""

from __future__ import annotations

import re

from sqlalchemy import Engine, String, cast, exists, literal, select
from sqlalchemy.orm import Session

from common.evidence.canonical import Json, canonical, parse_canonical
from common.evidence.keys import PublicKey, SigningKey
from common.evidence.schema import time_text
from common.platform.event_log.check import problems
from common.platform.event_log.store import SERVER_ORIGIN, Clock, EventLog, Record
from common.platform.sql import transaction
from server.database import LOG, EventRow, VersionRow

QUIET = ("announced", "version", "waiting", "late", "redone")
"""Kinds of events that say nothing about a patient's data or a model."""
_EVENT = re.compile(r"event:(\d+)")


def server_log(clock: Clock) -> EventLog:
    """The coordinator's log."""
    return EventLog(LOG, SERVER_ORIGIN, clock)


def follow(engine: Engine, log: EventLog, key: SigningKey) -> bool:
    """Log what happened since the last call, and sign where the log then stands; whether there was anything."""
    vault = log.tables.vault
    source = literal("event:") + cast(EventRow.id, String)
    # Not by the highest number seen: PostgreSQL may show an event after one with a higher number.
    is_logged = exists().where(vault.c.source == source)
    with transaction(engine) as session:
        news = session.scalars(select(EventRow).where(EventRow.kind.not_in(QUIET), ~is_logged).order_by(EventRow.id))
        return log.append(session, [_record(session, row) for row in news.all()], key)


def examine(session: Session, log: EventLog, owner: PublicKey) -> list[str]:
    """What does not hold: in the log itself, and in the events that it has on record."""
    troubles = problems(log, session, owner)

    for item in log.vault(session):
        number = _EVENT.fullmatch(item.source)
        if number is None:
            continue
        row = session.get(EventRow, int(number[1]))
        if row is None:
            troubles.append(f"event {number[1]} was deleted after it was logged")
        # The log may say more than the row, such as the digests of a version; never less.
        elif _event(row).items() - _plain(item.document).items():
            troubles.append(f"event {number[1]} was changed after it was logged")

    return troubles


def _record(session: Session, row: EventRow) -> Record:
    document = _event(row)
    # With the digests the log commits to the very weights, and not to a name alone.
    version = session.get(VersionRow, row.detail) if row.kind == "published" else None
    if version is not None:
        document |= {"weights": version.manifest["weights"], "manifest": version.manifest_digest}
    kind = f"campaign-{row.detail.split(':')[0]}" if row.kind == "state" else row.kind

    return Record(f"event:{row.id}", kind, canonical(document))


def _event(row: EventRow) -> dict[str, Json]:
    return {
        "at": time_text(row.at),
        "campaign": row.campaign,
        "detail": row.detail,
        "event": row.id,
        "kind": row.kind,
        "site": row.site,
    }


def _plain(document: bytes) -> dict[str, Json]:
    value = parse_canonical(document)
    return value if isinstance(value, dict) else {}
