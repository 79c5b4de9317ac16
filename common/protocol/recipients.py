"""Who received a model version, as the coordinator tells the sites: read, checked and compared by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from common.errors import WireError
from common.evidence.canonical import canonical
from common.protocol.coordination import coordination_pb2 as messages

Kind = Literal["hospital", "export", "other"]
MAX_RECIPIENTS = 10_000
"""Of one version."""
MAX_NAME = 200
"""Characters of a name."""

_NUMBERS: Mapping[str, messages.Recipient.Kind] = {
    "hospital": messages.Recipient.KIND_HOSPITAL,
    "export": messages.Recipient.KIND_EXPORT,
}
_KINDS: Mapping[int, Kind] = {messages.Recipient.KIND_HOSPITAL: "hospital", messages.Recipient.KIND_EXPORT: "export"}


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who received a version.

    Attributes:
        kind: a hospital of the federation, or somebody else to whom the version was exported.
        name: as the coordinator knows it; empty where nobody was named.
        deleted: when the recipient said that its copy is deleted; None while it has not.
    """

    kind: Kind
    name: str
    sent: datetime
    deleted: datetime | None


def digest_of(recipients: Iterable[Recipient]) -> bytes:
    """SHA-256 of a list, whatever its order."""
    rows = sorted((one.kind, one.name, one.sent.isoformat(), _iso(one.deleted) or "") for one in recipients)
    return hashlib.sha256(canonical([list(row) for row in rows])).digest()


def to_message(recipient: Recipient) -> messages.Recipient:
    """A recipient as it travels."""
    message = messages.Recipient(kind=_NUMBERS.get(recipient.kind), name=recipient.name)
    message.sent.FromDatetime(recipient.sent)
    if recipient.deleted is not None:
        message.deleted.FromDatetime(recipient.deleted)

    return message


def from_messages(received: Sequence[messages.Recipient]) -> tuple[Recipient, ...]:
    """The list that the coordinator sent for one version.

    Raises:
        WireError: too many, or a name or a time is impossible.
    """
    if len(received) > MAX_RECIPIENTS:
        raise WireError(f"more than {MAX_RECIPIENTS} recipients of one version")
    return tuple(_from_message(one) for one in received)


def as_plain(recipients: Iterable[Recipient]) -> list[dict[str, Any]]:
    """A list as JSON."""
    return [
        {"kind": one.kind, "name": one.name, "sent": one.sent.isoformat(), "deletion_acknowledged": _iso(one.deleted)}
        for one in recipients
    ]


def from_plain(rows: Iterable[Mapping[str, Any]]) -> tuple[Recipient, ...]:
    """Inverse of `as_plain`."""
    return tuple(
        Recipient(
            row["kind"],
            row["name"],
            datetime.fromisoformat(row["sent"]),
            None if row["deletion_acknowledged"] is None else datetime.fromisoformat(row["deletion_acknowledged"]),
        )
        for row in rows
    )


def _from_message(message: messages.Recipient) -> Recipient:
    # Names are printed on pages and in terminals.
    if len(message.name) > MAX_NAME or not message.name.isprintable():
        raise WireError("the name of a recipient is too long or not printable")
    try:
        sent = message.sent.ToDatetime(tzinfo=UTC)
        deleted = message.deleted.ToDatetime(tzinfo=UTC) if message.HasField("deleted") else None
    except (ValueError, OverflowError):
        raise WireError("a time of a recipient is not a moment") from None

    # A kind that a later version adds is shown as `other`.
    return Recipient(_KINDS.get(message.kind, "other"), message.name, sent, deleted)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
