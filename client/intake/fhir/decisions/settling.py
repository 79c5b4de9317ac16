"""Weighs the consents of patients: a withdrawal becomes a revocation, and use stops while nobody can tell.

Recorded and marked as weighed in one transaction: a process that is killed does it again, and nothing is counted twice.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from client.consent.documents import REVOKED, Coding
from client.consent.rule import SILENT, Deny, Permit, Unknown
from client.intake.fhir.decisions.decision_rows import brought_up_to_date
from client.intake.fhir.decisions.unclear import Unclear, end_unclear, hold_unclear
from client.intake.fhir.decisions.weighing import KnownVersion, Weighed, silent_of, weigh
from client.intake.fhir.decisions.withdrawals import Withdrawals
from client.intake.fhir.patients import PatientMap
from client.intake.fhir.store.consents import ConsentStore
from client.intake.fhir.store.keys import move_to_known
from client.intake.fhir.store.silence import in_words, set_silent
from client.intake.fhir.store.tables import DecisionRow
from client.revocations.known import known_patients
from client.revocations.ledger import Ledger, Writing

_SITE_FILE = "site.json"
_AT_ONCE = 200
"""Patients in one transaction."""
_UNWEIGHED = "a consent cannot be handled: look at it in the hospital's own system"

_log = logging.getLogger("fedforget.fhir")


@dataclass(frozen=True, slots=True)
class Settling:
    """Weighs what the store has at one site; attributes as in `Intake`."""

    ledger: Ledger
    store: ConsentStore
    patients: Callable[[], PatientMap]
    policy: Coding
    purpose: Coding | None
    clock: Callable[[], datetime]
    _asked_of: list[tuple[PatientMap, frozenset[str]]] = field(default_factory=list, init=False, repr=False)
    """The map and the cohort in which those who wait were looked up last."""

    @property
    def _withdrawals(self) -> Withdrawals:
        return Withdrawals(self.ledger, self.store, self.policy, self.purpose, self.clock)

    def settle(self) -> int:
        """Weigh all that was not weighed, and record what waits; returns how many withdrawals became revocations.

        Raises:
            InputError: the patient map, or a file of the site.
        """
        patients = self.patients()
        since = self.store.baseline()
        cohort = self._cohort()
        # Consents that lie under a name nobody knew may have one that is known by now.
        self._move_to_known(patients)
        patients_to_weigh = {*self.store.unweighed()}

        if self._asked_of == [(patients, cohort)]:
            newly_named = set[str]()
        else:
            # Many of a hospital's patients may be in no cohort: they are looked up again only in another map or cohort.
            waiting = self.store.waiting().items()
            newly_named = {p for p, key in waiting if patients.cohort_id(key) is not None or patients.alike(key)}
            newly_named |= {p for p, key in self.store.unclear().items() if self._looks_alike(patients, key)}

        everybody = sorted(patients_to_weigh | newly_named | self._in_doubt(patients, cohort))
        revocation_count = self._settle_all(everybody, patients, since)
        self._asked_of[:] = [(patients, cohort)]

        return revocation_count

    def settle_these(self, pseudonyms: Collection[str]) -> None:
        """Settle these patients alone: a sender does not wait for a pull that has kept a million others."""
        patients = self.patients()
        since = self.store.baseline()
        self._settle(pseudonyms, patients, since)

    def weigh_again(self) -> int:
        """Ask again about patients whose consents permitted use, or were silent: a period may have begun or ended.

        Returns how many denials became revocations; they count as received now.

        Raises:
            InputError: the patient map, or a file of the site.
        """
        patients = self.patients()
        relying = self.store.relying()
        # Only patients of the cohort: nobody else's data can be used.
        cohort = self.ledger.known_patients() if relying else frozenset()
        keys = {key for cohort_id in cohort for key in patients.keys(cohort_id)}
        everybody = sorted({self.store.pseudonyms.of(key) for key in keys} & relying)

        return self._settle_all(everybody, patients, self.store.baseline(), by_time=True)

    def _cohort(self) -> frozenset[str]:
        folder = self.ledger.folder.root
        return frozenset(known_patients(folder)) if (folder / _SITE_FILE).exists() else frozenset()

    def _looks_alike(self, patients: PatientMap, key: str) -> bool:
        if patients.by_key is not None:
            return bool(patients.alike(key))
        return self.ledger.is_near(key) and not self.ledger.knows(key)

    def _move_to_known(self, patients: PatientMap) -> None:
        keys = self.ledger.known_patients() if patients.by_key is None else patients.by_key
        pseudonyms = {self.store.pseudonyms.of(key) for key in keys} if self.store.has_other_keys() else set()
        if pseudonyms:
            with self.ledger.writing() as writing:
                move_to_known(writing.session, pseudonyms)

    def _in_doubt(self, patients: PatientMap, cohort: Collection[str]) -> set[str]:
        """Whose consents nobody could judge and who is in the cohort by now; who is held already is not held twice."""
        unknown = self.store.unknown()
        keys = {key for patient in cohort for key in patients.keys(patient)} if unknown else set()

        return {pseudonym for key in keys if (pseudonym := self.store.pseudonyms.of(key)) in unknown}

    def _settle_all(
        self, pseudonyms: Sequence[str], patients: PatientMap, since: datetime | None, *, by_time: bool = False
    ) -> int:
        return sum(
            self._settle(pseudonyms[start : start + _AT_ONCE], patients, since, by_time=by_time)
            for start in range(0, len(pseudonyms), _AT_ONCE)
        )

    def _settle(
        self, pseudonyms: Collection[str], patients: PatientMap, since: datetime | None, *, by_time: bool = False
    ) -> int:
        """Weigh what some patients have, in one transaction; returns how many withdrawals became revocations.

        Where that fails each is weighed alone, and who cannot be weighed is on hold. With `by_time` no version is new.
        """
        silent: Counter[str] = Counter()

        try:
            with self.ledger.writing() as writing:
                revocation_count = sum(
                    self._settle_one(writing, patient, patients, since, silent, by_time=by_time)
                    for patient in pseudonyms
                )
        except Exception as error:  # noqa: BLE001 - whatever one consent provokes must not cost the others
            _log.error("consents cannot be weighed together (%s): one patient after another", type(error).__name__)
            # The transaction was rolled back: what it counted is counted again below.
            silent.clear()
            revocation_count = self._settle_each(pseudonyms, patients, since, silent, by_time=by_time)

        if silent:
            _log.info("consents that say nothing of this use: %s", in_words(silent))
        return revocation_count

    def _settle_each(
        self,
        pseudonyms: Collection[str],
        patients: PatientMap,
        since: datetime | None,
        silent: Counter[str],
        *,
        by_time: bool,
    ) -> int:
        revocation_count = 0
        for patient in pseudonyms:
            try:
                with self.ledger.writing() as writing:
                    revocation_count += self._settle_one(writing, patient, patients, since, silent, by_time=by_time)
            except Exception as error:  # noqa: BLE001 - as above; where the site itself fails, so does the hold
                _log.error("the consents of a patient cannot be weighed (%s): they are on hold", type(error).__name__)
                with self.ledger.writing() as writing:
                    self._hold_unweighed(writing, patient, patients)

        return revocation_count

    def _hold_unweighed(self, writing: Writing, patient: str, patients: PatientMap) -> None:
        now = self.clock()
        session = writing.session
        answer = Unknown(_UNWEIGHED)
        versions = self.store.versions(session, {patient})
        brought_up_to_date(session, patient, versions, Weighed(answer, None), now)
        # Marked as weighed all the same, or every run would fail at it again.
        self.store.mark_weighed(session, [patient], now)
        key = self.store.identifier(session, patient)
        if key is not None:
            hold_unclear(self.ledger, writing, _unclear(patients, key, answer, versions))

    def _settle_one(
        self,
        writing: Writing,
        patient: str,
        patients: PatientMap,
        since: datetime | None,
        silent: Counter[str],
        *,
        by_time: bool = False,
    ) -> bool:
        now = self.clock()
        session = writing.session
        key = self.store.identifier(session, patient)
        cohort_id = patients.cohort_id(key) if key is not None else None
        # Merged records are weighed together: a person's consents may lie under any of their names.
        everybody = {patient}
        if cohort_id is not None:
            everybody |= {self.store.pseudonyms.of(other) for other in patients.keys(cohort_id)}
        versions = self.store.versions(session, everybody)
        weighing = weigh(versions, self.policy, self.purpose, since=since, at=now)
        row = session.get(DecisionRow, patient)
        unheard = row is None or row.receipt is None
        if (by_time or unheard) and weighing.withdrawal is None and isinstance(weighing.answer, Deny):
            # A denial in a version that was weighed before: its period has begun, or it was on hold until now.
            last = max(versions, key=lambda version: version.moment)
            weighing = Weighed(weighing.answer, dataclasses.replace(last, updated=now, received=now))
        own = versions if everybody == {patient} else self.store.versions(session, [patient])
        silent.update(set_silent(session, patient, silent_of(own, self.policy, self.purpose, at=now)))
        decision = brought_up_to_date(session, patient, versions, weighing, now)
        if cohort_id is not None:
            self._withdrawals.hear_again(writing, decision, cohort_id, weighing.withdrawal, versions)
        recording = self._withdrawals.record(writing, decision, key, patients, versions)
        self.store.mark_weighed(session, [patient], now)

        if key is not None:
            self._hold_or_end(writing, patients, key, weighing.answer, versions)
        return recording

    def _hold_or_end(
        self,
        writing: Writing,
        patients: PatientMap,
        key: str,
        answer: Permit | Deny | Unknown,
        versions: Sequence[KnownVersion],
    ) -> None:
        """Stop use while nobody can tell whether it is permitted, until the steward or clearer consents say so."""
        unclear = _unclear(patients, key, answer, versions)
        if not isinstance(answer, Unknown):
            reason = "the consents permit use" if isinstance(answer, Permit) else "a withdrawal came in its place"
            end_unclear(self.ledger, writing, unclear, reason)
        elif answer != SILENT:
            hold_unclear(self.ledger, writing, unclear)


def _unclear(
    patients: PatientMap, key: str, answer: Permit | Deny | Unknown, versions: Sequence[KnownVersion]
) -> Unclear:
    return Unclear(
        key,
        patients.cohort_id(key),
        patients.alike(key),
        "" if isinstance(answer, Permit) else answer.reason,
        max(versions, key=lambda version: version.moment),
        by_request=any(REVOKED in version.document for version in versions),
    )
