"""The log: what happened, newest first, and which hospitals' logs are co-signed."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from common.platform.console.page import Page, Visit
from common.platform.console.shared_pages.log import LogPages
from common.platform.console.tables import view_of
from common.platform.event_log.check import own_key
from common.platform.sql import reading
from server.attestation.event_log import examine, server_log
from server.console.desk import EVERYBODY, Desk
from server.database import EventRow


def pages(desk: Desk) -> list[Page]:
    """Events by pages, narrowed by hospital, kind or campaign."""

    engine = desk.house.engine

    def examined(session: Session) -> list[str]:
        log = server_log(desk.house.store.clock)
        return examine(session, log, own_key(log, session))

    pages_of = LogPages(engine, lambda: server_log(desk.house.store.clock), examined, desk.house.store.clock)

    def show(visit: Visit) -> Response:
        site = visit.query("site", most=64).strip()
        kind = visit.query("kind", most=64).strip()
        number = visit.query("campaign", most=9).strip()
        view = view_of(visit, ("id",), "-id", ("site", "kind", "campaign"))
        conditions = []
        if site:
            conditions.append(EventRow.site == site)
        if kind:
            conditions.append(EventRow.kind == kind)
        if number.isascii() and number.isdecimal():
            conditions.append(EventRow.campaign == int(number))

        with reading(engine) as session:
            view = view.of(session.scalar(select(func.count()).select_from(EventRow).where(*conditions)) or 0)
            order = EventRow.id.desc() if view.is_descending else EventRow.id
            query = select(EventRow).where(*conditions).order_by(order).offset(view.start).limit(view.size)
            events = [*session.scalars(query)]
            log = server_log(desk.house.store.clock)
            leaves = session.scalar(select(func.count()).select_from(log.tables.leaves)) or 0
            values = pages_of.values(session)
            session.expunge_all()

        return visit.render(
            "log.html.j2", events=events, view=view, site=site, kind=kind, campaign=number, size=leaves, **values
        )

    return pages_of.pages(show, EVERYBODY)
