"""Which patient of the cohort a consent is addressed to: it may name them by a reference and by identifiers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from client.consent.documents import TWO_PATIENTS
from client.intake.fhir.patients import PatientMap
from client.intake.fhir.resources import IncomingConsent
from client.revocations.tombstones.pseudonyms import Pseudonyms
from common.learning.data.identifiers.identifiers import IdentifierError, normal


@dataclass(frozen=True, slots=True)
class Addressing:
    """Finds patients by any of their names.

    Attributes:
        patients: the map as it stands now.
        knows: whether the cohort has a patient.
        looks_alike: whether an identifier looks like a patient's without being it.
    """

    patients: PatientMap
    knows: Callable[[str], bool]
    looks_alike: Callable[[str], bool]
    pseudonyms: Pseudonyms

    def is_of(self, pseudonym: str, keys: Sequence[str]) -> bool:
        """Whether a pseudonym is a patient's, who is given by some of their names."""
        names = self.named(keys)
        theirs = {self.patients.normal(key) for key in keys}
        theirs |= {key for cohort_id in names.values() for key in self.patients.keys(cohort_id)}

        return pseudonym in {self.pseudonyms.of(key) for key in theirs}

    def named(self, keys: Sequence[str]) -> dict[str, str]:
        """Of a patient's names the first for each patient of the cohort that they mean; one, if they agree."""
        patient_of_key = dict[str, str]()

        for key in self._usable(keys):
            cohort_id = self.patients.cohort_id(key)
            # Whom the hospital's own map names is known, imported or not.
            is_known = cohort_id is not None and (self.patients.by_key is not None or self.knows(cohort_id))
            if is_known and cohort_id not in patient_of_key.values():
                patient_of_key[key] = str(cohort_id)

        return patient_of_key

    def addressed(self, version: IncomingConsent) -> list[IncomingConsent]:
        """With the name first under which the patient is known, once for each if the names are of several patients."""
        keys = self._usable(version.patients)
        names = [*self.named(version.patients)]
        if not names and len(keys) > 1 and self.patients.by_key is None:
            # Where no name is known, the hold shall be on the patient whose identifier one of them looks like.
            keys.sort(key=lambda key: not self.looks_alike(key))
        if len(names) < 2:
            # The other names are kept: a request to revoke the consent may use them.
            return [dataclasses.replace(version, patients=tuple(dict.fromkeys([*names, *keys])))]

        document = {**version.document, TWO_PATIENTS: True}

        return [
            dataclasses.replace(
                version,
                patients=(key,),
                document=document,
                # Rows are told apart by consent, version and digest: one version for two patients needs two digests.
                digest=hashlib.sha256(f"{version.digest}{self.pseudonyms.of(key)}".encode()).hexdigest(),
            )
            for key in names
        ]

    def _usable(self, keys: Sequence[str]) -> list[str]:
        normal_keys = dict.fromkeys(self.patients.normal(key) for key in keys)
        return [key for key in normal_keys if self.patients.by_key is not None or _can_be(key)]


def dated(version: IncomingConsent, now: datetime) -> IncomingConsent:
    """With the time of arrival where the sender gave none to order versions by."""
    meta = version.document.get("meta", {})
    if not isinstance(meta, dict) or "lastUpdated" in meta:
        return version
    document_now = {**version.document, "meta": {**meta, "lastUpdated": now.isoformat(timespec="milliseconds")}}

    return dataclasses.replace(version, updated=now, document=document_now)


def _can_be(key: str) -> bool:
    """Whether a name can be an identifier; a shortened number is one, as somebody may be meant by it."""
    try:
        normal(key, shortened=True)
    except IdentifierError:
        return False

    return True
