"""The ledger's types as messages of `consent.proto`. No message can identify a patient."""

from __future__ import annotations

from client.account.summary import Summary
from client.consent.rule import Answer, Deny, Permit
from client.intake.grpc.changes import Change
from client.intake.grpc.requests import KINDS
from client.intake.grpc_api import consent_pb2 as messages
from client.revocations.revocation import Scope

_SCOPES: dict[Scope, messages.Scope] = {
    "all": messages.SCOPE_ALL,
    "images": messages.SCOPE_IMAGES,
    "reports": messages.SCOPE_REPORTS,
}
_KINDS = {kind: number for number, kind in KINDS.items()}


def revocation_message(summary: Summary) -> messages.Revocation:
    """The state of a receipt."""
    message = messages.Revocation(
        receipt=summary.receipt,
        state=str(summary.state),
        scope=_SCOPES[summary.scope],
        remediation=summary.remediation or "",
        patients=summary.patients,
        kind=_KINDS[summary.kind],
        legal_basis=summary.legal_basis,
        known=summary.known,
        unknown=summary.patients - summary.known - summary.doubtful,
        doubtful=summary.doubtful,
    )
    message.received.FromDatetime(summary.received)
    message.recorded.FromDatetime(summary.recorded)
    message.due.FromDatetime(summary.due)
    if summary.closed is not None:
        message.closed.FromDatetime(summary.closed)
    return message


def change_message(change: Change) -> messages.RevocationChange:
    """One step of a revocation."""
    message = messages.RevocationChange(
        sequence=change.sequence, receipt=change.receipt, revocation=change.revocation, state=change.state
    )
    message.at.FromDatetime(change.at)
    message.due.FromDatetime(change.due)

    return message


def permission_message(answer: Answer) -> messages.CheckPermissionReply:
    """Whether data may be used."""
    if isinstance(answer, Permit):
        return messages.CheckPermissionReply(permission=messages.CheckPermissionReply.PERMISSION_PERMITTED)
    is_denied = isinstance(answer, Deny)
    reply = messages.CheckPermissionReply
    permission = reply.PERMISSION_DENIED if is_denied else reply.PERMISSION_UNKNOWN

    return reply(permission=permission, reason=answer.reason)
