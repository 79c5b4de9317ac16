"""Register a revocation: fill in, see what it will mean and who is meant, confirm. Use stops with the confirmation."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from secrets import token_bytes, token_hex
from typing import Literal

from pydantic import Field
from starlette.responses import Response

from client.consent.kinds import Kind
from client.console.desk import STEWARD, Desk
from client.console.drafts import Draft, Drafts
from client.console.form_files import MOST_BYTES, check_form
from client.console.meaning import meaning_of
from client.console.words import KINDS, SCOPES, STATES
from client.intake.office import Form, hand_in
from client.intake.permission import permissions_of
from client.revocations.revocation import Scope
from client.revocations.vault import Vault
from common.errors import InputError
from common.learning.data.tables.patient_list import parse_patients
from common.platform.console.forms import Filled, FormModel, empty, filled
from common.platform.console.page import Page, Visit

_STEWARD = frozenset({STEWARD})
_MOST_PATIENTS = 5000
CHECKS = {
    "identity card": "Identity card",
    "known in person": "Known personally",
    "signed letter": "Signed letter",
    "by telephone": "By telephone, with questions",
    "hospital system": "By the hospital's system",
}
"""How the identity of the person who asked was checked."""
REQUESTERS = {
    "patient": "The patient",
    "guardian": "A parent or guardian",
    "representative": "A representative with a power of attorney",
    "data protection officer": "The data protection officer",
}


class _Registration(FormModel):
    patients: str = Field(min_length=1, max_length=200_000)
    kind: Kind = "withdrawal"
    received: date
    scope: Scope = "all"
    requester: str = Field(default="patient", max_length=100)
    identity_check: str = Field(default="not recorded", max_length=100)
    legal_basis: str = Field(default="", max_length=100)


class _Confirmation(FormModel):
    draft: str = Field(min_length=1, max_length=100)
    also_unknown: Literal["", "yes"] = ""


def pages(desk: Desk) -> list[Page]:
    """The form, what it means, and the confirmation."""
    drafts = Drafts()

    def blank(visit: Visit) -> Response:
        today = visit.now.astimezone().date().isoformat()
        return _ask(
            visit, empty(received=today, kind="withdrawal", requester="patient", identity_check="signed letter")
        )

    def look(visit: Visit) -> Response:
        form = filled(visit, _Registration)
        fields = form.model
        if fields is None:
            return _ask(visit, form)

        try:
            patients = parse_patients(fields.patients, "the list", desk.ledger.is_near)
            document = check_form(visit.file("form"))
            draft = _draft(desk, visit, fields, patients, document)
            meaning = meaning_of(desk.ledger, patients, fields.kind, draft.form.received)
        except InputError as err:
            form.errors["patients"] = visit.text(err.problem)
            return _ask(visit, form)

        # The candidates are shown with the identifier.
        if draft.alike:
            desk.saw(visit, "patient-viewed", "decide", candidates=str(sum(map(len, draft.alike.values()))))

        return visit.render(
            "register_meaning.html.j2",
            number=drafts.keep(draft),
            draft=draft,
            meaning=meaning,
            kinds=KINDS,
            scopes=SCOPES,
            states=STATES,
            two_person=desk.ledger.two_person,
        )

    def confirm(visit: Visit) -> Response:
        fields = filled(visit, _Confirmation).model
        if fields is None:
            raise InputError("The form is not complete.")
        draft = drafts.of(fields.draft, visit.person, visit.now)
        patients = [_chosen(visit, place, patient, draft) for place, patient in enumerate(draft.patients)]
        receipt = hand_in(
            desk.ledger,
            permissions_of(desk.ledger) if desk.folder.settings_file.exists() else None,
            Vault(desk.folder.vault, token_bytes),
            patients,
            draft.form,
            token_hex(8),
            also_unknown=fields.also_unknown == "yes",
        )
        # Only now: if nothing was recorded, it can be confirmed again.
        drafts.drop(fields.draft)
        notice = visit.text("Recorded under receipt %(receipt)s. Use has stopped.", receipt=receipt.receipt)
        if receipt.earlier == receipt.patients:
            notice = visit.text("They had already revoked, under receipt %(receipt)s.", receipt=receipt.receipt)

        return visit.redirect(f"/cases/{receipt.receipt}", notice)

    is_final = not desk.ledger.two_person
    return [
        Page("/register", blank, roles=_STEWARD),
        Page("/register", look, roles=_STEWARD, method="POST", upload_bytes=MOST_BYTES),
        # Without a second person, nothing stands between the confirmation and the model.
        Page("/register/confirm", confirm, roles=_STEWARD, method="POST", is_fresh=is_final),
    ]


def _ask(visit: Visit, form: Filled[_Registration] | Filled[FormModel]) -> Response:
    today = visit.now.astimezone().date().isoformat()
    return visit.render(
        "register.html.j2",
        400 if form.errors else 200,
        form=form,
        kinds=KINDS,
        scopes=SCOPES,
        checks=CHECKS,
        requesters=REQUESTERS,
        today=today,
    )


def _draft(desk: Desk, visit: Visit, said: _Registration, patients: tuple[str, ...], document: bytes) -> Draft:
    if len(patients) > _MOST_PATIENTS:
        raise InputError("The list is too long for the console: use fedforget-site revoke.")
    if said.requester not in REQUESTERS or said.identity_check not in CHECKS:
        raise InputError("Choose one of the values.")
    actor = visit.person.actor
    # The deadline counts from the day itself; a letter of today has come by now.
    received_at = min(datetime.combine(said.received, datetime.min.time(), UTC), visit.now)
    if said.received > (visit.now + timedelta(days=1)).date():
        raise InputError("The date of receipt is in the future.")
    people = {patient: desk.ledger.named(patient) for patient in patients}
    form = Form(
        received=received_at,
        scope=said.scope,
        kind=said.kind,
        legal_basis=desk.check_text(said.legal_basis),
        requester=said.requester,
        identity_check=said.identity_check,
        steward=actor.name,
        identity=actor.identity,
        document=document,
    )

    return Draft(
        person=visit.person.key,
        form=form,
        patients=patients,
        alike={patient: tuple(sorted(one.alike)) for patient, one in people.items() if one.is_doubtful},
        at=visit.now,
    )


def _chosen(visit: Visit, place: int, patient: str, draft: Draft) -> str:
    """The identifier to record: the candidate that the steward chose, else the one that was given."""
    candidates = draft.alike.get(patient, ())
    choice = visit.field(f"meant-{place}")
    if choice.isascii() and choice.isdecimal() and int(choice) < len(candidates):
        return candidates[int(choice)]
    return patient
