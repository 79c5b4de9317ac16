"""How much a site may put into a call of the coordination service. Every text, byte string and list has a bound."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

MAX_MESSAGE_BYTES = 2**17
MAX_DIGESTS = 1_000
MAX_CAMPAIGNS = 256
"""Answered in one call."""
MAX_REVOCATIONS = 3_500
"""Of one site in one campaign; as many fit into a message."""
_STATEMENT = 4_096
_CHECKPOINT = 16_384
_PROOF = 128
"""Hashes; a log of 2^53 entries needs fewer (RFC 9162, 2.1.4)."""

ITEMS: dict[str, int] = {
    "HeartbeatRequest.held": MAX_DIGESTS,
    "AcknowledgePurgeRequest.digests": MAX_DIGESTS,
    "ExchangeCheckpointRequest.proof": _PROOF,
    "ExchangeAttestationsRequest.answers": MAX_CAMPAIGNS,
    "ExchangeAttestationsRequest.Answer.revocations": MAX_REVOCATIONS,
    "ExchangeAttestationsRequest.signed": MAX_CAMPAIGNS,
    "ExchangeTokensRequest.tokens": MAX_DIGESTS,
    "ListRecipientsRequest.known": MAX_DIGESTS,
}
"""Largest number of items of each list."""
LENGTHS: dict[str, int] = {
    "HeartbeatRequest.version": 64,
    "HeartbeatRequest.held": 64,
    "AcknowledgePurgeRequest.digests": 64,
    "ExchangeCheckpointRequest.checkpoint": _CHECKPOINT,
    "ExchangeCheckpointRequest.proof": 32,
    "ExchangeCheckpointRequest.cosigned": _CHECKPOINT,
    "ExchangeAttestationsRequest.Answer.revocations": 32,
    "ExchangeAttestationsRequest.signed": MAX_MESSAGE_BYTES,
    "ExchangeTokensRequest.tokens": 32,
    "RegisterCountsRequest.statement": _STATEMENT,
    "ListRecipientsRequest.Known.weights": 64,
    "ListRecipientsRequest.Known.digest": 32,
}
"""Largest length of each text, in characters, and byte string."""
_SIZED = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}


def excess(request: Message) -> str | None:
    """The first field of a request that is beyond its bound, in words; None if all are within."""
    return next(_excesses(request), None)


def _excesses(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        key = field_key(field)
        items: Any = value if field.is_repeated else (value,)

        # A field that is missing in the tables has the bound 0: a new one is refused until somebody chooses its bound.
        if field.is_repeated and len(items) > ITEMS.get(key, 0):
            yield f"{field.name} has more than {ITEMS.get(key, 0)} items"
        elif field.type in _SIZED and any(_longer(item, LENGTHS.get(key, 0)) for item in items):
            yield f"{field.name} is longer than {LENGTHS.get(key, 0)}"
        elif field.message_type is not None:
            for item in items:
                yield from _excesses(item)


def field_key(field: FieldDescriptor) -> str:
    """Name of a field in the tables above."""
    package = field.containing_type.file.package
    return str(field.full_name).removeprefix(f"{package}.")


def _longer(value: Sized, most: int) -> bool:
    return len(value) > most
