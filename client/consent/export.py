"""The record of revocations as CSV or JSON, for those who supervise: every field but who the patients are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from client.consent.revocation import Event, Standing

COLUMNS = (
    "number", "receipt", "source", "scope", "policies", "legal_basis", "requester", "identity_check", "steward",
    "document", "received", "effective", "recorded", "due", "state", "since", "reason", "remediation", "campaign",
    "model", "approved_by",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def record_rows(found: Iterable[Standing], steps: Mapping[int, Sequence[Event]]) -> list[dict[str, Any]]:
    """One row a revocation.

    Args:
        found: as they stand.
        steps: of each, by its number in the ledger.
    """
    return [_row(standing, steps.get(standing.number, ())) for standing in found]


def as_json(found: Sequence[Standing], steps: Mapping[int, Sequence[Event]]) -> str:
    """All rows, each with its steps."""
    rows = [
        {**row, "steps": [_step(event) for event in steps.get(row["number"], ())]} for row in record_rows(found, steps)
    ]
    return json.dumps(rows, indent=2, default=_plain) + "\n"


def as_csv(found: Sequence[Standing], steps: Mapping[int, Sequence[Event]]) -> str:
    """All rows as RFC 4180 has them; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in record_rows(found, steps):
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _row(standing: Standing, steps: Sequence[Event]) -> dict[str, Any]:
    approvals = [later.actor for before, later in pairwise(steps) if _approves(before, later)]
    return {
        "number": standing.number,
        "receipt": standing.receipt,
        "source": standing.source.kind,
        "scope": standing.scope,
        "policies": list(standing.policies),
        "legal_basis": standing.legal_basis,
        "requester": standing.requester,
        "identity_check": standing.identity_check,
        "steward": standing.steward,
        "document": standing.source.digest,
        "received": standing.received,
        "effective": standing.effective,
        "recorded": standing.recorded,
        "due": standing.due,
        "state": str(standing.state),
        "since": standing.since,
        "reason": standing.reason,
        "remediation": standing.remediation,
        "campaign": standing.campaign,
        "model": standing.model,
        "approved_by": approvals[-1] if approvals else None,
    }


def _approves(before: Event, later: Event) -> bool:
    return before.state == "awaiting-approval" and later.state == "pending"


def _step(event: Event) -> dict[str, Any]:
    return {
        "at": event.at,
        "state": str(event.state),
        "actor": event.actor,
        "reason": event.reason,
        "due": event.due,
        "campaign": event.campaign,
    }


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
