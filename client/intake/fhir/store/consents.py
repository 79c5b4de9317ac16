"""Consents by version in the site's database, what was decided of them, and how far a FHIR server was read.

A version is on the disk before its receipt is given, and is never changed. Patients stand in it under pseudonyms; their
identifiers are sealed in one table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine, func, or_, select, update
from sqlalchemy.orm import Session

from client.consent.rule import SILENT
from client.consent.versions import without_meta
from client.database import PatientRow
from client.intake.fhir.decisions.weighing import KnownVersion
from client.intake.fhir.resources import IncomingConsent
from client.intake.fhir.store.keys import add_other_keys
from client.intake.fhir.store.listings import REASON, gone_since
from client.intake.fhir.store.row_rules import age_of, moment_of, waits_for_steward, why_unclear, written_again
from client.intake.fhir.store.tables import ConsentRow, DecisionRow, OtherKeyRow, ServerRow
from client.intake.fhir.store.values import Kept, Newest, Progress, StewardItem, Tally
from client.revocations.revocation import Source
from client.revocations.tombstones.pseudonyms import Pseudonyms
from common.platform.sql import transaction

AnswerName = Literal["permit", "deny", "unknown"]


@dataclass(frozen=True, slots=True)
class ConsentStore:
    """The tables, in the database behind `engine`."""

    engine: Engine
    pseudonyms: Pseudonyms

    def keep(self, incoming: Sequence[IncomingConsent], at: datetime) -> tuple[Kept, ...]:
        """Write down versions, all or none; one that is known gets the receipt that it got first."""
        with transaction(self.engine) as session:
            return tuple(self._keep(session, version, at) for version in incoming)

    def newest(self, resource: str) -> Newest | None:
        """The newest version of a consent."""
        with transaction(self.engine) as session:
            rows = [*session.scalars(select(ConsentRow).where(ConsentRow.resource == resource))]
            if not rows:
                return None
            # A version without a number, as of a revocation by request, is the newest only until the next one comes.
            is_numbered = all(row.version.isdecimal() for row in rows)
            row = max(rows, key=age_of if is_numbered else moment_of)
            version = Kept(row.resource, row.version, row.patient, row.receipt, row.received, is_new=False)

            return Newest(version, row.document, max(map(moment_of, rows)))

    def known_versions(self, resource: str) -> dict[str, datetime]:
        """The versions of a consent that are known, and when each was written."""
        with transaction(self.engine) as session:
            rows = session.scalars(select(ConsentRow).where(ConsentRow.resource == resource))
            return {row.version: moment_of(row) for row in rows}

    def resources(self) -> frozenset[str]:
        """Ids of all consents."""
        with transaction(self.engine) as session:
            return frozenset(session.scalars(select(ConsentRow.resource).distinct()))

    def has_other_keys(self) -> bool:
        """Whether some patients were given by several names."""
        with transaction(self.engine) as session:
            return session.scalar(select(OtherKeyRow.patient).limit(1)) is not None

    def patients_of(self, resource: str) -> frozenset[str]:
        """Pseudonyms under which the versions of a consent lie; several, if it names several patients."""
        with transaction(self.engine) as session:
            rows = session.scalars(select(ConsentRow.patient).where(ConsentRow.resource == resource).distinct())
            return frozenset(rows)

    def is_also(self, patient: str, keys: Collection[str]) -> bool:
        """Whether consents of a patient, by pseudonym, give one of `keys` as another name of theirs."""
        others = [self.pseudonyms.of(key) for key in keys]
        with transaction(self.engine) as session:
            other_names = select(OtherKeyRow).where(OtherKeyRow.patient == patient, OtherKeyRow.other.in_(others))
            return session.scalar(other_names.limit(1)) is not None

    def key_of(self, patient: str) -> str | None:
        """The name under which a patient's consents lie; None where a consent names nobody."""
        with transaction(self.engine) as session:
            return self.identifier(session, patient)

    def unweighed(self) -> tuple[str, ...]:
        """Pseudonyms of those with a version that was not weighed."""
        with transaction(self.engine) as session:
            return tuple(session.scalars(select(ConsentRow.patient).where(ConsentRow.weighed.is_(None)).distinct()))

    def has_withdrawn(self, kept: Kept) -> bool:
        """Whether it is the version for which a patient's withdrawal is recorded, or is to be."""
        with transaction(self.engine) as session:
            row = session.get(DecisionRow, kept.patient)
            return row is not None and row.receipt == kept.receipt

    def waiting(self) -> dict[str, str]:
        """Pseudonyms and identifiers of those whose withdrawal is no revocation yet, as the map did not name them."""
        with transaction(self.engine) as session:
            rows = session.execute(
                select(PatientRow.patient, PatientRow.sealed)
                .join(DecisionRow, DecisionRow.patient == PatientRow.patient)
                .where(DecisionRow.receipt.is_not(None), DecisionRow.recorded.is_(None))
            )
            return {patient: self.pseudonyms.unseal(patient, sealed_key) for patient, sealed_key in rows}

    def unknown(self) -> frozenset[str]:
        """Pseudonyms of those whose consents the rule could not judge."""
        with transaction(self.engine) as session:
            return frozenset(session.scalars(select(DecisionRow.patient).where(DecisionRow.answer == "unknown")))

    def unclear(self) -> dict[str, str]:
        """Pseudonyms and identifiers of those whose consents are about the use asked for and could not be judged."""
        with transaction(self.engine) as session:
            rows = session.execute(
                select(PatientRow.patient, PatientRow.sealed)
                .join(DecisionRow, DecisionRow.patient == PatientRow.patient)
                .where(DecisionRow.answer == "unknown", DecisionRow.reason != SILENT.reason)
            )
            return {patient: self.pseudonyms.unseal(patient, sealed_key) for patient, sealed_key in rows}

    def source(self, session: Session, receipt: str) -> Source:
        """The version that a receipt was given for, as the ledger names it."""
        row = session.scalar(select(ConsentRow).where(ConsentRow.receipt == receipt).limit(1))
        return Source("fhir", receipt) if row is None else Source("fhir", row.resource, row.version, row.digest)

    def identifier(self, session: Session, patient: str) -> str | None:
        """The identifier behind a pseudonym; None where the consent named nobody."""
        row = session.get(PatientRow, patient)
        return None if row is None else self.pseudonyms.unseal(patient, row.sealed)

    def versions(self, session: Session, patients: Collection[str]) -> tuple[KnownVersion, ...]:
        """All versions of these pseudonyms' consents."""
        rows = session.scalars(select(ConsentRow).where(ConsentRow.patient.in_(patients)))
        return tuple(
            KnownVersion(
                row.resource,
                row.version,
                row.updated,
                row.received,
                row.receipt,
                row.weighed is None,
                row.document,
                row.patient,
            )
            for row in rows
        )

    def mark_weighed(self, session: Session, patients: Collection[str], at: datetime) -> None:
        """All versions that these pseudonyms now have were taken into account."""
        session.execute(
            update(ConsentRow).where(ConsentRow.patient.in_(patients), ConsentRow.weighed.is_(None)).values(weighed=at)
        )

    def baseline(self) -> datetime | None:
        """From when on every withdrawal is to be seen; None where no FHIR server was read."""
        with transaction(self.engine) as session:
            return session.scalar(select(func.min(ServerRow.baseline)))

    def progress(self, base: str) -> Progress:
        """How far a server was read."""
        with transaction(self.engine) as session:
            row = session.get(ServerRow, base)
            return Progress(row.cursor, row.baseline, row.pulled, row.reconciled) if row else Progress()

    def set_progress(self, base: str, progress: Progress) -> None:
        """Remember how far a server was read."""
        with transaction(self.engine) as session:
            session.merge(
                ServerRow(
                    base=base,
                    cursor=progress.cursor,
                    baseline=progress.baseline,
                    pulled=progress.pulled,
                    reconciled=progress.reconciled,
                )
            )

    def relying(self) -> frozenset[str]:
        """Pseudonyms of those whose consents permit use, or say nothing: what may be used on the word of a date."""
        with transaction(self.engine) as session:
            is_silent = (DecisionRow.answer == "unknown") & (DecisionRow.reason == SILENT.reason)
            rows = session.scalars(select(DecisionRow.patient).where(or_(DecisionRow.answer == "permit", is_silent)))
            return frozenset(rows)

    def gone(self) -> list[StewardItem]:
        """Consents that the FHIR server lists no more, of patients whose use they may have permitted."""
        with transaction(self.engine) as session:
            denied_patients = frozenset(
                session.scalars(select(DecisionRow.patient).where(DecisionRow.answer == "deny"))
            )
            return [
                StewardItem(resource, "", REASON, since, self.identifier(session, patient))
                for resource, patient, since in gone_since(session)
                if patient not in denied_patients
            ]

    def steward_list(self) -> tuple[StewardItem, ...]:
        """Everything that only a person can decide, the oldest first, also of patients of no cohort."""
        with transaction(self.engine) as session:
            again = (DecisionRow.answer == "permit") & DecisionRow.receipt.is_not(None)
            is_unmapped = DecisionRow.receipt.is_not(None) & DecisionRow.recorded.is_(None)
            rows = session.scalars(
                select(DecisionRow)
                .where(or_(DecisionRow.answer == "unknown", again, is_unmapped))
                .order_by(DecisionRow.at, DecisionRow.resource)
            )

            return tuple(
                StewardItem(row.resource, row.version, why_unclear(row), row.at, self.identifier(session, row.patient))
                for row in rows
            )

    def tally(self) -> Tally:
        """Numbers."""
        with transaction(self.engine) as session:
            versions = session.scalar(select(func.count()).select_from(ConsentRow)) or 0
            rows = [*session.scalars(select(DecisionRow))]

        answers = Counter(row.answer for row in rows)

        return Tally(
            versions,
            len(rows),
            answers["permit"],
            answers["deny"],
            answers["unknown"],
            sum(row.recorded is not None for row in rows),
            sum(map(waits_for_steward, rows)),
        )

    def _keep(self, session: Session, incoming: IncomingConsent, at: datetime) -> Kept:
        key = (incoming.resource, incoming.version, incoming.digest)
        first, *others = incoming.patients or (None,)
        # A consent that names nobody lies under a name of its own.
        patient = self.pseudonyms.of(f"Consent/{incoming.resource}" if first is None else first)
        row = session.get(ConsentRow, key) or written_again(session, incoming, patient)
        is_new = row is None

        if row is None or row.patient == patient:
            add_other_keys(session, self.pseudonyms, patient, [key for key in others if key is not None])
        if row is None:
            if first is not None and session.get(PatientRow, patient) is None:
                session.add(PatientRow(patient=patient, sealed=self.pseudonyms.seal(first)))
            row = ConsentRow(
                resource=incoming.resource,
                version=incoming.version,
                digest=incoming.digest,
                patient=patient,
                status=incoming.status,
                updated=incoming.updated,
                received=at,
                # Made of the version: the same one, sent again, gets the same receipt.
                receipt=self.pseudonyms.receipt(*key),
                document=incoming.document,
                weighed=None,
                interaction=incoming.interaction,
            )
            session.add(row)
            session.flush()
        elif without_meta(row.document) != without_meta(incoming.document):
            # Kept by an earlier version, which read less of it.
            row.document = {**incoming.document, "meta": row.document.get("meta")}
            row.weighed = None

        return Kept(row.resource, row.version, row.patient, row.receipt, row.received, is_new)
