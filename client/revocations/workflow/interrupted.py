"""A request of the command line that an earlier attempt has begun: it goes on with the receipt of that attempt."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from client.revocations.ledger import Ledger, Writing
from client.revocations.revocation import Request
from client.revocations.rows.ledger_rows import of_patients
from client.revocations.tombstones.tombstone import said_in


def begun_before(ledger: Ledger, writing: Writing, request: Request, patients: Collection[str]) -> Request:
    """A request of the command line, with the receipt and date of its interrupted earlier attempt if there was one.

    The disk was full or the process was killed before the database had it, so that only the tombstones know it.
    """
    names = {ledger.pseudonyms.of(patient) for patient in patients}
    only_restored = {
        (s.pseudonym, s.receipt) for s in of_patients(writing.session, names) if s.source.kind == "restored"
    }
    stones = (ledger.stones.read() or {}) if only_restored else {}

    for _, receipt in sorted(only_restored):
        of_receipt = {p: stone for (p, number), stone in stones.items() if number == receipt}
        details = [said_in(stone) for stone in of_receipt.values()]
        request_key = (request.source.kind, request.kind, request.scope)
        # Only the very same request takes the old receipt: the same source, kind and scope, and no patient besides.
        same = details and all((s.get("source"), s.get("kind"), s.get("scope")) == request_key for s in details)
        if same and of_receipt.keys() <= names and all((p, receipt) in only_restored for p in of_receipt):
            first_received = min(stone.received for stone in of_receipt.values())
            return replace(
                request, source=replace(request.source, id=receipt), receipt=receipt, received=first_received
            )

    return request
