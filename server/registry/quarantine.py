"""Bad replies in the coordinator's record: each is kept as an event, and a site with too many in a row is suspended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from common.errors import InputError
from common.platform.sql import transaction
from server.database import EventRow, SiteRow

log = logging.getLogger("fedforget.server")


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Records of what sites sent that was not taken. The weights themselves are let go: they may remember."""

    engine: Engine
    clock: Callable[[], datetime]
    limit: int
    """So many bad replies in a row suspend a site."""

    def bad(self, site: str, kind: str, reason: str, digest: str = "", *, campaign: int | None = None) -> bool:
        """Record a bad reply; whether the site is suspended now.

        Raises:
            InputError: the site is not enrolled.
        """
        now = self.clock()

        with transaction(self.engine) as session:
            row = _site(session, site)
            row.bad_replies += 1
            detail = f"{kind}: {reason}" + (f" (weights {digest})" if digest else "")
            session.add(EventRow(at=now, campaign=campaign, site=site, kind="quarantined", detail=detail))

            # Only an active one: a revoked site must not turn into one that can be readmitted.
            if row.state == "active" and row.bad_replies >= self.limit:
                row.state = "suspended"
                why = f"{row.bad_replies} bad replies in a row"
                session.add(EventRow(at=now, campaign=campaign, site=site, kind="suspended", detail=why))

            is_suspended = row.state == "suspended"

        log.warning("%s: reply to %s quarantined: %s", site, kind, reason)
        if is_suspended:
            log.warning("%s is suspended", site)
        return is_suspended

    def good(self, site: str) -> None:
        """A good reply ends a row of bad ones; who is suspended stays so until a person lifts it.

        Raises:
            InputError: the site is not enrolled.
        """
        with transaction(self.engine) as session:
            row = _site(session, site)
            if row.bad_replies:
                row.bad_replies = 0


def _site(session: Session, name: str) -> SiteRow:
    row = session.get(SiteRow, name, with_for_update=True)
    if row is None:
        raise InputError(f"no site named {name!r} is enrolled", remedy="see `fedforget-server site list`")
    return row
