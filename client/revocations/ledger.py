"""The site's record of revocations: what came in, and every step since. Rows are added, never changed.

A patient is out of use before the answer is given: first the tombstone is on its disk, then the database commits. What
a database restored from an older backup lacks is put back from the tombstones when it is opened.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from client.consent.kinds import Kind
from client.database import PatientRow
from client.revocations.deadline import first_due
from client.revocations.known import KnownPatients, NamedPatient
from client.revocations.ledger_rows import add_events, add_revocations, chunks, history_of, of_patients, standing_of
from client.revocations.ledger_tables import LinkPeersRow, RevocationEventRow, RevocationRow
from client.revocations.look_alikes.alike import DOUBTFUL, alike_request
from client.revocations.revocation import (
    LIFTED,
    OPEN,
    TO_FORGET,
    Event,
    Receipt,
    Request,
    RevocationStatus,
    Source,
    State,
    Waiting,
    nobody_asked,
)
from client.revocations.tombstones.file import Tombstone, TombstoneFile, said_in, stop
from client.revocations.tombstones.pseudonyms import Pseudonyms
from client.revocations.tombstones.watch import TombstoneWatch
from client.revocations.transitions import check_transition, classified
from client.settings import SiteFolder
from common.disk import AGAIN
from common.errors import CohortError, DiskFullError, InputError, UnavailableError
from common.learning.data.identifiers.identifiers import IdentifierError
from common.learning.records import Subset
from common.platform.sql import reading, transaction

Clock = Callable[[], datetime]
SOFTWARE = "fedforget"
"""Who acts where no person does."""

_RECEIPT = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def now_utc() -> datetime:
    """The site's clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Writing:
    """A transaction of the ledger that is under way, and what of it goes to the tombstones."""

    session: Session
    stops: list[Tombstone] = field(default_factory=list)
    lifts: list[Tombstone] = field(default_factory=list)


class Ledger:
    """The ledger of one site, for as long as its database is open; threads may share it.

    `client.revocations.opening` opens it; `client.revocations.workflow` has the steps that follow a receipt.

    Args:
        folder: the site's.
        days_to_answer: where it is less than a month.
        two_person: whether a second person must approve before the model is made to forget.
        unlearn_opt_outs: whether the model is made to forget after an opt-out too; without it use stops, and no more.
        shared_accounts: names and numbers of accounts of the operating system that several people use.
        links: whether other hospitals are told.
    """

    def __init__(
        self,
        folder: SiteFolder,
        engine: Engine,
        pseudonyms: Pseudonyms,
        clock: Clock = now_utc,
        *,
        days_to_answer: float | None = None,
        two_person: bool = False,
        unlearn_opt_outs: bool = False,
        shared_accounts: Collection[str] = (),
        links: bool = False,
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.pseudonyms = pseudonyms
        self.clock = clock
        self.days_to_answer = days_to_answer
        self.two_person = two_person
        self.links = links
        self.unlearn_opt_outs, self.shared_accounts = unlearn_opt_outs, frozenset(shared_accounts)
        self.stones = TombstoneFile(folder.tombstones, pseudonyms.check)
        self._watch = TombstoneWatch(self.stones)
        self._known = KnownPatients(folder.root)
        self._waiting: tuple[int | None, Waiting] | None = None

    def stopped(self) -> frozenset[str]:
        """Pseudonyms of all who must not be used, as the tombstones stand now.

        Raises:
            CohortError: the tombstones are damaged or gone; nothing may be used then.
        """
        return self._watch.now()

    def is_stopped(self, patient: str) -> bool:
        """Whether a patient, by identifier, must not be used; raises as `stopped`."""
        return self.pseudonyms.of(self.spelled(patient)) in self.stopped()

    def knows(self, patient: str) -> bool:
        """Whether a patient, by identifier, is in one of the site's sets."""
        return self.spelled(patient) in self._known.now(nobody_yet=True)

    def spelled(self, patient: str) -> str:
        """An identifier as the site spells it, else in normal form; what cannot be one stays as it is."""
        try:
            return self.named(patient, exact=True).identifier
        except IdentifierError:
            return patient

    def named(self, patient: str, *, exact: bool = False) -> NamedPatient:
        """Whom an identifier names: a patient here, one who only looks so, or a stranger; raises as `record`."""
        return self._known.named(patient, exact=exact)

    def is_near(self, text: str) -> bool:
        """Whether a text is, or looks like, an identifier of the site: no heading of a list may be one."""
        try:
            named = self.named(text)
        except IdentifierError:
            return False

        return named.known or named.is_doubtful

    def record(self, request: Request, patients: Collection[str], *, also_unknown: bool = False) -> Receipt:
        """Record a revocation: from now on no train or retain batch holds these patients, whichever process makes it.

        Who has revoked before keeps the first dates, and a request that adds nobody, as when it comes again, gets the
        first receipt. With `also_unknown` those whom the site does not know are recorded too, so that no later import
        lets them in. An identifier that only looks like a patient's is on hold, and so is that patient, until a person
        says who is meant.

        Raises:
            CohortError: some patients are not known here, or a file of the site is damaged; nothing is recorded.
            InputError: the receipt, or an identifier, cannot be one.
            OutputError: the disk does not take it, and nothing is recorded.
            UnavailableError: the database was written to from elsewhere at the same moment.
        """
        with self.writing() as writing:
            return self.add(writing, request, patients, also_unknown=also_unknown)

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """A transaction in which nobody else writes to the ledger, or to the site's consents and cohort.

        At its end tombstones are on the disk first, then the database commits; refusals the other way round.

        Raises:
            DiskFullError: says what was recorded of it, and what was not.
            OutputError: the disk does not take the tombstones; nothing is recorded.
            UnavailableError: the database was written to from elsewhere at the same moment.
        """
        with self.stones.locked():
            writing = None
            stopped = False

            try:
                with transaction(self.engine) as session:
                    writing = Writing(session)
                    yield writing
                    session.flush()
                    self.stones.append(writing.stops)
                    stopped = bool(writing.stops)
            except IntegrityError:
                raise UnavailableError("the ledger was written to at the same moment: try again") from None
            except DiskFullError as err:
                raise _half_recorded(err, writing.stops if writing else (), stopped=stopped) from None

            try:
                self.stones.append(writing.lifts)
            except DiskFullError as err:
                problem = f"{err.problem}; the decision is recorded, and use stays stopped"
                remedy = "free space there: the next command of this site goes on with it"
                raise DiskFullError(problem, where=err.where, remedy=remedy) from None

    def add(
        self,
        writing: Writing,
        request: Request,
        patients: Collection[str],
        *,
        also_unknown: bool = False,
        exact: bool = False,
    ) -> Receipt:
        """`record`, as a part of a transaction; with `exact` the identifiers are the site's own, and not in doubt."""
        self.stopped()  # damaged tombstones are said to be, not written on
        if not _RECEIPT.fullmatch(request.receipt):
            raise InputError("not a receipt", remedy="letters, digits and . _ - only, at most 64")
        known = self._known.now(nobody_yet=also_unknown)
        found = {one.identifier: one for one in (self._known.named(p, exact=exact) for p in patients)}
        unknown = sum(not one.known and not one.is_doubtful for one in found.values())

        if unknown and not also_unknown:
            raise CohortError(
                f"{unknown} of {len(found)} patients of the list are not known here; nothing was recorded",
                where=str(self.folder.root),
                remedy="check the list",
            )

        names = {self.pseudonyms.of(patient): patient for patient in found}
        before: dict[str, list[RevocationStatus]] = defaultdict(list)
        for standing in of_patients(writing.session, names):
            before[standing.pseudonym].append(standing)
        new = {p: known.get(name) for p, name in names.items() if not any(_covers(s, request) for s in before[p])}
        in_doubt = {p for p, name in names.items() if found[name].is_doubtful and (p in new or _waits(before[p]))}
        here = sum(one.known for one in found.values())
        counts = here, len(found) - here - len(in_doubt), len(in_doubt)

        if names and not new:
            first = min((s for some in before.values() for s in some if _covers(s, request)), key=lambda s: s.number)
            others = self._others(writing)
            return Receipt(first.receipt, len(names), len(names), first.received, first.due, others, *counts)

        self.insert(writing, request, new, in_doubt)
        writing.stops += [stop(request, pseudonym) for pseudonym in new]
        self.seal(writing.session, names)
        for pseudonym in in_doubt & new.keys():
            self.hold_alike(writing, request, pseudonym, found[names[pseudonym]].alike)
        due = first_due(request.received, self.days_to_answer)
        others = self._others(writing)
        # An attempt that was cut short had stopped them before, under the same receipt.
        begun = [p for p in new if any(s.receipt == request.receipt for s in before[p])]
        earlier = len(names) - len(new) + len(begun)

        return Receipt(request.receipt, len(names), earlier, request.received, due, others, *counts)

    def hold_alike(self, writing: Writing, request: Request, pseudonym: str, patients: Collection[str]) -> None:
        """Stop use of patients whom an identifier may mean, by its pseudonym, that came with `request`."""
        known = self._known.now(nobody_yet=True)
        names = {self.pseudonyms.of(patient): patient for patient in patients}
        hold = alike_request(request, pseudonym)
        self.insert(writing, hold, {p: known.get(name) for p, name in names.items()})
        writing.stops += [stop(hold, pseudonym) for pseudonym in names]
        self.seal(writing.session, names)

    def insert(
        self,
        writing: Writing,
        request: Request,
        subsets: Mapping[str, Subset | None],
        in_doubt: Collection[str] = (),
    ) -> None:
        """Rows for pseudonyms and the sets that their patients are in, with the step that follows the receipt.

        Those `in_doubt` are on hold, as nobody can tell who is meant.
        """
        if not subsets:
            return
        now = self.clock()
        due = first_due(request.received, self.days_to_answer)
        events = []

        for number, pseudonym in add_revocations(writing.session, request, subsets, now):
            hold = request.hold or (DOUBTFUL if pseudonym in in_doubt else "")
            after = State.ON_HOLD if hold else self.classified(subsets[pseudonym], request.kind)
            remediation = check_transition(State.RECEIVED, after, hold)
            first = Event(number, 1, now, State.RECEIVED, request.steward or SOFTWARE, due, identity=request.identity)
            events.append(first)
            events.append(Event(number, 2, now, after, SOFTWARE, due, hold, remediation))

        add_events(writing.session, events)

    def classified(self, subset: Subset | None, kind: Kind) -> State:
        """What follows the receipt of a revocation of this kind, by the site's policy."""
        return classified(subset, two_person=self.two_person, unlearn=kind != "opt-out" or self.unlearn_opt_outs)

    def begun_before(self, writing: Writing, request: Request, patients: Collection[str]) -> Request:
        """A request of the command line, under the receipt and the date of its earlier attempt if there was one.

        The disk was full, or the process was killed, before the database had it, so that the tombstones alone tell.
        """
        names = {self.pseudonyms.of(patient) for patient in patients}
        only_restored = {
            (s.pseudonym, s.receipt) for s in of_patients(writing.session, names) if s.source.kind == "restored"
        }
        stones = (self.stones.read() or {}) if only_restored else {}

        for _, receipt in sorted(only_restored):
            of_receipt = {p: stone for (p, number), stone in stones.items() if number == receipt}
            said = [said_in(stone) for stone in of_receipt.values()]
            asked = (request.source.kind, request.kind, request.scope)
            same = said and all((s.get("source"), s.get("kind"), s.get("scope")) == asked for s in said)
            if same and of_receipt.keys() <= names and all((p, receipt) in only_restored for p in of_receipt):
                received = min(stone.received for stone in of_receipt.values())
                return replace(request, source=replace(request.source, id=receipt), receipt=receipt, received=received)

        return request

    def standing(self, receipt: str | None = None) -> tuple[RevocationStatus, ...]:
        """All revocations, or those of a receipt, as they stand; in the order in which they were recorded."""
        with reading(self.engine) as session:
            return tuple(standing_of(session, *([] if receipt is None else [RevocationRow.receipt == receipt])))

    def of_patient(self, patient: str) -> tuple[RevocationStatus, ...]:
        """Those of one patient, by identifier."""
        with reading(self.engine) as session:
            return tuple(of_patients(session, [self.pseudonyms.of(patient)]))

    def history(self, receipt: str) -> tuple[Event, ...]:
        """Every step of a receipt's revocations, in order."""
        with reading(self.engine) as session:
            return tuple(history_of(session, receipt))

    def waiting(self) -> Waiting:
        """How many patients the model has still to forget, and when the first answer is due.

        Those who await an approval are not in the number, as no campaign may take them up; their due dates count.
        Of a consent that nobody can judge no answer is due, as nobody has asked.

        Raises:
            CohortError: the tombstones are damaged or gone.
        """
        self.stopped()

        with reading(self.engine) as session:
            # Asked every second; steps are numbered in the order in which they are committed.
            last = session.scalar(select(func.max(RevocationEventRow.id)))
            if self._waiting is not None and self._waiting[0] == last:
                return self._waiting[1]
            found = standing_of(session, RevocationEventRow.state.in_([str(state) for state in OPEN]))

        ready = {s.pseudonym for s in found if s.state in TO_FORGET}
        asked = (s.due for s in found if not (s.state is State.ON_HOLD and nobody_asked(s.receipt)))
        self._waiting = last, Waiting(len(ready), min(asked, default=None))

        return self._waiting[1]

    def identifiers(self) -> dict[str, str]:
        """Identifiers by pseudonym, of all who revoked as far as they are known: for use within the site alone."""
        with reading(self.engine) as session:
            of_revoked = PatientRow.patient.in_(select(RevocationRow.pseudonym))
            rows = session.execute(select(PatientRow.patient, PatientRow.sealed).where(of_revoked)).all()

        known = {self.pseudonyms.of(patient): patient for patient in self._known.now(nobody_yet=True)}
        return {**known, **{pseudonym: self.pseudonyms.unseal(pseudonym, sealed) for pseudonym, sealed in rows}}

    def known_patients(self) -> frozenset[str]:
        """Identifiers of all whom the site knows; raises as `known.known_patients`."""
        return frozenset(self._known.now(nobody_yet=True))

    def subsets(self) -> dict[str, Subset]:
        """The sets of all whom the site knows, by pseudonym."""
        return {self.pseudonyms.of(patient): s for patient, s in self._known.now(nobody_yet=True).items()}

    def _others(self, writing: Writing) -> int | None:
        """How many other hospitals are told, as far as the coordinator has said; None: none can be."""
        if not self.links:
            return None
        row = writing.session.get(LinkPeersRow, 1)
        return 0 if row is None else row.others

    def seal(self, session: Session, names: Mapping[str, str]) -> None:
        """Keep the identifiers behind pseudonyms, each encrypted."""
        there = set[str]()
        for some in chunks(names):
            there |= set(session.scalars(select(PatientRow.patient).where(PatientRow.patient.in_(some))))
        sealed = [{"patient": p, "sealed": self.pseudonyms.seal(name)} for p, name in names.items() if p not in there]
        if sealed:
            session.execute(insert(PatientRow), sealed)


def _covers(standing: RevocationStatus, request: Request) -> bool:
    """Whether a request adds nothing to a revocation that stands."""
    if _same(standing.source, request.source):
        return True
    if standing.state in LIFTED or (standing.state is State.ON_HOLD and not request.hold):
        return False
    # An opt-out may be taken back, and may leave the model as it is: what asks for more stands beside it.
    if standing.kind == "opt-out" and request.kind != "opt-out":
        return False
    # What was restored from a tombstone knows less than the request itself, when it comes again.
    return standing.source.kind != "restored" and standing.scope in ("all", request.scope)


def _waits(found: Collection[RevocationStatus]) -> bool:
    """Whether a person has still to say whom an identifier means."""
    return any(s.state is State.ON_HOLD and s.reason == DOUBTFUL for s in found)


def _half_recorded(err: DiskFullError, stops: Sequence[Tombstone], *, stopped: bool) -> DiskFullError:
    """What a disk that was full at this moment has left of a transaction: the tombstones come before the database."""
    patients = len({stone.pseudonym for stone in stops})
    if not stops:
        return err
    if not stopped:
        problem = f"{err.problem}; nothing was recorded, and use of {patients} patient(s) goes on"
        return DiskFullError(problem, where=err.where, remedy=AGAIN)

    receipts = ", ".join(sorted({stone.receipt for stone in stops}))
    problem = (
        f"{err.problem}; use of {patients} patient(s) has stopped, as their tombstones are written, but the database "
        f"lacks the revocation and the vault its form: receipt {receipts}"
    )
    remedy = "free space there, then do the same again: it gets the same receipt"

    return DiskFullError(problem, where=err.where, remedy=remedy)


def _same(one: Source, other: Source) -> bool:
    return (one.kind, one.id, one.version) == (other.kind, other.id, other.version)
