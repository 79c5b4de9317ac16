"""The methods of `consent.proto`: each checks its request and asks the ledger. The gate decides who may call."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grpc

from client.account.summary import summarised
from client.consent.rule import Permit, Unknown
from client.intake.grpc.access import Caller, Refusal
from client.intake.grpc.answers import change_message, permission_message, revocation_message
from client.intake.grpc.changes import changes_after, newest_change, of_receipt, page_after
from client.intake.grpc.gate import Gate
from client.intake.grpc.lookups import Lookups
from client.intake.grpc.requests import read_page, read_patient, read_receipt, read_revocation
from client.intake.grpc.revoking import Revoker
from client.intake.grpc_api import consent_pb2 as messages
from client.intake.permission import Permissions
from client.revocations.ledger import Ledger
from client.revocations.revocation import Receipt, RevocationStatus
from common.platform.sql import reading

WATCH_SECONDS = 600.0
POLL_SECONDS = 0.5
"""Seconds between two polls of the ledger, which other processes write too."""
MOST_CHECKED = 1000
"""Patients of one `CheckPermissions`."""
_AT_ONCE = 500
_NO_SECONDS = 0.02
"""Negative answers are sent at multiples of this many seconds after the request, so that their time reveals nothing."""

_log = logging.getLogger("fedforget.consent")


@dataclass(frozen=True, slots=True)
class Consents:
    """The service of one site.

    Attributes:
        revoker: records revocations.
        gate: identifies the caller.
        stopping: set when the process stops, which ends all watches.
        lookups: budgets for requests about unknown people.
    """

    ledger: Ledger
    permissions: Permissions
    revoker: Revoker
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
            # Once the budget is spent, the caller does not even hear that somebody is unknown.
            self.lookups.check(caller)
            raise Refusal(grpc.StatusCode.NOT_FOUND, "this patient is not known here; nothing was recorded")

        answer = self.revoker.record(call)
        (summary,) = summarised(answer.statuses)
        message = revocation_message(summary)
        if answer.receipt is None:
            return messages.RevokeConsentReply(revocation=message)

        _log.info("revocation %s by %s", summary.receipt, caller.name)

        return _reply(message, answer.receipt, created=answer.is_new)

    def GetRevocation(
        self, request: messages.GetRevocationRequest, context: grpc.ServicerContext
    ) -> messages.Revocation:
        """The state of one receipt."""
        caller = self.gate.caller(context)
        receipt = read_receipt(request.receipt)
        with reading(self.ledger.engine) as session:
            statuses = of_receipt(session, receipt)
        # An EHR sees what it has sent itself; it must not learn that there are other receipts.
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
        # By number, so that what is recorded meanwhile shifts no page.
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
        (reply,) = self._checked([request.patient], context)
        return reply

    def CheckPermissions(
        self, request: messages.CheckPermissionsRequest, context: grpc.ServicerContext
    ) -> messages.CheckPermissionsReply:
        """Whether the site may use the data of several patients."""
        if not 1 <= len(request.patients) <= MOST_CHECKED:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"patients must be 1 to {MOST_CHECKED}")
        return messages.CheckPermissionsReply(permissions=self._checked(request.patients, context))

    def _checked(self, names: Sequence[str], context: grpc.ServicerContext) -> list[messages.CheckPermissionReply]:
        """An answer for each patient, or a `Refusal`, which says nothing about any of them."""
        started_at = time.monotonic()
        caller = self.gate.caller(context)
        self.lookups.check(caller)
        patients = [read_patient(name) for name in names]
        answers = self.permissions.of_all(patients)
        replies = []

        for patient in patients:
            answer = answers[patient]
            if not isinstance(answer, Permit):
                # Charged before anything is said: a batch tells no more than as many single calls.
                if len(patients) > 1:
                    self.lookups.check(caller)
                self.lookups.in_vain(caller, self.ledger.pseudonyms.of(patient))
                if caller.role == "ehr" and isinstance(answer, Unknown):
                    answer = Unknown("no permission is known here")
            replies.append(permission_message(answer))

        if any(not isinstance(answer, Permit) for answer in answers.values()):
            # Neither the text nor the timing may reveal who is known here.
            time.sleep(-(time.monotonic() - started_at) % _NO_SECONDS)

        return replies


def _sent_by(caller: Caller, standing: RevocationStatus) -> bool:
    return standing.source.kind == "grpc" and standing.source.id.rpartition("/")[0] == caller.name


def _reply(revocation: messages.Revocation, receipt: Receipt, *, created: bool) -> messages.RevokeConsentReply:
    reply = messages.RevokeConsentReply(revocation=revocation, created=created)
    if receipt.others is not None:
        reply.other_hospitals = receipt.others
    return reply


def _precondition(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)
