"""Whether a patient's data may be used now, by tombstones, cohort and all stored consents; asked by identifier."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from client.consent.documents import Coding, UnreadableConsentError, read_consent
from client.consent.rule import Answer, Deny, Permit, Unknown, permitted
from client.intake.fhir.patients import PatientMap, PatientMapFile
from client.intake.fhir.question import policy_of, purpose_of
from client.intake.fhir.store.consents import ConsentStore
from client.intake.fhir.weighing import KnownVersion
from client.revocations.ledger import Ledger
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
        # All checks run for everybody: an early answer would reveal who is known here.
        is_stopped = self.ledger.is_stopped(patient)
        is_known = self.ledger.knows(patient)
        versions = self._versions(patient)
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
        for patient in patients:
            dates = [signed for version in self._versions(patient) if (signed := _signed(version)) is not None]
            if dates and received < min(dates):
                raise BeforeConsentError(
                    "dated before the patient's first consent", where="received", remedy="check the date"
                )

    def _versions(self, patient: str) -> tuple[KnownVersion, ...]:
        pseudonyms = self.ledger.pseudonyms
        patient = self.ledger.spelled(patient)
        keys = {patient, *self.patients().keys(patient)}
        with reading(self.ledger.engine) as session:
            return self.store.versions(session, [pseudonyms.of(key) for key in keys])


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
        patients=PatientMapFile(ledger.folder.root / patient_map if patient_map else None).now,
        policy=policy_of(settings.fhir),
        purpose=purpose_of(settings.fhir),
        needs_consent=settings.fhir.enabled,
    )


def _signed(version: KnownVersion) -> datetime | None:
    try:
        signed = read_consent(version.document).signed
    except UnreadableConsentError:
        return None

    return None if signed is None else signed.first
