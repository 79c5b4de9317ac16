"""What a site has on record about one receipt, as plain values for its dossier. Reads only; it names no patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from client.account.account import Account, Version
from client.revocations.exemptions import KEEPS
from client.revocations.ledger import Ledger
from client.revocations.rows.ledger_tables import AccessRow
from common.evidence.schema import rounded
from common.evidence.statements import Unlearning
from common.platform.dossier.attacks import Figure
from common.platform.dossier.page import Section, minute
from common.platform.sql import reading
from common.protocol.recipients import as_plain


def recipients(accounts: Sequence[Account], said: Unlearning | None) -> dict[str, Any]:
    """Who received what: this site by its own record, the others as the coordinator says."""
    versions_held = _held(accounts)
    unheard = [version.name for version in versions_held if version.heard is None]
    return {
        "the_site_itself": [
            {
                "version": version.name,
                "received": version.received,
                "deleted": version.deleted,
                "coordinator_told": version.told,
            }
            for version in versions_held
        ],
        "as_the_coordinator_says": [
            {
                "version": version.name,
                "said": version.heard.at,
                "recipients": as_plain(version.heard.recipients),
            }
            for version in versions_held
            if version.heard is not None
        ],
        "hospitals_in_the_attestation": sorted(
            set() if said is None else {*said.retention.sites, *(figures.site for figures in said.figures)}
        ),
        "told_of_the_withdrawal": [
            {"how": account.told.how, "hospitals": account.told.others, "at": account.told.at} for account in accounts
        ],
        "not_known_here": None
        if not unheard
        else f"who received {', '.join(unheard)}: recipients.json of the coordinator's dossier "
        "(fedforget-server dossier VERSION)",
    }


def _held(accounts: Sequence[Account]) -> list[Version]:
    """The versions that the site received of all of them, each once."""
    # Several patients of a receipt share the versions that saw them.
    return list({version.weights: version for account in accounts for version in account.versions or ()}.values())


def deletions(ledger: Ledger, accounts: Sequence[Account], campaigns: Collection[int]) -> dict[str, Any]:
    """How much of each kind was deleted here at the end of the campaigns that forgot, and which versions."""
    closings: list[dict[str, Any]] = []

    if ledger.folder.has_database:
        query = select(AccessRow).where(AccessRow.campaign.in_(campaigns), AccessRow.what == "closed")
        with reading(ledger.engine) as session:
            closings = [
                {"campaign": row.campaign, "at": row.at, "patients": row.patients, "deleted": row.purged}
                for row in session.scalars(query.order_by(AccessRow.id))
            ]

    versions = _held(accounts)
    return {
        "at_the_end_of_campaigns": closings,
        "versions_that_may_remember": len(versions),
        "versions_deleted": sum(version.deleted is not None for version in versions),
        "says": "a campaign deletes for all patients that it forgets together; the counts are of all of them",
    }


def training(accounts: Sequence[Account]) -> dict[str, Any]:
    """In how many steps the data changed weights here; null: the site keeps no record of rounds."""
    return {
        "revocations": len(accounts),
        "steps": [
            None if account.rounds is None else dict(sorted(Counter(str(one.use) for one in account.rounds).items()))
            for account in accounts
        ],
        "not_known_here": "studies of each hospital: training.json of the coordinator's dossier",
    }


def figures(said: Unlearning | None) -> list[Figure]:
    """The figures of the attestation, and those that it says were not measured."""
    if said is None:
        return []
    return [Figure(one.name, rounded(one.value), rounded(one.low), rounded(one.high), one.n) for one in said.metrics]


def sections(
    accounts: Sequence[Account], said: Unlearning | None, received: dict[str, Any], deleted: dict[str, Any]
) -> list[Section]:
    """The readable part."""
    standing = [
        (
            account.standing.kind,
            account.standing.legal_basis,
            minute(account.standing.received),
            minute(account.standing.due),
            account.standing.state,
            account.standing.reason or "-",
        )
        for account in accounts
    ]
    steps = [(minute(step.at), step.state, step.reason or "-") for account in accounts for step in account.steps]
    exceptions = [
        (
            one.exemption.article,
            one.exemption.code,
            KEEPS[one.exemption.keeps],
            minute(one.at),
            one.actor,
            one.reason,
        )
        for one in dict.fromkeys(one for account in accounts for one in account.exemptions)
    ]
    copies = [
        (row["version"], minute(row["received"]), minute(row["deleted"]), minute(row["coordinator_told"]))
        for row in received["the_site_itself"]
    ]
    purge_rows = [
        (row["campaign"], minute(row["at"]), ", ".join(f"{kind} {count}" for kind, count in row["deleted"].items()))
        for row in deleted["at_the_end_of_campaigns"]
    ]
    decision = ["No attestation is here."] if said is None else list(said.decision.reasons)
    linkage_lines = [
        f"Other hospitals: {one['how']}, {one['hospitals']}." for one in received["told_of_the_withdrawal"]
    ]
    if received["not_known_here"] is not None:
        linkage_lines.append(f"Not known here: {received['not_known_here']}.")
    recipient_rows = [
        (row["version"], one["kind"], one["name"] or "not named", _day(one["sent"]), _day(one["deletion_acknowledged"]))
        for row in received["as_the_coordinator_says"]
        for one in row["recipients"]
    ]

    return [
        Section(
            "The request and its decision",
            ("One row for each person of the receipt. File: record.json.",),
            ("kind", "legal basis", "received", "due", "state", "reason"),
            standing,
        ),
        Section(
            "Exceptions of GDPR Art. 17(3)",
            ("Decisions to keep something although erasure was asked for. File: record.json.",),
            ("exception", "reason code", "kept", "decided", "by", "reason"),
            exceptions,
        ),
        Section("Steps", (), ("at", "state", "reason"), steps),
        Section("What the attestation says", decision),
        Section(
            "Recipients",
            tuple(dict.fromkeys(linkage_lines)),
            ("version held here", "received", "deleted", "coordinator told"),
            copies,
        ),
        Section(
            "Recipients as the coordinator says",
            ("Everybody who received a version that may remember. File: recipients.json.",),
            ("version", "kind", "recipient", "sent", "deletion acknowledged"),
            recipient_rows,
        ),
        Section("Deletions", (f"{deleted['says'].capitalize()}.",), ("campaign", "at", "deleted"), purge_rows),
    ]


def _day(moment: str | None) -> str:
    return minute(None if moment is None else datetime.fromisoformat(moment))
