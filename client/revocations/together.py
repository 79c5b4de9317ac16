"""Revocations of several callers in one transaction: what they have in common is read and written once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from client.revocations.deadline import first_due
from client.revocations.ledger import RECEIPT_FORM, Ledger, Writing
from client.revocations.revocation import Receipt, Request
from client.revocations.rows.ledger_rows import of_patients
from client.revocations.tombstones.tombstone import stop
from common.errors import InputError, OutputError


@dataclass(frozen=True, slots=True)
class OnePatient:
    """A request to revoke the consent of one patient."""

    request: Request
    patient: str = field(repr=False)
    also_unknown: bool


def add_together(ledger: Ledger, writing: Writing, asked: Sequence[OnePatient]) -> list[Receipt | InputError]:
    """`Ledger.add` for each; a request that cannot be recorded gets its error and leaves the others alone.

    Raises:
        CohortError: a file of the site is damaged.
    """
    ledger.stopped()
    outcomes: dict[int, Receipt | InputError] = {}
    answer_of = {}

    # Names first: a malformed one must not cost the others their transaction.
    for number, one in enumerate(asked):
        try:
            answer_of[number] = ledger.named(one.patient)
        except InputError as err:
            outcomes[number] = err

    names = {number: ledger.pseudonyms.of(one.identifier) for number, one in answer_of.items()}
    pseudonyms_before = {standing.pseudonym for standing in of_patients(writing.session, set(names.values()))}
    plain = dict[int, str]()
    for number, pseudonym in names.items():
        request = asked[number].request
        is_clear = answer_of[number].is_known or (asked[number].also_unknown and not answer_of[number].is_doubtful)
        # Plain cases share one statement. Whatever depends on what stands already goes through `add`.
        if (
            is_clear
            and not request.hold
            and pseudonym not in pseudonyms_before
            and RECEIPT_FORM.fullmatch(request.receipt)
        ):
            plain[number] = pseudonym
            # The same patient again in this group goes to `add`, which finds the first request.
            pseudonyms_before.add(pseudonym)

    subsets = ledger.subset_of([answer_of[number].identifier for number in plain])
    rows = [
        (asked[number].request, pseudonym, subsets.get(answer_of[number].identifier), "")
        for number, pseudonym in plain.items()
    ]
    ledger.insert_rows(writing, rows)
    writing.stops += [stop(request, pseudonym) for request, pseudonym, _, _ in rows]
    ledger.seal(writing.session, {pseudonym: answer_of[number].identifier for number, pseudonym in plain.items()})
    others = ledger.others(writing)
    for number in plain:
        request = asked[number].request
        due = first_due(request.received, ledger.days_to_answer)
        is_known = int(answer_of[number].is_known)
        outcomes[number] = Receipt(request.receipt, 1, 0, request.received, due, others, is_known, 1 - is_known)

    # Whoever needs a closer look gets it one by one, when the others of the group are there.
    for number in sorted(names.keys() - plain.keys()):
        one = asked[number]
        try:
            outcomes[number] = ledger.add(writing, one.request, [one.patient], also_unknown=one.also_unknown)
        # A disk that fails ends the transaction of all, not one request.
        except OutputError:
            raise
        except InputError as err:
            outcomes[number] = err

    return [outcomes[number] for number in range(len(asked))]
