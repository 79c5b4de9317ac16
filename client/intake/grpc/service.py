"""The methods of `consent.proto`: each checks its request and asks the ledger. The gate decides who may call."""

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
"""Seconds between two polls of the ledger, which other processes write too."""
_AT_ONCE = 500
_NO_SECONDS = 0.02
"""Negative answers are sent at multiples of this many seconds after the request, so that their time reveals nothing."""

_log = logging.getLogger("fedforget.consent")


@dataclass(frozen=True, slots=True)
class Consents:
    """The service of one site.

    Attributes:
        gate: identifies the caller.
        stopping: set when the process stops, which ends all watches.
        lookups: budgets for requests about unknown people.
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
        """Record a revocation once; it is on the disk before the answer is sent."""
        caller = self.gate.caller(context)
        call = read_revocation(request, caller, self.ledger.pseudonyms, self.ledger.clock())
        is_known = self.ledger.is_near(call.patient)
        if not is_known:
            self.lookups.in_vain(caller, self.ledger.pseudonyms.of(call.patient))
        if not call.also_unknown and not is_known:
            self.lookups.check(caller)
            raise Refusal(grpc.StatusCode.NOT_FOUND, "this patient is not known here; nothing was recorded")

        try:
            self.permissions.check_after_consent([call.patient], call.request.received)
        except BeforeConsentError:
            raise _precondition("received is before the patient's first consent; nothing was recorded") from None

        with self.ledger.writing() as writing:
            earlier = of_source(writing.session, call.request.source)
            if earlier:
                self._check_same(call, earlier)
                return messages.RevokeConsentReply(revocation=revocation_message(summarised(earlier)[0]))

            receipt = self.ledger.add(
                writing, self._with_document(call), [call.patient], also_unknown=call.also_unknown
            )
            (summary,) = summarised(of_receipt(writing.session, receipt.receipt))

        is_new = receipt.receipt == call.request.receipt
        if is_new:
            self.vault.settle(receipt.receipt)
        else:
            self.vault.erase(call.request.receipt)

        _log.info("revocation %s by %s", receipt.receipt, caller.name)

        return _reply(revocation_message(summary), receipt, created=is_new)

    def GetRevocation(
        self, request: messages.GetRevocationRequest, context: grpc.ServicerContext
    ) -> messages.Revocation:
        """The state of one receipt."""
        caller = self.gate.caller(context)
        receipt = read_receipt(request.receipt)
        with reading(self.ledger.engine) as session:
            statuses = of_receipt(session, receipt)
        if not statuses or (caller.role == "ehr" and not all(_sent_by(caller, standing) for standing in statuses)):
            raise Refusal(grpc.StatusCode.NOT_FOUND, "no such receipt")
        return revocation_message(summarised(statuses)[0])

    def ListRevocations(
        self,
        request: messages.ListRevocationsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002 - as in the .proto
    ) -> messages.ListRevocationsReply:
        """A page of receipts."""
        page = read_page(request)
        summaries = page_after(self.ledger.engine, page.after, page.size)
        token = str(summaries[-1].number) if len(summaries) == page.size else ""
        some = [summary for summary in summaries if not page.states or summary.state in page.states]

        return messages.ListRevocationsReply(revocations=map(revocation_message, some), next_page_token=token)

    def WatchRevocation(
        self, request: messages.WatchRevocationRequest, context: grpc.ServicerContext
    ) -> Iterator[messages.RevocationChange]:
        """Past and future steps."""
        engine = self.ledger.engine
        after = request.after
        receipt = read_receipt(request.receipt) if request.receipt else ""
        if after > newest_change(engine):
            raise _precondition(
                "after is beyond the newest change: the ledger may have been restored; start again with 0"
            )
        if receipt and not changes_after(engine, 0, receipt, 1):
            raise Refusal(grpc.StatusCode.NOT_FOUND, "no such receipt")
        until = time.monotonic() + WATCH_SECONDS
        while context.is_active() and not self.stopping.is_set() and time.monotonic() < until:
            changes = changes_after(engine, after, receipt, _AT_ONCE)
            for change in changes:
                yield change_message(change)
                after = change.sequence

            if not changes:
                self.stopping.wait(POLL_SECONDS)

    def CheckPermission(
        self, request: messages.CheckPermissionRequest, context: grpc.ServicerContext
    ) -> messages.CheckPermissionReply:
        """Whether the site may use a patient's data."""
        started_at = time.monotonic()
        caller = self.gate.caller(context)
        self.lookups.check(caller)
        patient = read_patient(request.patient)
        answer = self.permissions.of(patient)
        if isinstance(answer, Permit):
            return permission_message(answer)
        self.lookups.in_vain(caller, self.ledger.pseudonyms.of(patient))
        if caller.role == "ehr" and isinstance(answer, Unknown):
            answer = Unknown("no permission is known here")
        # Neither the text nor the timing may reveal who is known here.
        time.sleep(-(time.monotonic() - started_at) % _NO_SECONDS)

        return permission_message(answer)

    def _with_document(self, call: RevocationCall) -> Request:
        """The request with a commitment to its document, which is put in the vault first."""
        if not call.document:
            return call.request
        commitment = self.vault.keep(call.request.receipt, call.document)
        return replace(call.request, source=replace(call.request.source, digest=commitment))

    def _check_same(self, call: RevocationCall, earlier: list[RevocationStatus]) -> None:
        """Raise a `Refusal` unless the same revocation was sent before."""
        pseudonym = self.ledger.pseudonyms.of(call.patient)
        ours = (pseudonym, call.request.scope, call.request.kind)
        if any((s.pseudonym, s.scope, s.kind) != ours for s in earlier):
            raise _precondition("a different revocation was sent with this source_id and source_version")
        if not call.document:
            return
        kept = self.vault.opened(call.request.receipt)
        had_none = not earlier[0].source.digest
        if had_none or (kept is not None and kept.document != call.document):
            raise _precondition("a different document was sent with this source_id and source_version")


def _sent_by(caller: Caller, standing: RevocationStatus) -> bool:
    return standing.source.kind == "grpc" and standing.source.id.rpartition("/")[0] == caller.name


def _reply(revocation: messages.Revocation, receipt: Receipt, *, created: bool) -> messages.RevokeConsentReply:
    reply = messages.RevokeConsentReply(revocation=revocation, created=created)
    if receipt.others is not None:
        reply.other_hospitals = receipt.others
    return reply


def _precondition(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)
