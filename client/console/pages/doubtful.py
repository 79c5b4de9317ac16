"""Doubtful identifiers: a person says which patient is meant, or none. Looking at them is on record."""

from __future__ import annotations

from starlette.responses import Response

from client.console.desk import OFFICE, PURPOSES, STEWARD, Desk
from client.revocations.look_alikes.doubtful import Doubt, answer, doubts
from client.revocations.look_alikes.ending_holds import PersonDecision
from common.errors import InputError
from common.platform.console.page import Page, Visit

_MOST_SHOWN = 50


def pages(desk: Desk) -> list[Page]:
    """The list without identifiers; with a purpose, one doubt with them; the answer."""

    def show(visit: Visit) -> Response:
        some = doubts(desk.ledger) if waiting(desk) else ()
        return visit.render(
            "doubtful.html.j2",
            doubts=some[:_MOST_SHOWN],
            total=len(some),
            purposes=PURPOSES,
            may_decide=visit.may({STEWARD}),
        )

    def look(visit: Visit) -> Response:
        doubt = _doubt(desk, visit)
        desk.saw(visit, "patient-viewed", visit.field("purpose"), receipt=doubt.revocation.receipt)
        names = desk.ledger.identifiers([doubt.revocation.pseudonym, *(one.pseudonym for one in doubt.candidates)])
        subsets = desk.ledger.subsets()
        candidates = [
            (one.number, names.get(one.pseudonym, "?"), str(subsets.get(one.pseudonym, ""))) for one in doubt.candidates
        ]
        return visit.render(
            "doubt.html.j2",
            doubt=doubt,
            identifier=names.get(doubt.revocation.pseudonym, "?"),
            candidates=candidates,
            may_decide=visit.may({STEWARD}),
        )

    def decide(visit: Visit) -> Response:
        numbers = [int(value) for value in visit.fields("meant") if value.isascii() and value.isdecimal()]
        is_stranger = visit.field("stranger") == "yes"
        # Exactly one of the two: somebody is meant, or nobody is.
        if bool(numbers) == is_stranger:
            raise InputError("Say who is meant: one or more of the patients, or none of them.")
        reason = desk.check_text(visit.field("reason"))
        answer(desk.ledger, visit.path_value("number"), numbers, PersonDecision(visit.person.actor, reason))
        return visit.redirect("/doubtful", visit.text("Your answer is recorded; use of the others resumes."))

    return [
        Page("/doubtful", show, roles=OFFICE),
        Page("/doubtful/{number}", look, roles=OFFICE, method="POST"),
        Page("/doubtful/{number}/answer", decide, roles=frozenset({STEWARD}), method="POST", is_fresh=True),
    ]


def waiting(desk: Desk) -> int:
    """How many doubts wait for a person."""
    return desk.index.held_alike()


def _doubt(desk: Desk, visit: Visit) -> Doubt:
    number = visit.path_value("number")
    doubt = next((one for one in doubts(desk.ledger) if one.number == number), None)
    if doubt is None:
        raise InputError("There is no such doubt; somebody may have answered it.")
    return doubt
