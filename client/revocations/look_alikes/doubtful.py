"""Identifiers that resemble a patient's but differ: which are waiting, and a person's answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace

from sqlalchemy import or_

from client.revocations.ledger import Ledger, Writing
from client.revocations.look_alikes.alike import request_of
from client.revocations.look_alikes.ending_holds import PersonDecision, end_alike
from client.revocations.revocation import (
    LIFTED,
    RevocationStatus,
    State,
    alike_receipt,
    asked_receipt,
    is_alike,
    is_doubt,
    nobody_asked,
)
from client.revocations.rows.ledger_rows import chunks, of_patients, standing_of
from client.revocations.rows.ledger_tables import RevocationEventRow, RevocationRow
from client.revocations.tombstones.tombstone import stop
from common.errors import InputError, RefusedError
from common.learning.data.identifiers.look_alikes import LookAlikes
from common.platform.sql import reading


@dataclass(frozen=True, slots=True)
class Doubt:
    """An identifier of which a person must say whom it means.

    Attributes:
        number: receipt of the holds on all candidates; names the doubt.
        revocation: the one with the identifier.
        candidates: the holds on the patients who may be meant.
    """

    number: str
    revocation: RevocationStatus
    candidates: tuple[RevocationStatus, ...]


def doubts(ledger: Ledger) -> tuple[Doubt, ...]:
    """All doubts that wait for a person, in order of arrival."""
    holds: dict[str, list[RevocationStatus]] = defaultdict(list)

    with reading(ledger.engine) as session:
        for one in standing_of(session, RevocationEventRow.state == str(State.ON_HOLD)):
            if is_alike(one.receipt):
                holds[one.receipt].append(one)

        if not holds:
            return ()
        # `alike_receipt` may have cut a receipt: its beginning finds the candidates, and the comparison below decides.
        beginnings = {asked_receipt(number) for number in holds}
        standing = [
            one
            for some in chunks(beginnings)
            for one in standing_of(session, or_(*(RevocationRow.receipt.startswith(b, autoescape=True) for b in some)))
        ]

    status_by_receipt = {alike_receipt(s.receipt, s.pseudonym): s for s in standing if not is_alike(s.receipt)}

    return tuple(
        Doubt(number, status_by_receipt[number], tuple(some))
        for number, some in holds.items()
        if number in status_by_receipt
    )


def undecided(standing: Collection[RevocationStatus]) -> frozenset[str]:
    """Pseudonyms of identifiers that look like a patient's, of whom some are on hold for it."""
    holds: dict[str, set[str]] = defaultdict(set)
    for one in standing:
        if one.state is State.ON_HOLD:
            holds[one.receipt].add(one.pseudonym)

    look_alikes = {s.receipt for s in standing if is_alike(s.receipt)}
    open_doubts = [
        s for s in standing if not is_alike(s.receipt) and alike_receipt(s.receipt, s.pseudonym) in look_alikes
    ]

    return frozenset(
        s.pseudonym
        for s in open_doubts
        if holds[alike_receipt(s.receipt, s.pseudonym)] or holds[s.receipt] - {s.pseudonym}
    )


def answer(ledger: Ledger, number: str, meant: Collection[int], said: PersonDecision) -> Doubt:
    """Apply a person's answer: the patients who are meant have revoked under its receipt, use of the others resumes.

    Args:
        meant: numbers of candidates; empty: none of them.

    Raises:
        InputError: no such doubt, or it has no such candidate.
        RefusedError: the name or the reason is missing.
    """
    if not said.actor.name.strip() or not said.reason.strip():
        raise RefusedError("an answer needs a name and a reason")
    doubt = next((one for one in doubts(ledger) if one.number == number), None)
    if doubt is None:
        raise InputError("no such doubt", where=str(ledger.folder.root), remedy="fedforget-site revocations doubtful")
    if not set(meant) <= {one.number for one in doubt.candidates}:
        raise InputError("no such candidate", where="--is", remedy="fedforget-site revocations doubtful")
    with ledger.writing() as writing:
        # Read again under the lock: another person may have answered meanwhile.
        candidates = [
            s for s in standing_of(writing.session, RevocationRow.receipt == number) if s.state is State.ON_HOLD
        ]
        if {one.number for one in candidates} != {one.number for one in doubt.candidates}:
            raise RefusedError("somebody else has answered meanwhile: see fedforget-site revocations doubtful")
        _revoke(ledger, writing, doubt.revocation, [one for one in candidates if one.number in meant])
        end_alike(ledger, writing, doubt.revocation, candidates, meant, said)

    return doubt


def unheard(ledger: Ledger, patients: Collection[str]) -> dict[int, tuple[RevocationStatus, frozenset[str]]]:
    """Find `patients` who resemble somebody who has revoked, if no doubt was recorded yet.

    Args:
        patients: identifiers in the data, which may be new here. Two known identifiers mean two patients.

    Returns:
        The revocation and the patients who resemble its patient, by number of the revocation.
    """
    alike = LookAlikes(patients)
    cohort_patients = ledger.known_patients()
    with reading(ledger.engine) as session:
        standing = standing_of(session)
    pairs_on_record = {(s.receipt, s.pseudonym) for s in standing}
    names = ledger.identifiers()
    unheard_by_number = dict[int, tuple[RevocationStatus, frozenset[str]]]()

    for one in standing:
        name = names.get(one.pseudonym)
        if name is None or nobody_asked(one.receipt) or one.state in LIFTED:
            continue
        number = alike_receipt(one.receipt, one.pseudonym)
        others = {
            other
            for other in alike.of(name)
            if other != name
            and not (name in cohort_patients and other in cohort_patients)
            and (number, ledger.pseudonyms.of(other)) not in pairs_on_record
        }
        if others:
            unheard_by_number[one.number] = one, frozenset(others)

    return unheard_by_number


def hold_unheard(ledger: Ledger, patients: Collection[str]) -> int:
    """Stop use of all patients whom `unheard` finds until a person says who is meant; returns their number."""
    if not (unheard_patients := unheard(ledger, patients)):
        return 0
    with ledger.writing() as writing:
        for one, others in unheard_patients.values():
            ledger.hold_alike(writing, request_of(one), one.pseudonym, others)

    return len(frozenset[str]().union(*(others for _, others in unheard_patients.values())))


def _revoke(
    ledger: Ledger, writing: Writing, revocation: RevocationStatus, meant: Collection[RevocationStatus]
) -> None:
    """Record the revocation of the patients who are meant, with its own dates."""
    # Who is meant by an unclear consent is on hold, as if it had named them.
    request = replace(request_of(revocation), hold=revocation.reason if is_doubt(revocation.receipt) else "")
    subsets = ledger.subsets()
    there = {
        s.pseudonym
        for s in of_patients(writing.session, [one.pseudonym for one in meant])
        if s.receipt == revocation.receipt
    }
    new = {one.pseudonym: subsets.get(one.pseudonym) for one in meant if one.pseudonym not in there}
    ledger.insert(writing, request, new)
    writing.stops += [stop(request, pseudonym) for pseudonym in new]
