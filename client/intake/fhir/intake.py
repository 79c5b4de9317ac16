"""Where every FHIR way in ends: the version is kept, the rule is asked, and a withdrawal becomes a revocation.

Kept before weighed; recorded and marked as weighed in one transaction: a process that is killed does it again, and
nothing is counted twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from client.consent.documents import REVOKED, Coding, UnreadableConsentError, read_consent
from client.consent.kinds import NOT_STATED
from client.consent.provisions import Question
from client.consent.rule import SILENT, Answer, Deny, Permit, Unknown
from client.consent.statement import state
from client.consent.verdicts import Silent, Verdict
from client.intake.fhir.addressing import Addressing, dated
from client.intake.fhir.doubts import Counts, counts_of, hold_alike
from client.intake.fhir.kinds import kind_of
from client.intake.fhir.patients import PatientMap
from client.intake.fhir.pull.set_aside import set_aside, stripped
from client.intake.fhir.resources import (
    IncomingConsent,
    Interaction,
    Resource,
    RevokeRequest,
    UnusableResourceError,
    read_incoming,
)
from client.intake.fhir.store.consents import AnswerName, ConsentStore, Kept, StewardItem
from client.intake.fhir.store.keys import move_to_known
from client.intake.fhir.store.silence import in_words, set_silent
from client.intake.fhir.store.tables import DecisionRow
from client.intake.fhir.weighing import KnownVersion, Weighed, silent_of, weigh
from client.revocations.known import known_patients
from client.revocations.ledger import Ledger, Writing
from client.revocations.ledger_rows import standing_of
from client.revocations.ledger_tables import RevocationRow
from client.revocations.revocation import LIFTED, Request, State, consent_of, doubt_about, is_doubt
from client.revocations.workflow import end_holds
from common.errors import InputError

_REVOKED = "revoked"
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_SITE_FILE = "site.json"
_AT_ONCE = 200
"""Patients in one transaction."""
_LONGEST_REASON = 200
_UNWEIGHED = "a consent cannot be handled: look at it in the hospital's own system"
_DISAGREE = "the reference and the identifier of the patient are two patients of the cohort"

_log = logging.getLogger("fedforget.fhir")


_HELD = "it is kept, and where the patient takes part here use of their data is on hold until a person has read it"


class OtherPatientError(InputError):
    """A revocation names another patient than the consent."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes Consents at one site.

    Attributes:
        ledger: of the site; its database holds the versions as well.
        store: of the versions.
        patients: the map as it stands now.
        policy: what the data are used for, as the rule asks it.
        purpose: the purpose claimed.
        base: of the hospital's FHIR server, empty if none is known.
    """

    ledger: Ledger
    store: ConsentStore
    patients: Callable[[], PatientMap]
    policy: Coding
    purpose: Coding | None
    clock: Callable[[], datetime]
    base: str = ""
    _asked_of: list[PatientMap] = field(default_factory=list, init=False, repr=False)
    """The map in which those who wait were looked up last."""

    def take(self, resource: Resource, interaction: Interaction = "") -> Kept:
        """Keep one version and act on it; it is on the disk when this returns.

        Raises:
            UnusableResourceError: it cannot be read, or names no patient or two. Whoever can be meant is on hold.
            InputError: the patient map, or a file of the site.
        """
        try:
            incoming = read_incoming(resource, self.base)
            self._check_readable(resource, incoming)
        except UnusableResourceError as err:
            raise self.set_aside(resource, err) from None

        (kept,) = self.keep([dataclasses.replace(incoming, interaction=interaction)])
        self._act_on([kept])

        return kept

    def set_aside(
        self, resource: Resource, problem: UnusableResourceError, *, is_clear: bool = True
    ) -> UnusableResourceError:
        """Keep what a sender gets a refusal for, as a pull keeps it; returns the refusal, which says so.

        A refusal alone could be lost in the log of the sender, and with it a withdrawal.

        Args:
            is_clear: whether every reader reads the same in it, so that the rule may.
        """
        if resource.get("resourceType") != "Consent":
            return problem
        version = self._readable(resource) if is_clear else None
        version = version or set_aside(resource, self.base)
        if not version.patients:
            return problem

        kept = self.keep_each([version])
        self._act_on(kept)
        is_silent = isinstance(self._verdict(version.document), Silent)

        return problem if is_silent else UnusableResourceError(f"{problem.problem}; {_HELD}")

    def _readable(self, resource: Resource) -> IncomingConsent | None:
        try:
            return read_incoming(resource, self.base)
        except UnusableResourceError:
            return None

    def counts(self, kept: Kept) -> Counts | None:
        """Who is meant by a version that withdrew, in numbers; None of any other, which tells the sender nothing."""
        return counts_of(self.ledger, kept.receipt) if self.store.has_withdrawn(kept) else None

    def _check_readable(self, resource: Resource, incoming: IncomingConsent) -> None:
        try:
            read_consent(resource)
        except UnreadableConsentError as err:
            if not isinstance(self._verdict(resource), Silent):
                raise UnusableResourceError(f"a Consent that cannot be read: {err.problem}") from None

        if not incoming.patients:
            raise UnusableResourceError("a Consent without a reference to a patient of this server, or an identifier")
        if len(self._addressing().named(incoming.patients)) > 1:
            raise UnusableResourceError(_DISAGREE)

    def notice(self, resources: Sequence[Resource]) -> tuple[Kept, ...]:
        """Keep what a hook carried and act on it; what has no id is left to the pull, what cannot be read to a steward.

        Raises:
            InputError: the patient map, or a file of the site.
        """
        found = []
        for resource in resources:
            with contextlib.suppress(UnusableResourceError):
                found.append(read_incoming(resource, self.base))

        kept = self.keep_each(found)
        self._act_on(kept)

        return kept

    def keep(self, incoming: Sequence[IncomingConsent]) -> tuple[Kept, ...]:
        """Keep versions, all or none, without acting on them yet."""
        now = self.clock()
        addressing = self._addressing()

        return self.store.keep(
            [each for version in incoming for each in addressing.addressed(dated(version, now))], now
        )

    def keep_each(self, incoming: Sequence[IncomingConsent]) -> tuple[Kept, ...]:
        """Keep versions, each by itself if they cannot be kept together; of what cannot be kept, its stand-in."""
        now = self.clock()

        try:
            return self.keep(incoming)
        except Exception as error:  # noqa: BLE001 - whatever one version provokes must not cost the others
            _log.error("consents cannot be kept together (%s): one by one", type(error).__name__)

        kept: list[Kept] = []
        for version in incoming:
            try:
                kept += self.keep([version])
            except Exception:  # noqa: BLE001 - as above; a database that takes nothing refuses the stand-in too
                kept += self.store.keep(self._addressing().addressed(dated(stripped(version), now)), now)

        return tuple(kept)

    def revoke(self, request: RevokeRequest) -> Kept:
        """Take a version of the consent that is revoked, made of the newest one that is known; once, however often.

        Use stops whatever the consent is about: where it is about another matter, until a person says what is meant.

        Raises:
            OtherPatientError: the consent is another patient's; nothing is kept.
            UnusableResourceError: the patient is named as two, who are both on hold.
            InputError: see `take`.
        """
        known = self.store.newest(request.consent)
        now = self.clock()
        number = ""
        document: dict[str, Any] = {
            "resourceType": "Consent",
            "id": request.consent,
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
            "patient": None,
        }

        if known is not None:
            if not self._addressing().is_of(known.kept.patient, request.patients):
                raise OtherPatientError("the consent is not this patient's")
            if REVOKED in known.document:
                self._act_on([known.kept])
                return known.kept

            document = known.document
            number = f"{known.kept.version}." if known.kept.version else ""
            # Later than what it replaces, also where the FHIR server's clock is ahead of this one.
            now = max(now, min(known.last_update, _LATEST) + timedelta(seconds=1))

        changed = {
            **document,
            "meta": {"versionId": f"{number}{_REVOKED}", "lastUpdated": now.isoformat(timespec="milliseconds")},
            "status": "inactive",
            REVOKED: True,
        }
        incoming = dataclasses.replace(read_incoming(changed), patients=request.patients)
        made = self.keep([incoming])
        self._act_on(made)
        if len(made) > 1:
            raise UnusableResourceError(f"{_DISAGREE}; {_HELD}")

        return made[0]

    def _addressing(self) -> Addressing:
        def looks_alike(key: str) -> bool:
            return self.ledger.is_near(key) and not self.ledger.knows(key)

        return Addressing(self.patients(), self.ledger.knows, looks_alike, self.store.pseudonyms)

    def _verdict(self, resource: Resource) -> Verdict:
        return state(resource, Question(self.policy, self.purpose, self.clock())).verdict

    def _act_on(self, kept: Sequence[Kept]) -> None:
        """Settle these patients alone: a sender does not wait for a pull that has kept a million others."""
        patients = self.patients()
        since = self.store.baseline()
        self._settle({version.patient for version in kept}, patients, since)

    def settle(self) -> int:
        """Weigh all that was not weighed, and record what waits; returns how many withdrawals became revocations.

        Raises:
            InputError: the patient map, or a file of the site.
        """
        patients = self.patients()
        since = self.store.baseline()
        self._move_to_known(patients)
        found = {*self.store.unweighed()}

        if self._asked_of == [patients]:
            named = set[str]()
        else:
            # Many of a hospital's patients may be in no cohort: they are looked up again only in another map.
            waiting = self.store.waiting().items()
            named = {p for p, key in waiting if patients.cohort_id(key) is not None or patients.alike(key)}

        everybody = sorted(found | named | self._in_doubt(patients))
        revoked = sum(
            self._settle(everybody[start : start + _AT_ONCE], patients, since)
            for start in range(0, len(everybody), _AT_ONCE)
        )
        self._asked_of[:] = [patients]

        return revoked

    def _move_to_known(self, patients: PatientMap) -> None:
        keys = self.ledger.known_patients() if patients.by_key is None else patients.by_key
        pseudonyms = {self.store.pseudonyms.of(key) for key in keys} if self.store.has_other_keys() else set()
        if pseudonyms:
            with self.ledger.writing() as writing:
                move_to_known(writing.session, pseudonyms)

    def _in_doubt(self, patients: PatientMap) -> set[str]:
        """Whose consents nobody could judge and who is in the cohort by now; who is held already is not held twice."""
        unknown = self.store.unknown()
        folder = self.ledger.folder.root
        if not unknown or not (folder / _SITE_FILE).exists():
            return set()
        keys = {key for patient in known_patients(folder) for key in patients.keys(patient)}

        return {pseudonym for key in keys if (pseudonym := self.store.pseudonyms.of(key)) in unknown}

    def weigh_again(self) -> int:
        """Ask again about patients whose consents permitted use, or were silent: a period may have begun or ended.

        Returns how many denials became revocations; they count as received now.

        Raises:
            InputError: the patient map, or a file of the site.
        """
        patients = self.patients()
        relying = self.store.relying()
        cohort = self.ledger.known_patients() if relying else frozenset()
        keys = {key for cohort_id in cohort for key in patients.keys(cohort_id)}
        everybody = sorted({self.store.pseudonyms.of(key) for key in keys} & relying)
        since = self.store.baseline()

        return sum(
            self._settle(everybody[start : start + _AT_ONCE], patients, since, by_time=True)
            for start in range(0, len(everybody), _AT_ONCE)
        )

    def steward_list(self) -> tuple[StewardItem, ...]:
        """What a person must look at: of all that the rule left open, what concerns patients of the site.

        Raises:
            InputError: the patient map, or a file of the site.
        """
        patients = self.patients()
        folder = self.ledger.folder.root
        known = known_patients(folder) if (folder / _SITE_FILE).exists() else {}
        decided = {
            (consent_of(s.source), s.source.version)
            for s in self.ledger.standing()
            if is_doubt(s.receipt) and s.state is not State.ON_HOLD
        }

        items = [item for item in self.store.steward_list() if (item.consent, item.version) not in decided]
        items += self.store.gone()

        return tuple(item for item in items if item.patient is None or patients.cohort_id(item.patient) in known)

    def _settle(
        self, pseudonyms: Collection[str], patients: PatientMap, since: datetime | None, *, by_time: bool = False
    ) -> int:
        """Weigh what some patients have, in one transaction; returns how many withdrawals became revocations.

        Where that fails each is weighed alone, and who cannot be weighed is on hold. With `by_time` no version is new.
        """
        silent: Counter[str] = Counter()

        try:
            with self.ledger.writing() as writing:
                revoked = sum(
                    self._settle_one(writing, patient, patients, since, silent, by_time=by_time)
                    for patient in pseudonyms
                )
        except Exception as error:  # noqa: BLE001 - whatever one consent provokes must not cost the others
            _log.error("consents cannot be weighed together (%s): one patient after another", type(error).__name__)
            silent.clear()
            revoked = self._settle_each(pseudonyms, patients, since, silent, by_time=by_time)

        if silent:
            _log.info("consents that say nothing of this use: %s", in_words(silent))
        return revoked

    def _settle_each(
        self,
        pseudonyms: Collection[str],
        patients: PatientMap,
        since: datetime | None,
        silent: Counter[str],
        *,
        by_time: bool,
    ) -> int:
        revoked = 0
        for patient in pseudonyms:
            try:
                with self.ledger.writing() as writing:
                    revoked += self._settle_one(writing, patient, patients, since, silent, by_time=by_time)
            except Exception as error:  # noqa: BLE001 - as above; where the site itself fails, so does the hold
                _log.error("the consents of a patient cannot be weighed (%s): they are on hold", type(error).__name__)
                with self.ledger.writing() as writing:
                    self._hold_unweighed(writing, patient, patients)

        return revoked

    def _hold_unweighed(self, writing: Writing, patient: str, patients: PatientMap) -> None:
        now = self.clock()
        session = writing.session
        answer = Unknown(_UNWEIGHED)
        versions = self.store.versions(session, {patient})
        _brought_up_to_date(session, patient, versions, Weighed(answer, None), now)
        self.store.mark_weighed(session, [patient], now)
        key = self.store.identifier(session, patient)
        cohort_id = patients.cohort_id(key) if key is not None else None
        if cohort_id is not None:
            self._hold_in_doubt(writing, cohort_id, answer, max(versions, key=lambda version: version.moment))

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
        everybody = {patient}
        if cohort_id is not None:
            everybody |= {self.store.pseudonyms.of(other) for other in patients.keys(cohort_id)}
        versions = self.store.versions(session, everybody)
        found = weigh(versions, self.policy, self.purpose, since=since, at=now)
        row = session.get(DecisionRow, patient)
        unheard = row is None or row.receipt is None
        if (by_time or unheard) and found.withdrawal is None and isinstance(found.answer, Deny):
            # A denial in a version that was weighed before: its period has begun, or it was on hold until now.
            last = max(versions, key=lambda version: version.moment)
            found = Weighed(found.answer, dataclasses.replace(last, updated=now, received=now))
        own = versions if everybody == {patient} else self.store.versions(session, [patient])
        silent.update(set_silent(session, patient, silent_of(own, self.policy, self.purpose, at=now)))
        decision = _brought_up_to_date(session, patient, versions, found, now)
        if cohort_id is not None:
            self._hear_again(writing, decision, found.withdrawal)
        # Where the consent names nobody, or nobody whom the map knows, there is nobody to exclude yet.
        is_due = decision.receipt is not None and decision.recorded is None
        recording = is_due and cohort_id is not None
        if is_due:
            receipt = str(decision.receipt)
            source = self.store.source(session, receipt)
            kind = kind_of(next((v.document for v in versions if v.receipt == receipt), {}))
            request = Request(source, receipt, decision.received or now, kind=kind)
            if cohort_id is not None:
                self.ledger.add(writing, request, [cohort_id], also_unknown=True)
                decision.recorded = now
            elif key is not None:
                # Not recorded: the map may still name the patient themselves.
                hold_alike(self.ledger, writing, request, key, patients.alike(key))

        self.store.mark_weighed(session, [patient], now)
        if cohort_id is not None:
            last = max(versions, key=lambda version: version.moment)
            self._hold_in_doubt(writing, cohort_id, found.answer, last)

        return recording

    def _hear_again(self, writing: Writing, decision: DecisionRow, withdrawal: KnownVersion | None) -> None:
        """Who was readmitted, or whose withdrawal was refused, may withdraw again, by another version."""
        if withdrawal is None or decision.recorded is None or withdrawal.receipt == decision.receipt:
            return
        before = standing_of(writing.session, RevocationRow.receipt == decision.receipt)
        if before and all(standing.state in LIFTED for standing in before):
            decision.receipt = withdrawal.receipt
            decision.received = withdrawal.known_since
            decision.recorded = None

    def _hold_in_doubt(self, writing: Writing, cohort_id: str, answer: Answer, last: KnownVersion) -> None:
        """Stop use while nobody can tell whether it is permitted, until the steward or clearer consents say so."""
        if not isinstance(answer, Unknown):
            reason = "the consents permit use" if isinstance(answer, Permit) else "a withdrawal came in its place"
            end_holds(self.ledger, writing, self.store.pseudonyms.of(self.ledger.spelled(cohort_id)), reason)
        elif answer != SILENT and self.ledger.knows(cohort_id):
            number = self.store.pseudonyms.receipt("doubt", last.resource, last.number)
            source, receipt = doubt_about(last.resource, last.number, number)
            hold = answer.reason[:_LONGEST_REASON]
            request = Request(source, receipt, last.received, legal_basis=NOT_STATED, hold=hold)
            self.ledger.add(writing, request, [cohort_id])


def _brought_up_to_date(
    session: Session, patient: str, versions: Sequence[KnownVersion], found: Weighed, now: datetime
) -> DecisionRow:
    """The decision's row; the first withdrawal that was seen stays in it."""
    answer: AnswerName = "permit" if isinstance(found.answer, Permit) else "unknown"
    if isinstance(found.answer, Deny):
        answer = "deny"
    reason = "" if isinstance(found.answer, Permit) else found.answer.reason[:_LONGEST_REASON]
    last = max(versions, key=lambda version: version.moment)
    row = session.get(DecisionRow, patient)
    if row is None:
        row = DecisionRow(patient=patient, answer="", receipt=None, received=None, recorded=None)
        session.add(row)

    if (row.answer, row.reason, row.resource, row.version) != (answer, reason, last.resource, last.number):
        row.answer = answer
        row.reason = reason
        row.at = now
        row.resource = last.resource
        row.version = last.number

    if found.withdrawal is not None and row.receipt is None:
        row.receipt = found.withdrawal.receipt
        row.received = found.withdrawal.known_since

    return row
