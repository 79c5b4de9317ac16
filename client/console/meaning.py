"""What a registration will mean, before it is confirmed: whom it stops, and which rounds and versions hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from client.cohort.participation import versions_that_saw
from client.consent.kinds import Kind
from client.database import HoldingRow
from client.revocations.deadline import first_due
from client.revocations.ledger import Ledger
from client.revocations.revocation import LIFTED, State
from client.revocations.rows.ledger_rows import of_patients
from common.learning.records import Subset
from common.platform.sql import reading


@dataclass(frozen=True, slots=True)
class Meaning:
    """What will happen.

    Attributes:
        known: patients of the site; `unknown` are not, `doubtful` may be one of several.
        trained: of the known, those from whom the model may have learned.
        revoked: patients who have revoked before.
        rounds: rounds in which their data changed the model.
        versions: model versions here that may remember them.
        after: states of the known patients after the confirmation.
    """

    patients: int
    known: int
    unknown: int
    doubtful: int
    trained: int
    revoked: int
    rounds: int
    versions: int
    due: datetime
    after: Counter[State]


def meaning_of(ledger: Ledger, patients: Collection[str], kind: Kind, received: datetime) -> Meaning:
    """What a registration of these identifiers will mean; raises like `Ledger.record` for malformed ones."""
    people = {one.identifier: one for one in map(ledger.named, patients)}
    known_identifiers = [identifier for identifier, one in people.items() if one.is_known]
    pseudonyms = [ledger.pseudonyms.of(identifier) for identifier in known_identifiers]
    subsets = ledger.subsets_of(known_identifiers)
    trained_count = sum(subset is Subset.TRAIN for subset in subsets.values())
    rounds = versions_that_saw(ledger.engine, pseudonyms) if ledger.folder.has_database else ()
    versions = 0

    with reading(ledger.engine) as session:
        revoked_pseudonyms = {one.pseudonym for one in of_patients(session, pseudonyms) if one.state not in LIFTED}
        if rounds:
            later = select(func.count()).select_from(HoldingRow).where(HoldingRow.received > rounds[0].at)
            versions = session.scalar(later.where(HoldingRow.purged.is_(None))) or 0

    return Meaning(
        patients=len(people),
        known=len(known_identifiers),
        unknown=sum(not one.is_known and not one.is_doubtful for one in people.values()),
        doubtful=sum(one.is_doubtful for one in people.values()),
        trained=trained_count,
        revoked=len(revoked_pseudonyms),
        rounds=len({(entry.campaign, entry.step) for entry in rounds}),
        versions=versions,
        due=first_due(received, ledger.days_to_answer),
        after=Counter(ledger.classified(subset, kind) for subset in subsets.values()),
    )
