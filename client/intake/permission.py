"""Whether a patient's data may be used now, by tombstones, cohort and all stored consents; asked by identifier."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from client.consent.documents import Coding, read_consent
from client.consent.fields import UnreadableConsentError
from client.consent.rule import Answer, Deny, Permit, Unknown, permitted
from client.intake.fhir.decisions.weighing import KnownVersion
from client.intake.fhir.patients import PatientMap, PatientMapFile
from client.intake.fhir.question import policy_of, purpose_of
from client.intake.fhir.store.consents import ConsentStore
from client.revocations.ledger import Ledger
from client.revocations.rows.ledger_rows import chunks
from common.errors import InputError
from common.platform.sql import reading


class BeforeConsentError(InputError):
    """A revocation is dated before the patient's first consent."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Answers for one site; threads may share it.

    Attributes:
        patients: gives the current map to ids of the FHIR server.
        policy: policy code of the use, for the rule.
        purpose: the purpose claimed.
        needs_consent: whether use requires a consent on file. If the site receives no consents, it suffices that
            the steward registered the patient.
    """

    ledger: Ledger
    store: ConsentStore
    patients: Callable[[], PatientMap]
    policy: Coding
    purpose: Coding | None
    needs_consent: bool

    def of(self, patient: str) -> Answer:
        """Whether the patient's data may be used.

        Raises:
            InputError: a file of the site is damaged; nothing may be used then.
        """
        return self.of_all([patient])[patient]

    def of_all(self, patients: Collection[str]) -> dict[str, Answer]:
        """Whether the data of each patient may be used; raises like `of`."""
        # All checks run for everybody: an early answer would reveal who is known here.
        by_key = self._by_key(patients)
        versions: dict[str, list[KnownVersion]] = defaultdict(list)
        with reading(self.ledger.engine) as session:
            for some in chunks(by_key):
                for version in self.store.versions(session, some):
                    for patient in by_key[version.patient]:
                        versions[patient].append(version)

        return {patient: self._answer(patient, versions[patient]) for patient in patients}

    def _answer(self, patient: str, versions: Sequence[KnownVersion]) -> Answer:
        is_stopped = self.ledger.is_stopped(patient)
        is_known = self.ledger.knows(patient)
        if is_stopped:
            return Deny("revoked")
        if not is_known:
            return Unknown("this patient is not in the cohort")
        if not versions:
            return Unknown("no consent is on file") if self.needs_consent else Permit()
        documents = [version.document for version in versions]
        answer = permitted(documents, self.policy, self.purpose, self.ledger.clock())

        # The steward's list gives the reason; a document's own words must not leave here.
        return Unknown("the consents on file are not clear") if isinstance(answer, Unknown) else answer

    def check_after_consent(self, patients: Collection[str], received: datetime) -> None:
        """Refuse a revocation dated before the patient's first consent on file.

        Raises:
            BeforeConsentError: it is one.
        """
        with reading(self.ledger.engine) as session:
            first_dates = self.first_consents(session, patients)
        if any(received < moment for moment in first_dates.values()):
            raise BeforeConsentError(
                "dated before the patient's first consent", where="received", remedy="check the date"
            )

    def first_consents(self, session: Session, patients: Collection[str]) -> dict[str, datetime]:
        """When each of some patients signed their first consent on file; without those of whom there is none."""
        by_key = self._by_key(patients)
        first_dates = dict[str, datetime]()
        for some in chunks(by_key):
            for version in self.store.versions(session, some):
                moment = _signed(version)
                if moment is None:
                    continue
                for patient in by_key[version.patient]:
                    first_dates[patient] = min(moment, first_dates.get(patient, moment))

        return first_dates

    def _by_key(self, patients: Collection[str]) -> dict[str, list[str]]:
        """The given patients by the pseudonyms under which their consents lie."""
        patients_by_key: dict[str, list[str]] = defaultdict(list)
        keys_of = self.patients().keys
        for patient in patients:
            spellings = self.ledger.spelled(patient)
            # Consents may lie under the cohort's identifier as well as under those of the FHIR server.
            for key in {spellings, *keys_of(spellings)}:
                patients_by_key[self.ledger.pseudonyms.of(key)].append(patient)

        return patients_by_key


def permissions_of(ledger: Ledger) -> Permissions:
    """Those of a site whose ledger is open.

    Raises:
        ConfigError: `site.toml`.
    """
    settings = ledger.folder.settings()
    patient_map = settings.fhir.patient_map

    return Permissions(
        ledger=ledger,
        store=ConsentStore(ledger.engine, ledger.pseudonyms),
        # Read anew when the file changes, as services run for months.
        patients=PatientMapFile(ledger.folder.root / patient_map if patient_map else None).now,
        policy=policy_of(settings.fhir),
        purpose=purpose_of(settings.fhir),
        needs_consent=settings.fhir.enabled,
    )


def _signed(version: KnownVersion) -> datetime | None:
    try:
        span = read_consent(version.document).signing_date
    except UnreadableConsentError:
        return None

    return None if span is None else span.first
