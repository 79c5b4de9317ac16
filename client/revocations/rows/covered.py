"""Requests that added nothing, as another revocation of the patient stood: they count when that one is lifted.

Somebody who opts out by a list and withdraws by a form is recorded once. If the list's revocation turns out to be a
mistake, or is taken back, the form still says no. Such a request has a tombstone of its own, since a database that is
restored from a backup may lack it. An unclear consent that came meanwhile is noted too, until it becomes clear.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pydantic import TypeAdapter
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from client.revocations.revocation import LIFTED, TERMINAL, Request, RevocationStatus, Source, is_doubt
from client.revocations.rows.ledger_rows import chunks, of_patients
from client.revocations.rows.ledger_rules import covers
from client.revocations.rows.ledger_tables import CoveredPatientRow, CoveredRequestRow
from client.revocations.tombstones.tombstone import Tombstone, stops

_REQUEST = TypeAdapter(Request)


def keep_covered(
    session: Session, request: Request, before: Mapping[str, Sequence[RevocationStatus]]
) -> list[Tombstone]:
    """Note a request for the patients, by pseudonym, whose standing revocations cover it; returns its new tombstones.

    A register that lists a settled patient again, under the same key, says nothing new.
    """
    patients = [pseudonym for pseudonym, standing in before.items() if not _says_again(standing, request)]
    if not patients:
        return []

    number, note = _note(session, request)
    there = {
        pseudonym
        for some in chunks(patients)
        for pseudonym in session.scalars(
            select(CoveredPatientRow.pseudonym).where(
                CoveredPatientRow.request == number, CoveredPatientRow.pseudonym.in_(some)
            )
        )
    }
    new = [pseudonym for pseudonym in patients if pseudonym not in there]
    if new:
        session.execute(insert(CoveredPatientRow), [{"request": number, "pseudonym": pseudonym} for pseudonym in new])
        _replace_restored(session, note, new)

    return stops(note, new)


def _note(session: Session, request: Request) -> tuple[int, Request]:
    """The number under which a request is noted, and what is noted: of a source the first."""
    source = _source(request)
    row = session.scalars(select(CoveredRequestRow).where(CoveredRequestRow.source == source)).first()
    if row is not None:
        return row.id, _REQUEST.validate_python(row.request)

    # Nothing refers to a form that came with it, which is not kept.
    digest = request.source.digest if request.source.kind == "fhir" else ""
    note = replace(request, source=replace(request.source, digest=digest))
    row = CoveredRequestRow(source=source, at=request.received, request=_REQUEST.dump_python(note, mode="json"))
    session.add(row)
    session.flush()

    return row.id, note


def _replace_restored(session: Session, request: Request, patients: Sequence[str]) -> None:
    """Forget what the tombstones alone told of a request that has arrived again: the request itself says more."""
    if request.source.kind == "restored":
        return
    restored_request = replace(request, source=Source("restored", request.receipt))
    number = session.scalar(select(CoveredRequestRow.id).where(CoveredRequestRow.source == _source(restored_request)))
    if number is not None:
        _forget(session, number, patients)


def forget_doubts(session: Session, pseudonym: str) -> list[Tombstone]:
    """Forget the unclear consents of a patient, which have become clear; returns what lifts their tombstones."""
    lifts = []
    for number, content, _ in _noted(session, [pseudonym]):
        request = _REQUEST.validate_python(content)
        if is_doubt(request.receipt):
            _forget(session, number, [pseudonym])
            lifts.append(Tombstone("lift", pseudonym, request.receipt, request.received))

    return lifts


def noted_requests(session: Session) -> dict[tuple[str, str], Request]:
    """All requests that are noted, by pseudonym and receipt."""
    requests = {row.id: _REQUEST.validate_python(row.request) for row in session.scalars(select(CoveredRequestRow))}
    rows = session.execute(select(CoveredPatientRow.request, CoveredPatientRow.pseudonym))
    return {(pseudonym, requests[number].receipt): requests[number] for number, pseudonym in rows}


def uncovered(session: Session, patients: Collection[str]) -> list[tuple[Request, list[str]]]:
    """Requests, with the patients by pseudonym, that nothing covers any more; they are noted no longer.

    Of several requests that cover one another the first one is given.
    """
    standing: dict[str, list[RevocationStatus]] = defaultdict(list)
    for one in of_patients(session, patients):
        standing[one.pseudonym].append(one)

    again: list[tuple[Request, list[str]]] = []
    spoken_for: dict[str, list[Request]] = defaultdict(list)
    # In order of arrival: of requests that cover one another, the first one's dates count.
    for number, content, pseudonyms in _noted(session, patients):
        request = _REQUEST.validate_python(content)
        free = [
            pseudonym
            for pseudonym in pseudonyms
            if not any(one.state not in LIFTED and covers(one, request) for one in standing[pseudonym])
            and not any(_is_wider(other, request) for other in spoken_for[pseudonym])
        ]
        if not free:
            continue
        again.append((request, free))
        for pseudonym in free:
            spoken_for[pseudonym].append(request)
        _forget(session, number, free)

    return again


def _forget(session: Session, number: int, patients: Sequence[str]) -> None:
    for some in chunks(patients):
        of_request = CoveredPatientRow.request == number
        session.execute(delete(CoveredPatientRow).where(of_request, CoveredPatientRow.pseudonym.in_(some)))


def _noted(session: Session, patients: Collection[str]) -> list[tuple[int, object, list[str]]]:
    """Number and content of the requests that are noted for these patients, in the order of their arrival."""
    by_request: dict[int, list[str]] = defaultdict(list)
    for some in chunks(patients):
        rows = session.execute(
            select(CoveredPatientRow.request, CoveredPatientRow.pseudonym).where(CoveredPatientRow.pseudonym.in_(some))
        )
        for number, pseudonym in rows:
            by_request[number].append(pseudonym)

    contents = {number: _request_row(session, number).request for number in sorted(by_request)}

    return [(number, content, by_request[number]) for number, content in contents.items()]


def _request_row(session: Session, number: int) -> CoveredRequestRow:
    return session.scalars(select(CoveredRequestRow).where(CoveredRequestRow.id == number)).one()


def _says_again(standing: Sequence[RevocationStatus], request: Request) -> bool:
    if any((s.source.kind, s.source.id, s.source.version) == _place(request) for s in standing):
        return True
    if request.source.kind != "list" or not request.identity:
        return False
    end_states = TERMINAL - LIFTED
    return any(s.source.kind == "list" and s.identity == request.identity and s.state in end_states for s in standing)


def _is_wider(other: Request, request: Request) -> bool:
    # A hold decides nothing, so it cannot stand for a decision.
    if other.hold and not request.hold:
        return False
    return other.scope in ("all", request.scope) and not (other.kind == "opt-out" and request.kind != "opt-out")


def _place(request: Request) -> tuple[str, str, str]:
    return request.source.kind, request.source.id, request.source.version


def _source(request: Request) -> str:
    """The source as one text."""
    return json.dumps(_place(request))
