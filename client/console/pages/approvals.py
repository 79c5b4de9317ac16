"""Approvals: what waits for a second person, one by one or several at once."""

from __future__ import annotations

from starlette.responses import Response

from client.console.desk import APPROVER, OFFICE, Desk
from client.console.index import COLUMNS, Wanted
from client.console.words import KINDS, SOURCES, STATES
from client.revocations.revocation import State
from client.revocations.workflow import decisions
from common.errors import InputError, RefusedError
from common.platform.console.page import Page, Visit
from common.platform.console.tables import view_of

_MOST_AT_ONCE = 50


def pages(desk: Desk) -> list[Page]:
    """The list, and the approval of several."""

    def show(visit: Visit) -> Response:
        view = view_of(visit, COLUMNS, "due")
        awaiting = Wanted(states=frozenset({State.AWAITING_APPROVAL}))
        rows, total = desk.index.listed(
            awaiting, view.sort, is_descending=view.is_descending, start=view.start, most=view.size
        )
        return visit.render(
            "approvals.html.j2",
            rows=rows,
            view=view.of(total),
            states=STATES,
            kinds=KINDS,
            sources=SOURCES,
            may_approve=visit.may({APPROVER}),
            own=desk.own(visit, [row.receipt for row in rows]),
            is_required=desk.ledger.two_person,
        )

    def approve(visit: Visit) -> Response:
        receipts = list(dict.fromkeys(visit.fields("receipt")))[:_MOST_AT_ONCE]
        if not receipts:
            raise InputError("Choose at least one receipt.")
        reason = desk.check_text(visit.field("reason"))
        approval_count = 0
        problems = []

        for receipt in receipts:
            try:
                decisions.approve(desk.ledger, receipt, visit.person.actor, reason)
                approval_count += 1
            # One that somebody else has approved meanwhile must not stop the others.
            except (InputError, RefusedError) as err:
                problems.append(str(err))

        if approval_count:
            visit.notify(visit.texts("%(num)s receipt approved.", "%(num)s receipts approved.", approval_count))
        for problem in dict.fromkeys(problems):
            visit.notify(visit.text(problem), "problem")

        return visit.redirect("/approvals")

    return [
        Page("/approvals", show, roles=OFFICE),
        Page("/approvals", approve, roles=frozenset({APPROVER}), method="POST", is_fresh=True),
    ]
