"""A case: everything about one receipt, from its arrival to the letter, without saying who it is about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from client.console.desk import APPROVER, AUDITOR, OFFICE, PURPOSES, READERS, STEWARD, Desk
from client.console.form_files import media_type_of
from client.console.history import campaign_steps, exceptions_of, steps_of
from client.console.index import Row
from client.console.words import KINDS, SCOPES, SOURCES, STATES
from client.evidence.console_events import COMMENT, events_of
from client.revocations.deadline import FURTHER_MONTHS, months_after
from client.revocations.exemptions import CODES, KEEPS, WHOLE
from client.revocations.revocation import LIFTED, OPEN, State
from client.revocations.vault import Vault
from common.errors import InputError
from common.platform.console.page import Page, Visit, download
from common.platform.sql import reading

_MOST_COMMENTS = 100
_MOST_SHOWN = 200
_CAN_RETURN = frozenset(State) - OPEN - {State.READMITTED, State.REFUSED}
_STAGES = ("received", "decided", "forgetting", "settled")


def pages(desk: Desk) -> list[Page]:
    """The case, its live part, its documents, who it is about, and comments."""

    def of_receipt(handler: Callable[[Visit, Row], Response]) -> Callable[[Visit], Response]:
        def handle(visit: Visit) -> Response:
            return handler(visit, found(desk, visit))

        return handle

    def show(visit: Visit, row: Row) -> Response:
        return visit.render("case.html.j2", **_values(desk, visit, row))

    def part(visit: Visit, row: Row) -> Response:
        return visit.render("case_part.html.j2", **_values(desk, visit, row))

    def who(visit: Visit, row: Row) -> Response:
        # On record before anything is shown; without a purpose it raises.
        desk.saw(visit, "patient-viewed", visit.field("purpose"), receipt=row.receipt)
        standing = desk.ledger.standing(row.receipt)
        names = desk.ledger.identifiers([one.pseudonym for one in standing[:_MOST_SHOWN]])
        unknown = visit.text("not known: its secret was lost")
        identifiers = [names.get(one.pseudonym, unknown) for one in standing[:_MOST_SHOWN]]
        return visit.render("who.html.j2", row=row, names=list(dict.fromkeys(identifiers)), total=len(standing))

    def document(visit: Visit, row: Row) -> Response:
        desk.saw(visit, "form-opened", visit.field("purpose"), receipt=row.receipt)
        # Only read here, so that no random bytes are asked for.
        form = Vault(desk.folder.vault, bytes).find(row.receipt)
        if form is None:
            raise InputError("There is no form in the vault: none was added, or it was erased.")
        media_type, suffix = media_type_of(form.document)
        return download(form.document, f"form-{row.receipt}.{suffix}", media_type)

    def comment(visit: Visit, row: Row) -> Response:
        text = desk.check_text(visit.field("comment", 2000))
        if not text:
            raise InputError("Write a comment first.")
        person = visit.person
        visit.console.record(COMMENT, visit.now, (*person.key, person.name), receipt=row.receipt, text=text)
        return visit.redirect(f"/cases/{row.receipt}", visit.text("Your comment is saved."))

    return [
        Page("/cases/{receipt}", of_receipt(show), roles=READERS),
        Page("/cases/{receipt}/part", of_receipt(part), roles=READERS),
        Page("/cases/{receipt}/who", of_receipt(who), roles=OFFICE, method="POST"),
        Page("/cases/{receipt}/form", of_receipt(document), roles=OFFICE, method="POST"),
        Page("/cases/{receipt}/comments", of_receipt(comment), roles=READERS, method="POST"),
    ]


def found(desk: Desk, visit: Visit) -> Row:
    """The receipt that an address names.

    Raises:
        InputError: there is none.
    """
    row = desk.index.find(visit.path_value("receipt"))
    if row is None:
        raise InputError("There is no such receipt.")
    return row


def _values(desk: Desk, visit: Visit, row: Row) -> dict[str, Any]:
    with reading(desk.ledger.engine) as session:
        steps = steps_of(session, row.receipt)
        comments = events_of(session, row.receipt, COMMENT, _MOST_COMMENTS)
        campaign = campaign_steps(session, row.campaign) if row.campaign else []
        exceptions = exceptions_of(session, row.receipt)

    # GDPR Art. 12(3): by two further months at most, and only within the first one.
    latest = months_after(row.received, 1 + FURTHER_MONTHS)
    can_extend = row.is_open and row.is_asked and visit.now <= months_after(row.received, 1)
    is_steward = visit.may({STEWARD})
    can_hold = row.state in {State.AWAITING_APPROVAL, State.PENDING}
    may_approve = row.state is State.AWAITING_APPROVAL and visit.may({APPROVER})
    is_own = row.receipt in desk.own(visit, [row.receipt])

    return {
        "row": row,
        "steps": steps,
        "comments": comments,
        "campaign": campaign,
        "exceptions": exceptions,
        "codes": CODES,
        "keeps": KEEPS,
        "whole": WHOLE,
        "stages": _STAGES,
        "stage": _stage(row.state),
        "has_form": any((desk.folder.vault / name).exists() for name in (row.receipt, f"{row.receipt}.new")),
        "can_approve": may_approve and not is_own,
        "needs_another": may_approve and is_own,
        "can_hold": is_steward and can_hold,
        "can_release": is_steward and row.state is State.ON_HOLD and not row.doubtful,
        "can_extend": is_steward and can_extend,
        "can_refuse": is_steward and (can_hold or row.state is State.ON_HOLD),
        "can_keep": is_steward and row.state not in LIFTED,
        "can_readmit": is_steward and row.kind == "opt-out" and row.state in _CAN_RETURN,
        "may_see": visit.may(OFFICE),
        "may_export": visit.may({STEWARD, AUDITOR}),
        "latest": latest,
        "suggested": min(latest, row.due + timedelta(days=28)),
        "purposes": PURPOSES,
        "states": STATES,
        "kinds": KINDS,
        "sources": SOURCES,
        "scopes": SCOPES,
    }


def _stage(state: State) -> int:
    """How far a revocation has come: 1 received, 2 decided, 3 the model forgets, 4 settled."""
    if state in {State.RECEIVED, State.ON_HOLD, State.AWAITING_APPROVAL}:
        return 1
    if state is State.PENDING:
        return 2
    return 3 if state in {State.IN_CAMPAIGN, State.ESCALATED} else 4
