"""One tombstone: the patient whom a receipt stops, and what it says of the request behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import parse_qsl, quote_plus, urlencode

from client.revocations.revocation import Request

# With the names of the fields, the longest details stay below the 2,000 characters that a line takes.
_LONGEST = 200
_LONGEST_ENCODED = 300


@dataclass(frozen=True, slots=True)
class Tombstone:
    """From now on a patient is not used or, after a refusal, may be used again as far as this receipt is concerned."""

    kind: Literal["stop", "lift"]
    pseudonym: str
    receipt: str
    received: datetime
    more: str = ""
    """The kind of the revocation and who recorded it, as written by `said_of`."""


TombstoneMap = dict[tuple[str, str], Tombstone]
"""Tombstones in force, by pseudonym and receipt."""


def stop(request: Request, pseudonym: str) -> Tombstone:
    """The tombstone for a patient of a request."""
    return Tombstone("stop", pseudonym, request.receipt, request.received, said_of(request))


def stops(request: Request, pseudonyms: Iterable[str]) -> list[Tombstone]:
    """The tombstones for all patients of a request."""
    body = said_of(request)
    return [Tombstone("stop", pseudonym, request.receipt, request.received, body) for pseudonym in pseudonyms]


def said_of(request: Request) -> str:
    """The details of a request in a tombstone: names of staff and codes, nothing about the patient."""
    values = {
        "source": request.source.kind,
        "kind": request.kind,
        "scope": request.scope,
        "basis": request.basis,
        "steward": request.steward,
        "identity": request.identity,
    }
    return urlencode({name: _cut(value) for name, value in values.items() if value})


def _cut(value: str) -> str:
    """At most so much that the line can be read again; a character outside ASCII takes up to twelve."""
    value = value[:_LONGEST]
    while len(quote_plus(value)) > _LONGEST_ENCODED:
        value = value[:-1]
    return value


def said_in(stone: Tombstone) -> dict[str, str]:
    """The details that `said_of` wrote; empty for a line of an earlier release."""
    return dict(parse_qsl(stone.more))
