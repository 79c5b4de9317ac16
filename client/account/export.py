"""The record of revocations as CSV or JSON, e.g. for a supervisory authority: every field except identities."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from typing import Any

from client.account.account import Account, Version
from client.cohort.participation import Participation
from client.revocations import exemptions
from client.revocations.revocation import Event
from common.evidence.outcomes.acceptance import accepted_by
from common.evidence.schema import rounded
from common.evidence.statements import Unlearning
from common.protocol.recipients import as_plain

COLUMNS = (
    "number", "receipt", "source", "kind", "scope", "policies", "legal_basis", "requester", "identity_check",
    "steward", "steward_identity", "document", "received", "effective", "recorded", "due", "state", "since", "reason",
    "remediation", "campaign", "model", "approved_by", "approver_identity", "rounds", "first_round", "last_round",
    "versions", "recipients", "attestation", "outcome", "metrics", "acceptance", "warning", "told", "told_hospitals",
    "told_at", "exceptions", "missing",
)  # fmt: skip
"""Columns of the CSV, which has numbers and names instead of the JSON's rounds, versions and figures."""
# A cell that begins so is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_json(accounts: Iterable[Account]) -> str:
    """Everything that is known, one object per revocation."""
    rows = [
        {
            **_ledger(account),
            "rounds": None if account.rounds is None else [_round(one) for one in account.rounds],
            "versions": None if account.versions is None else [_version(one) for one in account.versions],
            "audit": None if account.attested is None else _audit(*account.attested),
            "recipients": _recipients(account),
            "told": {"how": account.told.how, "hospitals": account.told.others, "names": None, "at": account.told.at},
            "exceptions": [exemptions.as_plain(one) for one in account.exemptions],
            "missing": account.missing,
            "steps": [_step(event) for event in account.steps],
        }
        for account in accounts
    ]
    return json.dumps(rows, indent=2, default=_plain) + "\n"


def as_csv(accounts: Iterable[Account]) -> str:
    """One row per revocation, after RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for account in accounts:
        writer.writerow({name: _cell(value) for name, value in (_ledger(account) | _flat(account)).items()})
    return text.getvalue()


def _flat(account: Account) -> dict[str, Any]:
    rounds, (digest, unlearning) = account.rounds, account.attested or ("", None)
    metrics, acceptance = (unlearning.metrics, accepted_by(unlearning)) if unlearning else ((), None)
    return {
        "rounds": None if rounds is None else len(rounds),
        "first_round": rounds[0].at if rounds else None,
        "last_round": rounds[-1].at if rounds else None,
        "versions": None if account.versions is None else [version.name for version in account.versions],
        "recipients": "; ".join(_named(account)),
        "attestation": digest,
        "outcome": unlearning.decision.outcome if unlearning else None,
        "metrics": "; ".join(f"{m.name}: {rounded(m.value)} ({rounded(m.low)} to {rounded(m.high)})" for m in metrics),
        "acceptance": "; ".join(acceptance.lines) if acceptance else None,
        "warning": acceptance.warning if acceptance else None,
        "told": account.told.how,
        "told_hospitals": account.told.others,
        "told_at": account.told.at,
        "exceptions": "; ".join(f"{one.exemption.article} {one.exemption.code}" for one in account.exemptions),
        "missing": "; ".join(f"{name}: {why}" for name, why in account.missing.items()),
    }


def _round(participation: Participation) -> dict[str, Any]:
    return {
        "campaign": participation.campaign,
        "step": participation.step,
        "use": participation.use,
        "from_weights": participation.weights,
        "at": participation.at,
    }


def _version(version: Version) -> dict[str, Any]:
    return {
        "version": version.name,
        "weights": version.weights,
        "received": version.received,
        "deleted": version.deleted,
        "coordinator_told": version.told,
    }


def _recipients(account: Account) -> list[dict[str, Any]] | None:
    """Who received each version that may remember, as the coordinator said; None: it has said so of none."""
    versions_with_lists = [(version, version.heard) for version in account.versions or () if version.heard is not None]
    if "recipients" in account.missing and not versions_with_lists:
        return None
    return [
        {
            "version": version.name,
            "weights": version.weights,
            "said_by_coordinator": recipient_list.at,
            "recipients": as_plain(recipient_list.recipients),
        }
        for version, recipient_list in versions_with_lists
    ]


def _named(account: Account) -> list[str]:
    """The recipients' names, each once."""
    lists = [version.heard for version in account.versions or () if version.heard is not None]
    return sorted({one.name or "not named" for recipient_list in lists for one in recipient_list.recipients})


def _audit(digest: str, said: Unlearning) -> dict[str, Any]:
    acceptance = accepted_by(said)
    return {
        "campaign": said.campaign,
        "attestation": digest,
        "issued": said.issued,
        "method": asdict(said.method),
        "retention": asdict(said.retention),
        "decision": asdict(said.decision),
        "acceptance": None if acceptance is None else {"says": acceptance.lines, "warning": acceptance.warning or None},
        "metrics": [asdict(metric) for metric in said.metrics],
        "limits": said.limits,
        "overruled": None if said.overruled is None else asdict(said.overruled),
    }


def _ledger(account: Account) -> dict[str, Any]:
    """The ledger's own fields."""
    standing = account.standing
    approvals = [later for before, later in pairwise(account.steps) if _approves(before, later)]

    return {
        "number": standing.number,
        "receipt": standing.receipt,
        "source": standing.source.kind,
        "kind": standing.kind,
        "scope": standing.scope,
        "policies": list(standing.policies),
        "legal_basis": standing.legal_basis,
        "requester": standing.requester,
        "identity_check": standing.identity_check,
        "steward": standing.steward,
        "steward_identity": standing.identity,
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
        "approved_by": approvals[-1].actor if approvals else None,
        "approver_identity": approvals[-1].identity if approvals else None,
    }


def _approves(before: Event, later: Event) -> bool:
    return before.state == "awaiting-approval" and later.state == "pending"


def _step(event: Event) -> dict[str, Any]:
    return {
        "at": event.at,
        "state": str(event.state),
        "actor": event.actor,
        "identity": event.identity,
        "signature": event.signature or None,
        "reason": event.reason,
        "due": event.due,
        "campaign": event.campaign,
    }


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, datetime):
        return value.isoformat()
    # A reason or a role is free text, and the reader's spreadsheet would run it.
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
