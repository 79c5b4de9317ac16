"""Withdrawals by FHIR become revocations in the ledger: the first of a patient, and later ones that still count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from client.consent.documents import Coding
from client.consent.rule import Deny, permitted
from client.intake.fhir.decisions.doubts import hold_alike
from client.intake.fhir.decisions.kinds import kind_of
from client.intake.fhir.decisions.weighing import KnownVersion
from client.intake.fhir.patients import PatientMap
from client.intake.fhir.store.consents import ConsentStore
from client.intake.fhir.store.tables import DecisionRow
from client.revocations.ledger import Ledger, Writing
from client.revocations.revocation import LIFTED, Request, nobody_asked
from client.revocations.rows.ledger_rows import of_patients


@dataclass(frozen=True, slots=True)
class Withdrawals:
    """Makes revocations of withdrawals at one site; attributes as in `Settling`."""

    ledger: Ledger
    store: ConsentStore
    policy: Coding
    purpose: Coding | None
    clock: Callable[[], datetime]

    def record(
        self,
        writing: Writing,
        decision: DecisionRow,
        key: str | None,
        patients: PatientMap,
        versions: Sequence[KnownVersion],
    ) -> bool:
        """Make a revocation of a withdrawal that is none yet; returns whether it became one.

        Where the consent names nobody, or nobody whom the map knows, there is nobody to exclude yet.
        """
        if decision.receipt is None or decision.recorded is not None or key is None:
            return False
        cohort_id = patients.cohort_id(key)
        source = self.store.source(writing.session, decision.receipt)
        kind = kind_of(next((v.document for v in versions if v.receipt == decision.receipt), {}))
        request = Request(source, decision.receipt, decision.received or self.clock(), kind=kind)
        if cohort_id is None:
            # Not recorded: the map may still name the patient themselves.
            hold_alike(self.ledger, writing, request, key, patients.alike(key))
            return False

        self.ledger.add(writing, request, [cohort_id], also_unknown=True)
        decision.recorded = self.clock()
        return True

    def hear_again(
        self,
        writing: Writing,
        decision: DecisionRow,
        cohort_id: str,
        withdrawal: KnownVersion | None,
        versions: Sequence[KnownVersion],
    ) -> None:
        """Hear another withdrawal of the same patient after the first.

        It is recorded where no revocation that they asked for stands any more: they may have been readmitted, or all
        that they asked for was refused, however it came. While one stands, a withdrawal of another consent is noted.
        """
        if withdrawal is None or decision.recorded is None or withdrawal.receipt == decision.receipt:
            return
        pseudonym = self.store.pseudonyms.of(self.ledger.spelled(cohort_id))
        before = [s for s in of_patients(writing.session, [pseudonym]) if s.state not in LIFTED]
        if all(nobody_asked(standing.receipt) for standing in before):
            decision.receipt = withdrawal.receipt
            decision.received = withdrawal.known_since
            decision.recorded = None
            return

        consents_heard = {standing.source.id for standing in before if standing.source.kind == "fhir"}
        for version in versions:
            if version.is_new and version.resource not in consents_heard and self._denies(version):
                source = self.store.source(writing.session, version.receipt)
                kind = kind_of(version.document)
                request = Request(source, version.receipt, version.known_since, kind=kind)
                self.ledger.add(writing, request, [cohort_id], also_unknown=True)

    def _denies(self, version: KnownVersion) -> bool:
        return isinstance(permitted([version.document], self.policy, self.purpose, self.clock()), Deny)
