"""The methods of `consent.proto`: each reads its request, asks the ledger, and answers. Who may call is the gate's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import grpc

from client.account.summary import summarised
from client.consent.rule import Permit, Unknown
from client.intake.grpc.access import Caller, Refusal
from client.intake.grpc.answers import change_message, permission_message, revocation_message
from client.intake.grpc.changes import changes_after, newest_change, of_receipt, of_source, page_after
from client.intake.grpc.gate import Gate
from client.intake.grpc.lookups import Lookups
from client.intake.grpc.requests import RevocationCall, read_page, read_patient, read_receipt, read_revocation
from client.intake.grpc_api import consent_pb2 as messages
from client.intake.permission import BeforeConsentError, Permissions
from client.revocations.ledger import Ledger
from client.revocations.revocation import Receipt, Request, RevocationStatus
from client.revocations.vault import Vault
from common.platform.sql import reading

WATCH_SECONDS = 600.0
POLL_SECONDS = 0.5
"""Between two looks at the ledger, which other processes write too."""
_AT_ONCE = 500
_NO_SECONDS = 0.02
"""Answers other than yes go out at multiples of it after the request came."""

_log = logging.getLogger("fedforget.consent")


@dataclass(frozen=True, slots=True)
class Consents:
    """The service of one site.

    Attributes:
        gate: says who calls.
        stopping: set when the process ends, so that watches do.
        lookups: whom clients ask for in vain.
    """

    ledger: Ledger
    permissions: Permissions
    vault: Vault
    gate: Gate
    stopping: threading.Event = field(default_factory=threading.Event)
    lookups: Lookups = field(default_factory=Lookups)

    def RevokeConsent(
        self, request: messages.RevokeConsentRequest, context: grpc.ServicerContext
    ) -> messages.RevokeConsentReply:
        """Record a revocation: once, and on the disk when the answer goes out."""
        caller = self.gate.caller(context)
        asked = read_revocation(request, caller, self.ledger.pseudonyms, self.ledger.clock())
        is_known = self.ledger.is_near(asked.patient)
        if not is_known:
            self.lookups.in_vain(caller, self.ledger.pseudonyms.of(asked.patient))
        if not asked.also_unknown and not is_known:
            self.lookups.check(caller)
            raise Refusal(grpc.StatusCode.NOT_FOUND, "nobody of this name is known here; nothing was recorded")

        try:
            self.permissions.check_after_consent([asked.patient], asked.request.received)
        except BeforeConsentError:
            raise _precondition("received lies before the patient's first consent; nothing was recorded") from None

        with self.ledger.writing() as writing:
            earlier = of_source(writing.session, asked.request.source)
            if earlier:
                self._check_same(asked, earlier)
                return messages.RevokeConsentReply(revocation=revocation_message(summarised(earlier)[0]))

            receipt = self.ledger.add(
                writing, self._with_document(asked), [asked.patient], also_unknown=asked.also_unknown
            )
            (summary,) = summarised(of_receipt(writing.session, receipt.receipt))

        created = receipt.receipt == asked.request.receipt
        if created:
            self.vault.settle(receipt.receipt)
        else:
            self.vault.erase(asked.request.receipt)

        _log.info("revocation %s by %s", receipt.receipt, caller.name)

        return _reply(revocation_message(summary), receipt, created=created)

    def GetRevocation(
        self, request: messages.GetRevocationRequest, context: grpc.ServicerContext
    ) -> messages.Revocation:
        """One receipt as it stands."""
        caller = self.gate.caller(context)
        receipt = read_receipt(request.receipt)
        with reading(self.ledger.engine) as session:
            found = of_receipt(session, receipt)
        if not found or (caller.role == "ehr" and not all(_sent_by(caller, standing) for standing in found)):
            raise Refusal(grpc.StatusCode.NOT_FOUND, "no such receipt")
        return revocation_message(summarised(found)[0])

    def ListRevocations(
        self,
        request: messages.ListRevocationsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002 - as in the .proto
    ) -> messages.ListRevocationsReply:
        """A page of receipts."""
        page = read_page(request)
        found = page_after(self.ledger.engine, page.after, page.size)
        token = str(found[-1].number) if len(found) == page.size else ""
        some = [summary for summary in found if not page.states or summary.state in page.states]

        return messages.ListRevocationsReply(revocations=map(revocation_message, some), next_page_token=token)

    def WatchRevocation(
        self, request: messages.WatchRevocationRequest, context: grpc.ServicerContext
    ) -> Iterator[messages.RevocationChange]:
        """Steps, those that were and those to come."""
        engine = self.ledger.engine
        after = request.after
        receipt = read_receipt(request.receipt) if request.receipt else ""
        if after > newest_change(engine):
            raise _precondition("after lies beyond the newest change: was the ledger restored? begin again with 0")
        if receipt and not changes_after(engine, 0, receipt, 1):
            raise Refusal(grpc.StatusCode.NOT_FOUND, "no such receipt")
        until = time.monotonic() + WATCH_SECONDS
        while context.is_active() and not self.stopping.is_set() and time.monotonic() < until:
            found = changes_after(engine, after, receipt, _AT_ONCE)
            for change in found:
                yield change_message(change)
                after = change.sequence

            if not found:
                self.stopping.wait(POLL_SECONDS)

    def CheckPermission(
        self, request: messages.CheckPermissionRequest, context: grpc.ServicerContext
    ) -> messages.CheckPermissionReply:
        """May the site use a patient's data?"""
        begun = time.monotonic()
        caller = self.gate.caller(context)
        self.lookups.check(caller)
        patient = read_patient(request.patient)
        answer = self.permissions.of(patient)
        if isinstance(answer, Permit):
            return permission_message(answer)
        self.lookups.in_vain(caller, self.ledger.pseudonyms.of(patient))
        if caller.role == "ehr" and isinstance(answer, Unknown):
            answer = Unknown("nothing here permits it")
        # Neither words nor time tell who is known here.
        time.sleep(-(time.monotonic() - begun) % _NO_SECONDS)

        return permission_message(answer)

    def _with_document(self, asked: RevocationCall) -> Request:
        """The request with a commitment to its document, which is in the vault by then."""
        if not asked.document:
            return asked.request
        committed = self.vault.keep(asked.request.receipt, asked.document)
        return replace(asked.request, source=replace(asked.request.source, digest=committed))

    def _check_same(self, asked: RevocationCall, earlier: list[RevocationStatus]) -> None:
        """Raise a `Refusal` unless the same revocation was sent before."""
        pseudonym = self.ledger.pseudonyms.of(asked.patient)
        ours = (pseudonym, asked.request.scope, asked.request.kind)
        if any((s.pseudonym, s.scope, s.kind) != ours for s in earlier):
            raise _precondition("another revocation was sent with this source_id and source_version")
        if not asked.document:
            return
        kept = self.vault.opened(asked.request.receipt)
        had_none = not earlier[0].source.digest
        if had_none or (kept is not None and kept.document != asked.document):
            raise _precondition("another document was sent with this source_id and source_version")


def _sent_by(caller: Caller, standing: RevocationStatus) -> bool:
    return standing.source.kind == "grpc" and standing.source.id.rpartition("/")[0] == caller.name


def _reply(revocation: messages.Revocation, receipt: Receipt, *, created: bool) -> messages.RevokeConsentReply:
    reply = messages.RevokeConsentReply(revocation=revocation, created=created)
    if receipt.others is not None:
        reply.other_hospitals = receipt.others
    return reply


def _precondition(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)
