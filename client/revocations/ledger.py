"""The site's record of revocations: each request, and every step since. Rows are added, never changed.

Use of a patient stops before the answer is given: the tombstone is written first, then the database commits. Opening a
database that was restored from an older backup adds what it lacks from the tombstones.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from client.consent.kinds import Kind
from client.database import PatientRow
from client.revocations.deadline import first_due
from client.revocations.ledger_queries import Clock, LedgerQueries, now_utc
from client.revocations.look_alikes.alike import DOUBTFUL, alike_request
from client.revocations.revocation import Event, Receipt, Request, RevocationStatus, State
from client.revocations.rows.covered import keep_covered
from client.revocations.rows.ledger_rows import add_events, add_revocations, chunks, of_patients, step_columns, table_of
from client.revocations.rows.ledger_rules import awaits_person, covers, half_recorded
from client.revocations.rows.ledger_tables import LinkPeersRow
from client.revocations.rows.many_rows import MANY, Listed, add_many
from client.revocations.tombstones.pseudonyms import Pseudonyms
from client.revocations.tombstones.tombstone import Tombstone, stop, stops
from client.revocations.workflow.transitions import check_transition, classified
from client.settings import SiteFolder
from common.errors import CohortError, DiskFullError, InputError, UnavailableError
from common.learning.records import Subset
from common.platform.sql import transaction

SOFTWARE = "fedforget"
"""The actor of steps that no person takes."""

# The form that a line of the tombstones allows.
RECEIPT_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(slots=True)
class Writing:
    """A transaction of the ledger in progress, and the lines that it adds to the tombstones."""

    session: Session
    stops: list[Tombstone] = field(default_factory=list)
    lifts: list[Tombstone] = field(default_factory=list)


class Ledger(LedgerQueries):
    """The ledger of one site, while its database is open; threads may share it.

    `client.revocations.opening` opens it; `client.revocations.workflow.decisions` has the steps after receipt.

    Args:
        folder: the site's.
        days_to_answer: if less than a month.
        two_person: whether a second person must approve before the model is made to forget.
        unlearn_opt_outs: whether the model is also made to forget after an opt-out; otherwise only use stops.
        shared_accounts: names and numbers of operating-system accounts that several people use.
        links: whether other hospitals are informed.
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
        super().__init__(folder, engine, pseudonyms, clock)
        self.days_to_answer = days_to_answer
        self.two_person = two_person
        self.unlearn_opt_outs = unlearn_opt_outs
        self.shared_accounts = frozenset(shared_accounts)
        self.links = links

    def record(self, request: Request, patients: Collection[str], *, also_unknown: bool = False) -> Receipt:
        """Record a revocation: from now on no train or retain batch of any process contains these patients.

        Patients who have revoked before keep their first dates. A request that adds nobody, e.g. a repeated one, gets
        the first receipt; from another source it is noted, and counts if the first revocation is lifted. With
        `also_unknown`, patients whom the site does not know are recorded too, so that later imports exclude them. An
        identifier that resembles a patient's puts itself and that patient on hold until a person says who is meant.

        Raises:
            CohortError: some patients are not known here, or a file of the site is damaged; nothing is recorded.
            InputError: the receipt or an identifier is malformed.
            OutputError: the disk cannot be written; nothing is recorded.
            UnavailableError: another process wrote to the database at the same moment.
        """
        with self.writing() as writing:
            return self.add(writing, request, patients, also_unknown=also_unknown)

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """A transaction in which nobody else writes to the ledger, or to the site's consents and cohort.

        At its end the tombstones are written first, then the database commits; for refusals, the other way round.

        Raises:
            DiskFullError: says what was recorded and what was not.
            OutputError: the tombstones cannot be written; nothing is recorded.
            UnavailableError: another process wrote to the database at the same moment.
        """
        # Held until after the commit, so that the numbers of steps grow in the order of commits.
        with self.stones.locked():
            writing = None
            has_stopped = False

            try:
                with transaction(self.engine) as session:
                    writing = Writing(session)
                    yield writing
                    # A row that the database refuses must show before a tombstone is written, which is never taken
                    # back.
                    session.flush()
                    # On the disk before the commit: after a crash in between use has stopped, and the next opening adds
                    # the rows.
                    self.stones.append(writing.stops)
                    has_stopped = bool(writing.stops)
            except IntegrityError:
                raise UnavailableError("another process wrote to the ledger at the same moment: try again") from None
            except DiskFullError as err:
                raise half_recorded(err, writing.stops if writing else (), stopped=has_stopped) from None

            # After the commit: after a crash in between use stays stopped, and the next opening lifts it.
            try:
                self.stones.append(writing.lifts)
            except DiskFullError as err:
                problem = f"{err.problem}; the decision is recorded, and use stays stopped"
                remedy = "free space there: the next command of this site completes it"
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
        """`record` within a transaction; with `exact` the identifiers are the site's own and cannot be in doubt."""
        self.stopped()  # report damaged tombstones; never append to them
        if not RECEIPT_FORM.fullmatch(request.receipt):
            raise InputError("invalid receipt", remedy="use at most 64 letters, digits and . _ -")
        subsets = self._known.now(nobody_yet=also_unknown)
        people = {one.identifier: one for one in self._known.named_all(patients, exact=exact)}
        # Doubtful ones are not unknown: a person may still say that a patient is meant.
        unknown = sum(not one.is_known and not one.is_doubtful for one in people.values())

        # All or nothing: of a list that is recorded in part, the sender could not tell whom it has reached.
        if unknown and not also_unknown:
            raise CohortError(
                f"{unknown} of {len(people)} patients on the list are not known here; nothing was recorded",
                where=str(self.folder.root),
                remedy="check the list",
            )

        # From here on by pseudonym: rows, tombstones and log hold no identifier in plain text.
        names = {self.pseudonyms.of(patient): patient for patient in people}
        before: dict[str, list[RevocationStatus]] = {}
        for standing in of_patients(writing.session, names):
            before.setdefault(standing.pseudonym, []).append(standing)
        # Those for whom the request says more than what stands already.
        new = {
            p: subsets.get(name)
            for p, name in names.items()
            if p not in before or not any(covers(s, request) for s in before[p])
        }
        writing.stops += keep_covered(writing.session, request, {p: s for p, s in before.items() if p not in new})
        # Also an identifier of an earlier request that still waits for a person.
        in_doubt = {
            p
            for p, name in names.items()
            if people[name].is_doubtful and (p in new or awaits_person(before.get(p, ())))
        }
        here = sum(one.is_known for one in people.values())
        counts = here, len(people) - here - len(in_doubt), len(in_doubt)

        if names and not new:
            first = min((s for some in before.values() for s in some if covers(s, request)), key=lambda s: s.number)
            others = self.others(writing)
            return Receipt(first.receipt, len(names), len(names), first.received, first.due, others, *counts)

        self.insert(writing, request, new, in_doubt)
        writing.stops += stops(request, new)
        self.seal(writing.session, names)
        for pseudonym in in_doubt & new.keys():
            self.hold_alike(writing, request, pseudonym, people[names[pseudonym]].alike)
        due = first_due(request.received, self.days_to_answer)
        others = self.others(writing)
        # An interrupted attempt had stopped these patients before, under the same receipt.
        resumed_patients = [p for p in before if p in new and any(s.receipt == request.receipt for s in before[p])]
        earlier = len(names) - len(new) + len(resumed_patients)

        return Receipt(request.receipt, len(names), earlier, request.received, due, others, *counts)

    def hold_alike(self, writing: Writing, request: Request, pseudonym: str, patients: Collection[str]) -> None:
        """Stop use of the patients whom the identifier behind `pseudonym`, received with `request`, may mean."""
        subsets = self._known.now(nobody_yet=True)
        names = {self.pseudonyms.of(patient): patient for patient in patients}
        hold = alike_request(request, pseudonym)
        self.insert(writing, hold, {p: subsets.get(name) for p, name in names.items()})
        writing.stops += [stop(hold, pseudonym) for pseudonym in names]
        self.seal(writing.session, names)

    def insert(
        self,
        writing: Writing,
        request: Request,
        subsets: Mapping[str, Subset | None],
        in_doubt: Collection[str] = (),
    ) -> None:
        """Add rows for pseudonyms and their patients' sets, with the step after receipt.

        Those `in_doubt` are put on hold, since it is unclear who is meant.
        """
        holds = dict.fromkeys(in_doubt, DOUBTFUL)
        if len(subsets) >= MANY:
            self._insert_many(writing, request, subsets, holds)
            return
        self.insert_rows(writing, [(request, p, subset, holds.get(p, "")) for p, subset in subsets.items()])

    def insert_rows(self, writing: Writing, rows: Sequence[tuple[Request, str, Subset | None, str]]) -> None:
        """Add rows of requests, pseudonyms, their patients' sets and reasons for a hold, with the step after receipt.

        A pseudonym stands in one row.
        """
        if not rows:
            return
        now = self.clock()
        numbers = add_revocations(writing.session, [(request, pseudonym) for request, pseudonym, _, _ in rows], now)
        events = []

        for request, pseudonym, subset, doubt in rows:
            number = numbers[pseudonym]
            due = first_due(request.received, self.days_to_answer)
            hold = request.hold or doubt
            after = State.ON_HOLD if hold else self.classified(subset, request.kind)
            remediation = check_transition(State.RECEIVED, after, hold)
            # Two steps at once: what arrived, and what the site's policy makes of it.
            first = Event(number, 1, now, State.RECEIVED, request.steward or SOFTWARE, due, identity=request.identity)
            events.append(first)
            events.append(Event(number, 2, now, after, SOFTWARE, due, hold, remediation))

        add_events(writing.session, events)

    def _insert_many(
        self, writing: Writing, request: Request, subsets: Mapping[str, Subset | None], holds: Mapping[str, str]
    ) -> None:
        now = self.clock()
        due = first_due(request.received, self.days_to_answer)
        after = {subset: self.classified(subset, request.kind) for subset in (None, *Subset)}
        new_revocations = []

        for pseudonym, subset in subsets.items():
            hold = request.hold or holds.get(pseudonym, "")
            state = State.ON_HOLD if hold else after[subset]
            new_revocations.append(Listed(pseudonym, state, hold, check_transition(State.RECEIVED, state, hold)))

        first = Event(0, 1, now, State.RECEIVED, request.steward or SOFTWARE, due, identity=request.identity)
        second = Event(0, 2, now, State.RECEIVED, SOFTWARE, due)
        add_many(writing.session, request, new_revocations, step_columns(first), step_columns(second))

    def classified(self, subset: Subset | None, kind: Kind) -> State:
        """The state after receipt of a revocation of this kind, by the site's policy."""
        # An opt-out stops use and leaves the model as it is, unless the site has decided otherwise.
        return classified(subset, two_person=self.two_person, unlearn=kind != "opt-out" or self.unlearn_opt_outs)

    def others(self, writing: Writing) -> int | None:
        """The number of other hospitals that are informed, as told by the coordinator; None: no linkage."""
        if not self.links:
            return None
        row = writing.session.get(LinkPeersRow, 1)
        return 0 if row is None else row.others

    def seal(self, session: Session, names: Mapping[str, str]) -> None:
        """Store the identifiers behind pseudonyms, encrypted."""
        for some in chunks(sorted(names)):
            present = set(session.scalars(select(PatientRow.patient).where(PatientRow.patient.in_(some))))
            rows = [{"patient": p, "sealed": self.pseudonyms.seal(names[p], p)} for p in some if p not in present]
            if rows:
                session.execute(insert(table_of(PatientRow)), rows)
