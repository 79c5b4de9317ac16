"""Begins anew with a hospital's log that is not the one co-signed before, as after a restore; the record keeps both."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update
from sqlalchemy.orm import Session

from common.errors import RefusedError
from common.evidence.schema import time_text
from common.platform.event_log.store import EventLog, origin_of
from server.database import EventRow


def restart_log(session: Session, log: EventLog, site: str, reason: str, now: datetime) -> int:
    """Co-sign the hospital's log from its beginning again; returns how many leaves it had when it was co-signed last.

    The checkpoint of then stays here under a name of its own, and the event, which is logged, says how far it reached.

    Raises:
        RefusedError: no log of the hospital was ever co-signed here.
    """
    origin = origin_of(site)
    peer = log.peer(session, origin)
    if peer is None:
        raise RefusedError(f"no log of {site} was co-signed here: there is nothing to restart")
    rows = log.tables.peers
    # Renamed and not deleted: what was co-signed stays as evidence against whoever changed it.
    before = peer.checkpoint
    session.execute(update(rows).where(rows.c.origin == origin).values(origin=f"{origin} until {time_text(now)}"))
    detail = f"after {before.size} leaves with root {before.root}: {reason}"
    session.add(EventRow(at=now, site=site, kind="log-restarted", detail=detail))

    return before.size
