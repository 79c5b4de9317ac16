"""What the ledger of revocations can be asked: patients by identifier, the state of receipts, their history."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from sqlalchemy import Engine, func, select

from client.database import PatientRow
from client.revocations.known import KnownPatients, NamedPatient
from client.revocations.revocation import OPEN, TO_FORGET, Event, RevocationStatus, State, Waiting, nobody_asked
from client.revocations.rows.ledger_rows import chunks, history_of, of_patients, standing_of
from client.revocations.rows.ledger_tables import RevocationEventRow, RevocationRow
from client.revocations.tombstones.file import TombstoneFile
from client.revocations.tombstones.pseudonyms import Pseudonyms
from client.revocations.tombstones.watch import TombstoneWatch
from client.settings import SiteFolder
from common.learning.data.identifiers.identifiers import IdentifierError
from common.learning.records import Subset
from common.platform.sql import reading

Clock = Callable[[], datetime]


def now_utc() -> datetime:
    """The site's clock."""
    return datetime.now(UTC)


class LedgerQueries:
    """Reads one site's ledger and tombstones; threads may share it."""

    def __init__(self, folder: SiteFolder, engine: Engine, pseudonyms: Pseudonyms, clock: Clock = now_utc) -> None:
        self.folder = folder
        self.engine = engine
        self.pseudonyms = pseudonyms
        self.clock = clock
        self.stones = TombstoneFile(folder.tombstones, pseudonyms.check)
        self._watch = TombstoneWatch(self.stones)
        self._known = KnownPatients(folder.root)
        self._waiting: tuple[int | None, Waiting] | None = None

    def stopped(self) -> frozenset[str]:
        """Pseudonyms of all patients who must not be used, according to the tombstones now.

        Raises:
            CohortError: the tombstones are damaged or missing; nothing may be used then.
        """
        return self._watch.now()

    def is_stopped(self, patient: str) -> bool:
        """Whether a patient, by identifier, must not be used; raises like `stopped`."""
        return self.pseudonyms.of(self.spelled(patient)) in self.stopped()

    def knows(self, patient: str) -> bool:
        """Whether a patient, by identifier, is in one of the site's sets."""
        return self.spelled(patient) in self._known.now(nobody_yet=True)

    def spelled(self, patient: str) -> str:
        """An identifier as the site spells it, else in normal form; a malformed one is returned unchanged."""
        try:
            return self.named(patient, exact=True).identifier
        except IdentifierError:
            return patient

    def named(self, patient: str, *, exact: bool = False) -> NamedPatient:
        """The patient that an identifier names: known, similar to a known one, or unknown; raises like `record`."""
        return self._known.named(patient, exact=exact)

    def is_near(self, text: str) -> bool:
        """Whether a text is, or resembles, an identifier of the site: such a text cannot be the heading of a list."""
        try:
            patient_of_text = self.named(text)
        except IdentifierError:
            return False

        return patient_of_text.is_known or patient_of_text.is_doubtful

    def standing(self, receipt: str | None = None) -> tuple[RevocationStatus, ...]:
        """All revocations, or those of a receipt, in the order in which they were recorded."""
        with reading(self.engine) as session:
            return tuple(standing_of(session, *([] if receipt is None else [RevocationRow.receipt == receipt])))

    def of_patient(self, patient: str) -> tuple[RevocationStatus, ...]:
        """The revocations of one patient, by identifier."""
        with reading(self.engine) as session:
            return tuple(of_patients(session, [self.pseudonyms.of(patient)]))

    def history(self, receipt: str) -> tuple[Event, ...]:
        """Every step of a receipt's revocations, in order."""
        with reading(self.engine) as session:
            return tuple(history_of(session, receipt))

    def waiting(self) -> Waiting:
        """The number of patients whom the model must still forget, and the first due date.

        Patients whose revocation awaits approval are not counted, since no campaign may take them up; their due dates
        count. A hold that the patient did not ask for has no due date.

        Raises:
            CohortError: the tombstones are damaged or missing.
        """
        # Damaged tombstones raise here: the coordinator must not hear that nobody waits.
        self.stopped()

        with reading(self.engine) as session:
            # Called every second; the number of the newest step tells whether anything has changed.
            newest_step = session.scalar(select(func.max(RevocationEventRow.id)))
            if self._waiting is not None and self._waiting[0] == newest_step:
                return self._waiting[1]
            open_revocations = standing_of(session, RevocationEventRow.state.in_([str(state) for state in OPEN]))

        # All revocations of a patient are followed together, so that each patient counts once.
        ready = {s.pseudonym for s in open_revocations if s.state in TO_FORGET}
        due_dates = (s.due for s in open_revocations if not (s.state is State.ON_HOLD and nobody_asked(s.receipt)))
        waiting = Waiting(len(ready), min(due_dates, default=None))
        self._waiting = (newest_step, waiting)

        return waiting

    def identifiers(self, pseudonyms: Collection[str] | None = None) -> dict[str, str]:
        """Identifiers of all who revoked, or of some pseudonyms, as far as they are known; for use within the site."""
        query = select(PatientRow.patient, PatientRow.sealed)
        with reading(self.engine) as session:
            if pseudonyms is None:
                of_revoked = PatientRow.patient.in_(select(RevocationRow.pseudonym))
                rows = [*session.execute(query.where(of_revoked))]
            else:
                rows = [
                    row
                    for some in chunks(pseudonyms)
                    for row in session.execute(query.where(PatientRow.patient.in_(some)))
                ]

        sealed_here = {row.patient for row in rows}
        # Whose identifier is not sealed here is looked for in the cohort, which takes longer.
        in_cohort = pseudonyms is None or not sealed_here.issuperset(pseudonyms)
        cohort = self._known.now(nobody_yet=True) if in_cohort else ()
        of_cohort = {self.pseudonyms.of(patient): patient for patient in cohort}
        return {
            **of_cohort,
            **{pseudonym: self.pseudonyms.unseal(pseudonym, sealed_name) for pseudonym, sealed_name in rows},
        }

    def known_patients(self) -> frozenset[str]:
        """Identifiers of all patients whom the site knows; raises like `known.known_patients`."""
        return frozenset(self._known.now(nobody_yet=True))

    def subsets_of(self, identifiers: Collection[str]) -> dict[str, Subset]:
        """The sets of known patients, by identifier as the site spells it."""
        cohort_now = self._known.now(nobody_yet=True)
        return {identifier: cohort_now[identifier] for identifier in identifiers if identifier in cohort_now}

    def subsets(self) -> dict[str, Subset]:
        """The sets of all patients whom the site knows, by pseudonym."""
        return {self.pseudonyms.of(patient): s for patient, s in self._known.now(nobody_yet=True).items()}

    def subset_of(self, patients: Collection[str]) -> dict[str, Subset]:
        """The sets of some patients, by identifier as the site spells it; without those whom it does not know."""
        cohort_now = self._known.now(nobody_yet=True)
        return {patient: cohort_now[patient] for patient in patients if patient in cohort_now}
