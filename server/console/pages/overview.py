"""Overview: the version in use, the open campaign, the hospitals, and what is due, as counts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from starlette.responses import Response

from common.platform.console.page import Page, Visit
from common.platform.sql import reading
from server.campaign.description import doing
from server.campaign.waiting import needs
from server.console.desk import EVERYBODY, Desk
from server.console.words import CAMPAIGN_KINDS, CAMPAIGN_STATES
from server.database import AttestationRow, SiteRow
from server.registry.exports import to_recall
from server.rounds.exchanges.progress import read_progress

_SILENT_SECONDS = 3600.0


def is_silent(row: SiteRow, now: datetime) -> bool:
    """Whether a hospital that takes part was not heard for an hour, or never."""
    return row.state != "revoked" and (row.seen is None or (now - row.seen).total_seconds() > _SILENT_SECONDS)


def pages(desk: Desk) -> list[Page]:
    """The first page, and the part of it that follows events."""

    def show(visit: Visit, template: str) -> Response:
        house = desk.house
        running = house.store.open()
        now = visit.now
        text = ""
        if running is not None:
            text = doing(running, read_progress(house.store.work, running.number, running.attempt), now)

        with reading(house.engine) as session:
            rows = [*session.scalars(select(SiteRow).where(SiteRow.state != "revoked").order_by(SiteRow.name))]
            open_needs = needs(session, house.settings.policy)
            owed = session.scalar(select(func.count()).select_from(AttestationRow).where(AttestationRow.envelope == ""))
            recall = to_recall(session)
            session.expunge_all()

        silent = [row for row in rows if is_silent(row, now)]
        dates = sorted(row.first_due for row in rows if row.pending and row.first_due is not None)
        return visit.render(
            template,
            active=house.registry.active(),
            running=running,
            text=text,
            sites=rows,
            silent=silent,
            suspended=[row.name for row in rows if row.state == "suspended"],
            pending=sum(row.pending for row in rows),
            due=dates[0] if dates else None,
            needs={name: why for name, why in open_needs.items() if why},
            owed=owed or 0,
            recall=recall,
            kinds=CAMPAIGN_KINDS,
            states=CAMPAIGN_STATES,
        )

    return [
        Page("/", lambda visit: show(visit, "overview.html.j2"), roles=EVERYBODY),
        Page("/overview/part", lambda visit: show(visit, "overview_part.html.j2"), roles=EVERYBODY),
    ]
