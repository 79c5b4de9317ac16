"""Records the revocations that callers send, several in one commit where they arrive together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import grpc

from client.intake.grpc.access import Refusal
from client.intake.grpc.changes import of_receipts, of_sources
from client.intake.grpc.group import Group
from client.intake.grpc.requests import RevocationCall
from client.intake.permission import Permissions
from client.revocations.ledger import Ledger, Writing
from client.revocations.revocation import Receipt, Request, RevocationStatus
from client.revocations.together import OnePatient, add_together
from client.revocations.vault import Vault
from common.errors import InputError

TOGETHER = 64
"""Revocations that share one commit at most."""


class Recorded(NamedTuple):
    """What became of a call.

    Attributes:
        statuses: the revocations of the receipt that answers it.
        receipt: None if the same call was recorded before.
        is_new: whether it got a receipt of its own now.
    """

    statuses: list[RevocationStatus]
    receipt: Receipt | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class Revoker:
    """Records calls; threads share it.

    Attributes:
        together: calls that share one commit at most; 1: each has its own.
    """

    ledger: Ledger
    permissions: Permissions
    vault: Vault
    together: int = TOGETHER
    _group: list[Group[RevocationCall, Recorded]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """One group for all callers."""
        self._group.append(Group(self._record, self.together))

    def record(self, call: RevocationCall) -> Recorded:
        """Record a revocation once; it is on the disk when this returns.

        Raises:
            Refusal: a different one came from the same source, or it is dated before the patient's consent.
            FedForgetError: see `Ledger.record`.
        """
        if call.document and self.vault.opened(call.request.receipt) is None:
            # Outside the transaction, as a disk takes several forms at once. What is there already is compared within.
            self.vault.keep(call.request.receipt, call.document)
        answer = self._group[0].do(call)

        if answer.is_new:
            self.vault.settle(call.request.receipt)
        # An earlier revocation answers for this one, and nothing refers to the form.
        elif answer.receipt is not None:
            self.vault.erase(call.request.receipt)
        return answer

    def _record(self, calls: Sequence[RevocationCall]) -> list[Recorded | BaseException]:
        """In one transaction; if that fails, each in its own, so that none suffers from another."""
        try:
            return self._at_once(calls)
        except Exception as error:  # noqa: BLE001 - the outcome of all, or of nobody
            if len(calls) == 1:
                return [error]

        return [outcome for call in calls for outcome in self._record([call])]

    def _at_once(self, calls: Sequence[RevocationCall]) -> list[Recorded | BaseException]:
        outcomes: dict[int, Recorded | BaseException] = {}

        with self.ledger.writing() as writing:
            # The sender's own name and version decide whether a call repeats an earlier one.
            earlier = of_sources(writing.session, [call.request.source for call in calls])
            first_consents = self.permissions.first_consents(writing.session, {call.patient for call in calls})
            patients_by_line: dict[int, OnePatient] = {}
            sources = set()

            for number, call in enumerate(calls):
                request = call.request
                place = (request.source.id, request.source.version)
                try:
                    if place in earlier:
                        self._check_same(call, earlier[place])
                        outcomes[number] = Recorded(earlier[place], None, is_new=False)
                    elif place in sources:
                        # The same source twice in one group: the second is looked at when the first is there.
                        outcomes[number] = _Again()
                    elif call.patient in first_consents and request.received < first_consents[call.patient]:
                        raise _precondition("received is before the patient's first consent; nothing was recorded")
                    else:
                        sources.add(place)
                        patients_by_line[number] = OnePatient(
                            self._with_document(call), call.patient, call.also_unknown
                        )
                except (Refusal, InputError) as err:
                    outcomes[number] = err

            outcomes |= self._added(writing, patients_by_line)

        return [
            self._record([calls[number]])[0] if isinstance(outcomes[number], _Again) else outcomes[number]
            for number in range(len(calls))
        ]

    def _added(self, writing: Writing, asked: dict[int, OnePatient]) -> dict[int, Recorded | BaseException]:
        answers = dict(zip(asked, add_together(self.ledger, writing, [*asked.values()]), strict=True))
        receipts = {outcome.receipt for outcome in answers.values() if isinstance(outcome, Receipt)}
        statuses: dict[str, list[RevocationStatus]] = defaultdict(list)
        for standing in of_receipts(writing.session, receipts):
            statuses[standing.receipt].append(standing)

        return {
            number: outcome
            if isinstance(outcome, InputError)
            else Recorded(statuses[outcome.receipt], outcome, outcome.receipt == asked[number].request.receipt)
            for number, outcome in answers.items()
        }

    def _with_document(self, call: RevocationCall) -> Request:
        """The request with a commitment to its document, which is in the vault before.

        It is looked for again, as somebody who opened the ledger may have removed what was not recorded yet.
        """
        if not call.document:
            return call.request
        commitment = self.vault.keep(call.request.receipt, call.document)
        return replace(call.request, source=replace(call.request.source, digest=commitment))

    def _check_same(self, call: RevocationCall, earlier: list[RevocationStatus]) -> None:
        """Raise a `Refusal` unless the same revocation was sent before."""
        pseudonym = self.ledger.pseudonyms.of(self.ledger.spelled(call.patient))
        ours = (pseudonym, call.request.scope, call.request.kind)
        if any((s.pseudonym, s.scope, s.kind) != ours for s in earlier):
            raise _precondition("a different revocation was sent with this source_id and source_version")
        if not call.document:
            return
        vault_document = self.vault.opened(call.request.receipt)
        had_none = not earlier[0].source.digest
        # With a form where the first call had none, it is not the same call.
        if had_none or (vault_document is not None and vault_document.document != call.document):
            raise _precondition("a different document was sent with this source_id and source_version")


class _Again(Exception):
    """In place of an outcome, for a call that must be looked at once more."""


def _precondition(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)
