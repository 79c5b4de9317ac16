"""Consents that nobody can judge: use stops of the patient, and of patients whose identifiers look like theirs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from client.consent.kinds import NOT_STATED
from client.intake.fhir.decisions.doubts import hold_alike
from client.intake.fhir.decisions.weighing import KnownVersion
from client.intake.fhir.patients import PatientMap
from client.intake.fhir.store.consents import ConsentStore
from client.intake.fhir.store.values import StewardItem
from client.revocations.known import known_patients
from client.revocations.ledger import Ledger, Writing
from client.revocations.look_alikes.doubtful import undecided
from client.revocations.look_alikes.ending_holds import end_holds
from client.revocations.revocation import Request, State, consent_of, doubt_about, is_doubt
from client.revocations.rows.ledger_rows import of_patients

_SITE_FILE = "site.json"
LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class Unclear:
    """What is unclear about the consents of one patient.

    Attributes:
        key: the patient's name, as the store has it.
        cohort_id: their identifier; None if the patient map does not name them.
        alike: patients of the cohort whose names in the map look like `key`.
        last: the newest version.
        by_request: whether somebody asked to revoke one of them, so that use must stop whoever it is.
    """

    key: str = field(repr=False)
    cohort_id: str | None = field(repr=False)
    alike: frozenset[str] = field(repr=False)
    reason: str
    last: KnownVersion
    by_request: bool = False

    def pseudonym(self, ledger: Ledger) -> str:
        """Under which the ledger has the patient."""
        return ledger.pseudonyms.of(self.key if self.cohort_id is None else ledger.spelled(self.cohort_id))


def hold_unclear(ledger: Ledger, writing: Writing, unclear: Unclear) -> None:
    """Stop use of the patient, or of everybody whose identifier looks like theirs, until a person has looked."""
    last = unclear.last
    number = ledger.pseudonyms.receipt("doubt", last.resource, last.number)
    source, receipt = doubt_about(last.resource, last.number, number)
    hold = unclear.reason[:LONGEST_REASON]
    request = Request(source, receipt, last.received, legal_basis=NOT_STATED, hold=hold)

    if unclear.cohort_id is None:
        holds = _held(ledger, writing, unclear)
        hold_alike(ledger, writing, holds or request, unclear.key, unclear.alike)
    # A stranger is not held: most patients of a hospital take part in nothing here.
    elif unclear.by_request or ledger.is_near(unclear.cohort_id):
        ledger.add(writing, request, [unclear.cohort_id], also_unknown=True)


def end_unclear(ledger: Ledger, writing: Writing, unclear: Unclear, reason: str) -> None:
    """End the holds of `hold_unclear`, as the consents have become clear."""
    end_holds(ledger, writing, unclear.pseudonym(ledger), reason)


def steward_list(ledger: Ledger, store: ConsentStore, patients: PatientMap) -> tuple[StewardItem, ...]:
    """What a person must look at: of all that the rule left open, what may concern patients of the site.

    Raises:
        InputError: the patient map, or a file of the site.
    """
    folder = ledger.folder.root
    patients_here = known_patients(folder) if (folder / _SITE_FILE).exists() else {}
    standing = ledger.standing()
    waiting = undecided(standing)
    decision_by_patient = {
        (consent_of(s.source), s.source.version)
        for s in standing
        if is_doubt(s.receipt) and s.state is not State.ON_HOLD
    }
    items = [item for item in store.steward_list() if (item.consent, item.version) not in decision_by_patient]
    items += store.gone()

    def concerns(key: str) -> bool:
        cohort_id = patients.cohort_id(key)
        if cohort_id in patients_here or (cohort_id is not None and ledger.knows(cohort_id)):
            return True
        return ledger.pseudonyms.of(key if cohort_id is None else ledger.spelled(cohort_id)) in waiting

    return tuple(item for item in items if item.patient is None or concerns(item.patient))


def _held(ledger: Ledger, writing: Writing, unclear: Unclear) -> Request | None:
    """The hold on the name that an earlier version has caused, under which others are held as well."""
    for standing in of_patients(writing.session, [unclear.pseudonym(ledger)]):
        if is_doubt(standing.receipt) and standing.state is State.ON_HOLD:
            request = Request(standing.source, standing.receipt, standing.received, legal_basis=NOT_STATED)
            return replace(request, hold=standing.reason)

    return None
