"""Requests that added nothing, as another revocation of the patient stood: they count when that one is lifted.

Somebody who opts out by a list and withdraws by a form is recorded once. If the list's revocation turns out to be a
mistake, or is taken back, the form still says no.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pydantic import TypeAdapter
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from client.revocations.ledger_rows import chunks, of_patients
from client.revocations.ledger_rules import covers
from client.revocations.ledger_tables import CoveredPatientRow, CoveredRequestRow
from client.revocations.revocation import LIFTED, TERMINAL, Request, RevocationStatus

_REQUEST = TypeAdapter(Request)


def keep_covered(session: Session, request: Request, before: Mapping[str, Sequence[RevocationStatus]]) -> None:
    """Note a request for the patients, by pseudonym, whose standing revocations cover it.

    A register that lists a settled patient again, under the same key, says nothing new.
    """
    patients = [pseudonym for pseudonym, standing in before.items() if not _says_again(standing, request)]
    if request.hold or not patients:
        return

    source = _source(request)
    number = session.scalar(select(CoveredRequestRow.id).where(CoveredRequestRow.source == source))
    if number is None:
        # Nothing refers to a form that came with it, which is not kept.
        digest = request.source.digest if request.source.kind == "fhir" else ""
        content = _REQUEST.dump_python(replace(request, source=replace(request.source, digest=digest)), mode="json")
        row = CoveredRequestRow(source=source, at=request.received, request=content)
        session.add(row)
        session.flush()
        number = row.id

    there = {
        pseudonym
        for some in chunks(patients)
        for pseudonym in session.scalars(
            select(CoveredPatientRow.pseudonym).where(
                CoveredPatientRow.request == number, CoveredPatientRow.pseudonym.in_(some)
            )
        )
    }
    rows = [{"request": number, "pseudonym": pseudonym} for pseudonym in patients if pseudonym not in there]
    if rows:
        session.execute(insert(CoveredPatientRow), rows)


def uncovered(session: Session, patients: Collection[str]) -> list[tuple[Request, list[str]]]:
    """Requests, with the patients by pseudonym, that nothing covers any more; they are noted no longer.

    Of several requests that cover one another the first one is given.
    """
    standing: dict[str, list[RevocationStatus]] = defaultdict(list)
    for one in of_patients(session, patients):
        standing[one.pseudonym].append(one)

    again: list[tuple[Request, list[str]]] = []
    spoken_for: dict[str, list[Request]] = defaultdict(list)
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
        for some in chunks(free):
            session.execute(
                delete(CoveredPatientRow).where(
                    CoveredPatientRow.request == number, CoveredPatientRow.pseudonym.in_(some)
                )
            )

    return again


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
    settled = TERMINAL - LIFTED
    return any(s.source.kind == "list" and s.identity == request.identity and s.state in settled for s in standing)


def _is_wider(other: Request, request: Request) -> bool:
    return other.scope in ("all", request.scope) and not (other.kind == "opt-out" and request.kind != "opt-out")


def _place(request: Request) -> tuple[str, str, str]:
    return request.source.kind, request.source.id, request.source.version


def _source(request: Request) -> str:
    """The source as one text."""
    return json.dumps(_place(request))
