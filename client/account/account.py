"""Everything that a site knows about each revocation, e.g. for a supervisory authority.

What the site cannot know is None; `missing` says why, and who knows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from client.cohort.participation import Participation, versions_that_saw
from client.cohort.recipients import Heard, heard_of
from client.database import HoldingRow
from client.evidence.event_log import SiteLog
from client.revocations.exemptions import Exempted, exemptions_of
from client.revocations.ledger import Ledger
from client.revocations.linkage.status import LinkageStatus, linkage_statuses
from client.revocations.linkage.tokens import Linkage
from client.revocations.revocation import Event, RevocationStatus, State
from common.evidence.statements import Unlearning
from common.platform.sql import reading

_FORGOTTEN = (State.UNLEARNED, State.RETRAINED)
_NO_CAMPAIGN = {
    State.EXCLUDED: "nobody of this identifier is in the site's data: no campaign was needed",
    State.EVALUATION_ONLY: "the model never learned from the patient: no campaign was needed",
    State.REFUSED: "the revocation was refused: no campaign followed",
    State.USE_STOPPED: "an opt-out stops use and leaves the model as it was: no campaign followed",
}


@dataclass(frozen=True, slots=True)
class Version:
    """A model version that the site held, by the digest of its weights.

    Attributes:
        deleted: when it was deleted here; None while it is here.
        told: when the coordinator was told that it is deleted.
        heard: who received it, as the coordinator says; None: it has not said so.
    """

    name: str
    weights: str
    received: datetime
    deleted: datetime | None
    told: datetime | None
    heard: Heard | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One revocation with everything that belongs to it.

    Attributes:
        standing: its current state.
        steps: its steps since receipt.
        rounds: rounds in which the patient's data changed weights here, earliest first; None: no record is kept.
        versions: versions held here that resulted from such a round or a later one; None like `rounds`.
        attested: SHA-256 and content of the attestation of the revocation's campaign that the site signed.
        told: what other hospitals were told.
        exemptions: decisions to keep something by an exception of GDPR Art. 17(3).
    """

    standing: RevocationStatus
    steps: Sequence[Event]
    rounds: Sequence[Participation] | None
    versions: Sequence[Version] | None
    attested: tuple[str, Unlearning] | None
    told: LinkageStatus
    exemptions: Sequence[Exempted] = ()

    @property
    def missing(self) -> dict[str, str]:
        """Why the site cannot provide a field, by its name in the export."""
        return dict(self._missing())

    def _missing(self) -> Iterator[tuple[str, str]]:
        if self.rounds is None:
            for name in ("rounds", "versions"):
                yield name, "this site keeps no record of rounds"

        if self.attested is None:
            yield "audit", _no_audit(self.standing)
        if self.versions is None or (self.rounds and not self.versions):
            yield "recipients", "the coordinator knows who else held a version: fedforget-server models show VERSION"
        elif unheard := [version.name for version in self.versions if version.heard is None]:
            names = ", ".join(unheard)
            yield (
                "recipients",
                f"the coordinator has not said who received {names}: fedforget-server models show VERSION",
            )
        if self.told.how == "told":
            yield "told.names", "no hospital says whether it knows the patient: that would tell who is treated where"


def accounts_of(ledger: Ledger, linkage: Linkage | None, receipt: str | None = None) -> list[Account]:
    """Every revocation of a site, or of a receipt, in the order in which they were recorded.

    Args:
        linkage: from `read_linkage`.
    """
    statuses = ledger.standing(receipt)
    steps = defaultdict[int, list[Event]](list)
    for one in dict.fromkeys(standing.receipt for standing in statuses):
        for event in ledger.history(one):
            steps[event.revocation].append(event)

    linkages = linkage_statuses(ledger, linkage, statuses)
    with reading(ledger.engine) as session:
        exemptions = exemptions_of(session, [standing.number for standing in statuses])
    if not ledger.folder.has_database:
        return [
            Account(s, steps[s.number], None, None, None, t, exemptions.get(s.number, ()))
            for s, t in zip(statuses, linkages, strict=True)
        ]
    with reading(ledger.engine) as session:
        versions_held = _held(session)
        # A site without settings has no key and has signed nothing.
        log = SiteLog(ledger.folder, ledger.engine, ledger.clock)
        attestations = log.attestations(session) if ledger.folder.settings_file.exists() else {}

    accounts = []
    for standing, others in zip(statuses, linkages, strict=True):
        rounds = versions_that_saw(ledger.engine, [standing.pseudonym])
        # A campaign without a version has no attestation.
        audit = attestations.get(standing.campaign or 0) if standing.state in _FORGOTTEN else None
        versions = _that_may_remember(standing, rounds, versions_held)
        decisions = exemptions.get(standing.number, ())
        accounts.append(Account(standing, steps[standing.number], rounds, versions, audit, others, decisions))

    return accounts


def versions_that_may_remember(ledger: Ledger, standing: RevocationStatus) -> tuple[Version, ...]:
    """The versions of one revocation's account."""
    if not ledger.folder.has_database:
        return ()
    with reading(ledger.engine) as session:
        versions_held = _held(session)
    return _that_may_remember(standing, versions_that_saw(ledger.engine, [standing.pseudonym]), versions_held)


def _held(session: Session) -> list[Version]:
    lists_by_digest = heard_of(session)
    return [
        Version(row.name, row.digest, row.received, row.purged, row.acknowledged, lists_by_digest.get(row.digest))
        for row in session.scalars(select(HoldingRow).order_by(HoldingRow.received, HoldingRow.digest))
    ]


def _that_may_remember(
    standing: RevocationStatus, rounds: Sequence[Participation], held: Sequence[Version]
) -> tuple[Version, ...]:
    """Versions after the first of these rounds and before the one that has forgotten."""
    if not rounds:
        return ()
    since = rounds[0].at
    until = standing.since if standing.state in _FORGOTTEN else None
    # The version that has forgotten is none of those that may remember.
    later = (version for version in held if version.received > since and version.weights != standing.model)

    return tuple(version for version in later if until is None or version.received <= until)


def _no_audit(standing: RevocationStatus) -> str:
    if standing.state in _NO_CAMPAIGN:
        return _NO_CAMPAIGN[standing.state]
    if standing.state in _FORGOTTEN:
        where = f": fedforget-server attestation show {standing.campaign}" if standing.campaign else ""
        return f"no attestation of its campaign was signed here so far; the coordinator knows why{where}"

    if standing.state is State.READMITTED and standing.campaign is None:
        return "the patient takes part again: no campaign had followed"
    if standing.state is State.ESCALATED:
        where = f"fedforget-server campaign show {standing.campaign}"
        return f"the campaign published no version; the coordinator keeps what it measured: {where}"

    return "no campaign has ended for it so far"
