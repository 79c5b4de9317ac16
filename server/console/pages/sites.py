"""Hospitals: who takes part, since when they were not heard, what they registered, what needs a person."""

from __future__ import annotations

from sqlalchemy import select
from starlette.responses import Response

from common.errors import InputError
from common.evidence.keys import PublicKey
from common.platform.console.page import Page, Visit
from common.platform.keys.certificates import read_certificate
from common.platform.sql import reading, transaction
from server.campaign.waiting import needs
from server.console.desk import EVERYBODY, OPERATORS, Desk
from server.console.pages.overview import is_silent
from server.console.words import SITE_STATES
from server.database import EventRow, SiteRow
from server.membership.enrolment import find, readmit, revoke
from server.membership.registration import approve, history, in_force

_EVENTS = 50


def pages(desk: Desk) -> list[Page]:
    """The list, and a page for each hospital with what may be decided about it.

    A hospital is enrolled by `site approve`, which needs the authority's key: the console cannot read it.
    """
    house = desk.house

    def everyone(visit: Visit) -> Response:
        with reading(house.engine) as session:
            rows = [*session.scalars(select(SiteRow).order_by(SiteRow.name))]
            counts = in_force(session)
            open_needs = needs(session, house.settings.policy)
            session.expunge_all()
        silent = {row.name for row in rows if is_silent(row, visit.now)}
        return visit.render(
            "sites.html.j2", rows=rows, counts=counts, needs=open_needs, silent=silent, states=SITE_STATES
        )

    def one(visit: Visit) -> Response:
        name = visit.path_value("name")
        with reading(house.engine) as session:
            row = find(session, name)
            query = select(EventRow).where(EventRow.site == name).order_by(EventRow.id.desc()).limit(_EVENTS)
            events = [*session.scalars(query)]
            counts = [*history(session, name)]
            open_needs = needs(session, house.settings.policy).get(name, [])
            now_in_force = in_force(session).get(name)
            session.expunge_all()
        return visit.render(
            "site.html.j2",
            row=row,
            events=events,
            counts=counts,
            asked=open_needs,
            is_silent=is_silent(row, visit.now),
            in_force=now_in_force,
            keyid=PublicKey.from_pem(row.signing_key.encode()).keyid,
            until=read_certificate(row.certificate.encode(), name).not_valid_after_utc,
            states=SITE_STATES,
            may_decide=visit.may(OPERATORS),
        )

    def decide(visit: Visit) -> Response:
        name = visit.path_value("name")
        reason = visit.field("reason", 500)
        step = visit.field("step")
        if step not in {"exclude", "readmit", "count"}:
            raise InputError("Choose what to do.")
        if not reason:
            raise InputError("Give a reason.")
        number = visit.field("studies", 12)
        if step == "count" and not (number.isascii() and number.isdecimal()):
            raise InputError("Give the number that the hospital confirmed.")

        # On record before it is done: what cannot be recorded does not happen.
        desk.did(visit, f"site-{step}", site=name, reason=reason)
        with transaction(house.engine) as session:
            find(session, name)
            if step == "exclude":
                revoke(session, name, reason, visit.now)
            elif step == "readmit":
                readmit(session, name, visit.now)
            else:
                approve(session, name, int(number), reason, visit.now)

        return visit.redirect(f"/sites/{name}", visit.text("Done. It is recorded."))

    return [
        Page("/sites", everyone, roles=EVERYBODY),
        Page("/sites/{name}", one, roles=EVERYBODY),
        Page("/sites/{name}", decide, roles=OPERATORS, method="POST", is_fresh=True),
    ]
