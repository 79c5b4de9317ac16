"""Decisions about a hospital that two persons take: the first proposes, the second, told apart by login, does it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import RefusedError
from common.platform.actor import Actor, check_second
from server.database import EventRow

VALID = timedelta(days=7)
"""A proposal is forgotten after this."""
_PROPOSED = "proposed"
_SECONDED = "seconded"


def seconded(session: Session, site: str, what: str, actor: Actor, now: datetime) -> bool:
    """Whether `actor` is the second person to ask for `what`; the first one's proposal is written down instead.

    Args:
        what: to be done, with all that matters about it, such as a request's fingerprint.

    Raises:
        RefusedError: the first person asks again, or nobody can tell the two apart.
    """
    if not actor.name.strip():
        raise RefusedError("two people must ask for this: give your name with --by")
    first = _proposal(session, site, what, now)
    if first is not None:
        own = "each of the two runs this from a login of their own, not from a shared account"
        check_second(Actor(first["by"], first["identity"]), actor, otherwise=own)

    detail = json.dumps({"what": what, "by": actor.name, "identity": actor.identity}, sort_keys=True)
    session.add(EventRow(at=now, site=site, kind=_PROPOSED if first is None else _SECONDED, detail=detail))

    return first is not None


def _proposal(session: Session, site: str, what: str, now: datetime) -> dict[str, str] | None:
    """What the first person asked for, unless it was done since: a proposal is good for once."""
    rows = session.scalars(
        select(EventRow)
        .where(EventRow.kind.in_((_PROPOSED, _SECONDED)), EventRow.site == site, EventRow.at >= now - VALID)
        .order_by(EventRow.id.desc())
    )

    # The newest decides: a proposal that was seconded cannot be seconded again.
    for row in rows:
        detail: dict[str, str] = json.loads(row.detail)
        if detail["what"] == what:
            return detail if row.kind == _PROPOSED else None

    return None
