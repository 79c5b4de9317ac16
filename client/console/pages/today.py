"""Today: what needs somebody, with counts and the next date."""

from __future__ import annotations

from starlette.responses import Response

from client.console.desk import EVERYBODY, Desk
from client.console.index import Wanted
from client.console.pages.doubtful import waiting
from client.console.words import KINDS, STATES
from client.revocations.revocation import OPEN, State
from common.platform.console.page import Page, Visit

_SOON = 7
_NEXT = 8


def pages(desk: Desk) -> list[Page]:
    """The first page, and the part of it that follows events."""

    def show(visit: Visit, template: str) -> Response:
        counts = desk.index.counts()
        overdue, soon = desk.index.due_within(visit.now, (0, _SOON))
        open_requests = Wanted(states=OPEN, is_asked=True)
        first, total = desk.index.listed(open_requests, "due", is_descending=False, start=0, most=_NEXT)
        return visit.render(
            template,
            overdue=overdue,
            soon=soon - overdue,
            approve=counts.get(State.AWAITING_APPROVAL, 0),
            doubtful=waiting(desk),
            held=counts.get(State.ON_HOLD, 0),
            failed=counts.get(State.ESCALATED, 0),
            waiting=counts.get(State.PENDING, 0),
            running=counts.get(State.IN_CAMPAIGN, 0),
            total=total,
            first=first,
            states=STATES,
            kinds=KINDS,
            days=_SOON,
        )

    return [
        Page("/", lambda visit: show(visit, "today.html.j2"), roles=EVERYBODY),
        Page("/today/part", lambda visit: show(visit, "today_part.html.j2"), roles=EVERYBODY),
    ]
