"""Decisions about a receipt: approve, hold, release, extend, refuse, let take part again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from secrets import token_bytes, token_hex

from starlette.responses import Response

from client.console.desk import APPROVER, STEWARD, Desk
from client.console.form_files import MOST_BYTES, check_form
from client.console.pages.case import found
from client.revocations.exemptions import Exemption, keep_in_part
from client.revocations.vault import Vault
from client.revocations.workflow import decisions, readmission
from common.errors import InputError
from common.platform.console.page import Page, Visit

_Decide = Callable[[Visit, str, str], object]
"""Decides about a receipt, with a reason."""
_STEWARD = frozenset({STEWARD})
_STILL_STOPPED = "This receipt is taken back, but another one still stops use of the patient's data."


def pages(desk: Desk) -> list[Page]:
    """A page for each decision. What cannot be undone asks for a fresh sign-in."""

    def decision(decide: _Decide, notice: str, *, needs_reason: bool = True) -> Callable[[Visit], Response]:
        def handle(visit: Visit) -> Response:
            receipt = found(desk, visit).receipt
            reason = desk.check_text(visit.field("reason"))
            if needs_reason and not reason:
                raise InputError("Give a reason; it is recorded permanently.")
            decide(visit, receipt, reason)
            return visit.redirect(f"/cases/{receipt}", visit.text(notice))

        return handle

    def approve(visit: Visit, receipt: str, reason: str) -> object:
        return decisions.approve(desk.ledger, receipt, visit.person.actor, reason)

    def hold(visit: Visit, receipt: str, reason: str) -> object:
        return decisions.hold(desk.ledger, receipt, visit.person.actor, reason)

    def release(visit: Visit, receipt: str, reason: str) -> object:
        return decisions.release(desk.ledger, receipt, visit.person.actor, reason)

    def refuse(visit: Visit, receipt: str, reason: str) -> object:
        code = visit.field("code", 40)
        exemption = Exemption(code) if code else None
        return decisions.refuse(desk.ledger, receipt, visit.person.actor, reason, exemption)

    def keep(visit: Visit, receipt: str, reason: str) -> object:
        exemption = Exemption(visit.field("code", 40), visit.field("keeps", 40))
        return keep_in_part(desk.ledger, receipt, visit.person.actor, reason, exemption)

    def extend(visit: Visit, receipt: str, reason: str) -> object:
        until = _day(visit.field("until"))
        return decisions.extend(desk.ledger, receipt, until, visit.person.actor, reason)

    def readmit(visit: Visit) -> Response:
        row = found(desk, visit)
        reason = desk.check_text(visit.field("reason"))
        if not reason:
            raise InputError("Give a reason; it is recorded permanently.")
        patients = _who(desk, visit.field("patient", 200)) if row.patients > 1 else None
        content = check_form(visit.file("form"))
        if not content:
            raise InputError("Add the signed form in which they agree to take part again.")
        vault = Vault(desk.folder.vault, token_bytes)
        number = token_hex(8)
        is_recorded = False

        # The form is in the vault before the ledger refers to it, and goes again if nothing does.
        try:
            with desk.ledger.writing() as writing:
                form = (number, vault.keep(number, content))
                _, still = readmission.readmit(
                    desk.ledger, writing, row.receipt, visit.person.actor, reason, form=form, patients=patients
                )
            is_recorded = True
        finally:
            if is_recorded:
                vault.settle(number)
            else:
                vault.erase(number)

        notice = _STILL_STOPPED if still else "They take part again from the next campaign."
        return visit.redirect(f"/cases/{row.receipt}", visit.text(notice))

    def step(name: str, decide: _Decide, notice: str, *, is_fresh: bool = False) -> Page:
        path = f"/cases/{{receipt}}/{name}"
        return Page(path, decision(decide, notice), roles=_STEWARD, method="POST", is_fresh=is_fresh)

    approving = decision(approve, "Approved. The next campaign can include it.", needs_reason=False)
    return [
        Page("/cases/{receipt}/approve", approving, roles=frozenset({APPROVER}), method="POST", is_fresh=True),
        step("hold", hold, "On hold. Use stays stopped; the due date stays."),
        step("release", release, "Released from hold."),
        step("extend", extend, "The due date is later. Tell the patient now."),
        step("refuse", refuse, "Refused. The patients' data may be used again.", is_fresh=True),
        step("keep", keep, "Refused in part. The rest of the request goes its way."),
        Page(
            "/cases/{receipt}/readmit",
            readmit,
            roles=_STEWARD,
            method="POST",
            is_fresh=True,
            upload_bytes=MOST_BYTES,
        ),
    ]


def _who(desk: Desk, patient: str) -> frozenset[str]:
    """The pseudonym of the one patient of a list who takes part again.

    Raises:
        InputError: none is named, or it is unclear who is meant.
    """
    if not patient:
        raise InputError("The receipt covers several patients. Give the identifier of the one who takes part again.")
    named_patient = desk.ledger.named(patient)
    if named_patient.is_doubtful:
        raise InputError(
            "The identifier belongs to no patient of this site, but resembles one. Write it exactly as the site does."
        )
    return frozenset({desk.ledger.pseudonyms.of(named_patient.identifier)})


def _day(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("Write a date like 2026-03-01.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
