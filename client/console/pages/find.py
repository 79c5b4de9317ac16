"""Find a patient: by identifier, with a purpose; the question and the person who asks are on record first."""

from __future__ import annotations

from starlette.responses import Response

from client.cohort.participation import versions_that_saw
from client.console.desk import AUDITOR, PURPOSES, STEWARD, Desk
from client.console.words import KINDS, STATES
from client.revocations.revocation import is_alike
from common.errors import InputError
from common.platform.console.page import Page, Visit

_ROLES = frozenset({STEWARD, AUDITOR})


def pages(desk: Desk) -> list[Page]:
    """The question, and its answer. The identifier never stands in an address."""

    def ask(visit: Visit) -> Response:
        return visit.render("find.html.j2", purposes=PURPOSES, answer=None, problem="")

    def answer(visit: Visit) -> Response:
        patient = visit.field("patient", 200)
        if not patient:
            raise InputError("Give an identifier.")
        # The question is on record before it is answered, whatever the answer is.
        desk.saw(visit, "patient-asked", visit.field("purpose"))

        named_patient = desk.ledger.named(patient)
        standing = desk.ledger.of_patient(named_patient.identifier)
        pseudonym = desk.ledger.pseudonyms.of(named_patient.identifier)
        rounds = versions_that_saw(desk.ledger.engine, [pseudonym]) if desk.folder.has_database else ()
        facts = {
            "named": named_patient,
            "standing": [one for one in standing if not is_alike(one.receipt)],
            "is_held": any(is_alike(one.receipt) for one in standing),
            "is_stopped": desk.ledger.is_stopped(named_patient.identifier),
            "rounds": len({(entry.campaign, entry.step) for entry in rounds}),
            "first": rounds[0].at if rounds else None,
            "last": rounds[-1].at if rounds else None,
        }

        return visit.render("find.html.j2", purposes=PURPOSES, answer=facts, problem="", states=STATES, kinds=KINDS)

    return [
        Page("/find", ask, roles=_ROLES),
        Page("/find", answer, roles=_ROLES, method="POST"),
    ]
