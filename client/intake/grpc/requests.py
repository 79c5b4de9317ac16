"""Checks requests: pure functions from messages to the ledger's types. A refusal quotes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NoReturn

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from client.consent.kinds import Kind
from client.intake.grpc.access import Caller, Refusal
from client.intake.grpc_api import consent_pb2 as messages
from client.revocations.revocation import Request, Scope, Source, State
from client.revocations.tombstones.pseudonyms import Pseudonyms
from common.learning.data.identifiers.identifiers import IdentifierError, normal
from common.platform.actor import by_certificate

MOST_BYTES = 2**20
"""Of a document."""
MOST_PER_PAGE = 500
USUAL_PER_PAGE = 100
_SKEW = timedelta(minutes=5)
_OLDEST = timedelta(days=3653)
_SOURCE = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_RECEIPT = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_TOKEN = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_MOST_TEXT = 200
_SCOPES: dict[int, Scope] = {
    messages.SCOPE_UNSPECIFIED: "all",
    messages.SCOPE_ALL: "all",
    messages.SCOPE_IMAGES: "images",
    messages.SCOPE_REPORTS: "reports",
}


KINDS: Mapping[messages.Kind, Kind] = MappingProxyType(
    {
        messages.KIND_WITHDRAWAL: "withdrawal",
        messages.KIND_OBJECTION: "objection",
        messages.KIND_ERASURE: "erasure",
        messages.KIND_OPT_OUT: "opt-out",
    }
)


@dataclass(frozen=True, slots=True)
class RevocationCall:
    """A checked request to revoke one patient's consent.

    Attributes:
        document: the signed form; empty if none came.
    """

    request: Request
    patient: str = field(repr=False)
    document: bytes = field(repr=False)
    also_unknown: bool


@dataclass(frozen=True, slots=True)
class Page:
    """The requested part of the list.

    Attributes:
        after: number of the last revocation before the page.
        states: requested states; empty: all.
    """

    after: int
    size: int
    states: frozenset[State]


def read_revocation(
    message: messages.RevokeConsentRequest, caller: Caller, pseudonyms: Pseudonyms, now: datetime
) -> RevocationCall:
    """A `RevokeConsentRequest`, or a `Refusal`."""
    version = message.source_version or "1"
    if not _SOURCE.fullmatch(message.source_id) or not _SOURCE.fullmatch(version):
        _invalid("source_id and source_version must have 1 to 64 letters, digits and . _ : -")
    if message.scope not in _SCOPES:
        _invalid("unknown scope")
    if message.kind not in (messages.KIND_UNSPECIFIED, *KINDS):
        _invalid("unknown kind")
    if len(message.document) > MOST_BYTES:
        _invalid(f"document has more than {MOST_BYTES} bytes")
    received_at = _moment(message.received, "received") if message.HasField("received") else now
    if received_at > now + _SKEW:
        _invalid("received is in the future")
    if received_at < now - _OLDEST:
        _invalid("received is more than ten years ago")
    # With the caller's name: two clients may number their forms alike.
    source = Source("grpc", f"{caller.name}/{message.source_id}", version)
    request = Request(
        source=source,
        receipt=pseudonyms.receipt(source.kind, source.id, source.version),
        # A sender's clock may be ahead, but the ledger has no dates in the future.
        received=min(received_at, now),
        scope=_SCOPES[message.scope],
        kind=KINDS.get(message.kind, "withdrawal"),
        legal_basis=_text(message.legal_basis, "legal_basis"),
        requester=_text(message.requester, "requester") or "patient",
        identity_check=_text(message.identity_check, "identity_check") or "not recorded",
        steward=caller.name,
        identity=by_certificate(caller.fingerprint),
    )

    return RevocationCall(request, read_patient(message.patient), message.document, message.also_unknown)


def read_patient(text: str) -> str:
    """A well-formed patient identifier, or a `Refusal`."""
    try:
        return normal(text)
    except IdentifierError as err:
        _invalid(f"patient is {err.problem}")


def read_receipt(text: str) -> str:
    """A receipt, or a `Refusal`."""
    if not _RECEIPT.fullmatch(text):
        _invalid("invalid receipt")
    return text


def read_page(message: messages.ListRevocationsRequest) -> Page:
    """A `ListRevocationsRequest`, or a `Refusal`."""
    if message.page_size > MOST_PER_PAGE:
        _invalid(f"page_size is at most {MOST_PER_PAGE}")
    if message.page_token and not _TOKEN.fullmatch(message.page_token):
        _invalid("unknown page_token")
    try:
        states = frozenset(State(state) for state in message.states)
    except ValueError:
        _invalid(f"states are of {', '.join(State)}")

    return Page(int(message.page_token or 0), message.page_size or USUAL_PER_PAGE, states)


def _text(text: str, name: str) -> str:
    if len(text) > _MOST_TEXT or not text.isprintable():
        _invalid(f"{name} is of at most {_MOST_TEXT} printable characters")
    return text.strip()


def _moment(stamp: Timestamp, name: str) -> datetime:
    try:
        moment: datetime = stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        _invalid(f"{name} is not a valid timestamp")

    return moment


def _invalid(message: str) -> NoReturn:
    raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)
